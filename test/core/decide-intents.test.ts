import { describe, expect, test } from "vitest";
import type { Intent, MayLand } from "../../src/core/model.ts";
import {
  BLIND_MIRROR,
  BOTH,
  LONG,
  MIRRORED,
  PROVEN,
  carriedOut,
  check,
  emergency,
  onBoth,
  open,
  settledOn,
} from "./scenes.ts";
import type { RulesPatch } from "./support.ts";
import {
  AUTHORITY,
  S,
  T,
  UNREADABLE,
  after,
  at,
  decided,
  delivery,
  idle,
  intent,
  key,
  overlapping,
  rotation,
  said,
  staged,
  verdict,
  version,
} from "./support.ts";

describe("3.1 intent before effect, and never replay", () => {
  const EFFECTS: readonly [Intent["effect"], string | null][] = [
    ["issue", null],
    ["stage", "vault"],
    ["promote", "vault"],
    ["put", "env"],
    ["enable", null],
    ["disable", null],
    ["delete", null],
    ["discard", "vault"],
  ];
  test.each(EFFECTS)("an open %s is closed as unknown, whatever else could be done", (effect, to) => {
    const left = intent(effect, "v2", to);
    for (const before of [
      overlapping(LONG),
      staged(),
      said(overlapping(LONG), { word: "rollback" }),
      emergency(overlapping(LONG)),
    ]) {
      const decision = decided({ state: { ...before, intent: left }, rules: MIRRORED, sees: PROVEN });
      expect(decision).toMatchObject({
        decision: "note",
        facts: [{ fact: "closed", intent: left, closing: { how: "unknown" } }],
      });
    }
  });

  test("disable v1 committed, crash, rollback: v1 is brought back, not killed once more", () => {
    const crashed = { ...overlapping(LONG), intent: intent("disable", "v1") };
    const back = said(crashed, { word: "rollback" });
    const sees = {
      keys: [key("v1", { state: "disabled" }), "v2"],
      serves: { vault: "v2" },
      staged: { v1: true },
    } as const;
    expect(settledOn({ state: back, sees })).toMatchObject({ verdict: "wait settling" });
    expect(settledOn({ state: back, sees, now: at(60 * S) }).state.intent).toBeNull();
    const later = after(back, [
      { fact: "closed", intent: intent("disable", "v1"), closing: { how: "unknown", settle: 5 * S } },
    ]);
    expect(settledOn({ state: later, sees, now: at(60 * S) }).verdict).toBe("act enable v1");
  });

  test("promote v2 committed, crash, emergency: the leaked v2 is not promoted, a new key is made", () => {
    const crashed = { ...staged(), intent: intent("promote", "v2", "vault") };
    const struck = emergency(crashed);
    const sees = { ...BOTH, serves: { vault: "v1" } };
    const rules: RulesPatch = { issuer: { maxKeys: 3 } };
    expect(settledOn({ state: struck, rules, sees }).verdict).toBe("wait settling");
    const { verdict: next, state: closed } = settledOn({ state: struck, rules, sees, now: at(60 * S) });
    expect(closed.versions.find(({ id }) => id === "v2")?.compromised).toBe(true);
    expect(next).not.toMatch(/promote|put|enable/);
  });
});

describe("3.2 what may still land", () => {
  const late = (effect: MayLand["effect"], of: string, to: string | null = null) => ({
    mayLand: [open(effect, of, to)],
  });
  check([
    [
      "no disable meanwhile",
      { state: overlapping(LONG, late("promote", "v1", "vault")), sees: PROVEN },
      "wait settling",
    ],
    [
      "no issue meanwhile",
      {
        state: idle({ rotation: rotation("v1", null), ...late("delete", "v0") }),
        sees: { keys: ["v1"], serves: { vault: "v1" } },
      },
      "wait settling",
    ],
    [
      "no done meanwhile",
      {
        state: idle({ rotation: rotation(null, "v1", { overlapFrom: T - LONG }), ...late("issue", "v0") }),
        sees: { keys: ["v1"], serves: { vault: "v1" } },
      },
      "wait settling",
    ],
    [
      "no discard of a leftover meanwhile",
      {
        state: idle({
          versions: [version("v0", "abandoned"), version("v1", "current")],
          ...late("stage", "v0", "vault"),
        }),
        sees: { keys: ["v0", "v1"], serves: { vault: "v1" } },
      },
      "wait settling",
    ],
    [
      "once its time has passed it is disabled",
      { state: overlapping(LONG, { mayLand: [open("promote", "v1", "vault", { until: T - 1 })] }), sees: PROVEN },
      "act disable v1",
    ],
  ]);

  const back = said(overlapping(LONG), { word: "rollback" });
  test.each(["disable", "delete"] as const)(
    "while a %s of v1 may land, v1 is neither enabled, verified, promoted nor put",
    (effect) => {
      for (const v1 of [version("v1", "retiring"), version("v1", "disabled")]) {
        const before = { ...back, versions: [v1, version("v2", "current")], ...late(effect, "v1") };
        const keys = [key("v1", { state: v1.status === "disabled" ? "disabled" : "enabled" }), "v2"];
        expect(
          verdict({
            state: before,
            rules: MIRRORED,
            sees: { keys, serves: { vault: "v2", env: "v2" }, accepts: { v1: "accepted" } },
          }),
        ).toBe("wait settling");
      }
    },
  );

  test("a promote left open is written over, afresh, before its version is revoked: authority, then mirrors", () => {
    const v1 = version("v1", "retiring", { leftOpen: ["vault", "env"] });
    const before = overlapping(LONG, { versions: [v1, version("v2", "current")], deliveries: onBoth("v2") });
    const scene = { state: before, rules: MIRRORED, sees: PROVEN };
    expect(verdict(scene)).toBe("act promote v2 in vault afresh");
    const written = carriedOut(before, intent("promote", "v2", "vault"), { ref: "r9" });
    expect(written.versions[0]?.leftOpen).toEqual(["env"]);
    expect(written.versions.find(({ id }) => id === "v2")?.status).toBe("current");
  });

  test("a rewrite that is itself left open starts it over", () => {
    const v1 = version("v1", "retiring", { leftOpen: ["vault"] });
    const before = overlapping(LONG, { versions: [v1, version("v2", "current")] });
    const again = intent("promote", "v2", "vault");
    const left = after(before, [
      { fact: "intended", intent: again, mint: null },
      { fact: "closed", intent: again, closing: { how: "unknown", settle: 5 * S } },
    ]);
    expect(left.versions[0]?.leftOpen).toEqual(["vault"]);
    expect(verdict({ state: left, sees: PROVEN })).not.toContain("disable");
  });

  test("a mirror that cannot be read is put again when its receipt was voided by a late answer", () => {
    const rolled = said(overlapping(LONG, { deliveries: onBoth("v2") }), { word: "rollback" });
    const landed = after(
      {
        ...rolled,
        deliveries: [delivery(AUTHORITY, "v1"), delivery(UNREADABLE, "v1")],
        versions: [version("v1", "current"), version("v2", "retiring")],
      },
      [{ fact: "closed", intent: intent("put", "v2", "env"), closing: { how: "done", ref: "old", confirmed: true } }],
    );
    expect(
      verdict({
        state: landed,
        rules: BLIND_MIRROR,
        sees: { ...BOTH, serves: { vault: "v1" }, accepts: { v1: "accepted" } },
      }),
    ).toBe("act put v1 in env");
  });
});

describe("3.5 the point of no return", () => {
  test("rollback before any store was asked: v2 is discarded and dies at once", () => {
    const back = said(staged(), { word: "rollback" });
    expect(back.versions[1]?.status).toBe("abandoned");
    expect(verdict({ state: back, sees: { ...BOTH, serves: { vault: "v1" } } })).toBe("act discard v2 in vault");
  });
  test("rollback after a promote was intended: v2 ends by promise 4 alone", () => {
    const asked = after(staged(), [{ fact: "intended", intent: intent("promote", "v2", "vault"), mint: null }]);
    const back = said(asked, { word: "rollback" });
    expect(back.versions[1]?.status).toBe("retiring");
    const { state: closed } = settledOn({ state: back, sees: { ...BOTH, serves: { vault: "v1" } }, now: at(60 * S) });
    expect(closed.versions[1]).toMatchObject({ status: "retiring", leftOpen: ["vault"] });
  });
  test("a value that vanished after that is drift, and nothing is put in its place", () => {
    const before = overlapping(LONG, { deliveries: onBoth("v2") });
    expect(
      verdict({ state: before, rules: MIRRORED, sees: { ...PROVEN, serves: { vault: "v2", env: "nothing" } } }),
    ).toBe("blocked drift");
  });
});
