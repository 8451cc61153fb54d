import { describe, expect, test } from "vitest";
import type { Version } from "../../src/core/model.ts";
import { BOTH, check, denied, mint, minting, open, settledOn, silent } from "./scenes.ts";
import type { RulesPatch, Scene } from "./support.ts";
import {
  AUTHORITY,
  H,
  MONITOR,
  S,
  T,
  after,
  decided,
  delivery,
  idle,
  key,
  rotation,
  said,
  staged,
  state,
  verdict,
  version,
} from "./support.ts";

describe("3.4 recovery around issue", () => {
  const UNLABELLED: RulesPatch = {
    issuer: { labels: false, timing: { listSettle: 10 * S, propagation: 0, settle: 5 * S, timeGranularity: S } },
  };
  const made = T - H + 2 * S;
  const stray = (name: string, createdAt = made) => ({ keyId: name, createdAt, state: "enabled" as const });
  const find = (
    keys: NonNullable<NonNullable<Scene["sees"]>["keys"]>,
    more: RulesPatch = UNLABELLED,
    before = minting(),
  ) => verdict({ state: before, rules: more, sees: { keys, serves: { vault: "v1" } } });

  test("an absence is not believed while the issue may still land", () => {
    expect(verdict({ state: minting({}, { mayLand: [open("issue", "v2")] }), sees: { keys: ["v1"] } })).toBe(
      "wait settling",
    );
  });
  test("an absence counts twice before the version is given up", () => {
    expect(find(["v1"])).toBe("note key-absent");
    expect(find(["v1"], UNLABELLED, minting({ mint: mint({ absences: 1 }) }))).toBe("note given-up");
  });
  test("with labels the stamped version id tells, and a stranger's key is left alone", () => {
    expect(find(["v1", key("v2", { keyId: "K9" })], {})).toBe("note key-found");
    expect(find(["v1", stray("K9")], {})).toBe("note key-absent");
  });
  test("without labels: the only key of a later granule, inside the window, is inferred", () => {
    expect(decided({ state: minting(), rules: UNLABELLED, sees: { keys: ["v1", stray("K9")] } })).toMatchObject({
      facts: [{ fact: "key-found", version: "v2", keyId: "K9", inferred: true }],
    });
  });
  test("a stranger's key of the same second as a lagging listing is none of ours", () => {
    expect(find(["v1", stray("K9", T - H + 999)])).toBe("note key-absent");
  });
  test("nor is a key that was made too late, was listed before, or was released by a person", () => {
    expect(find(["v1", stray("K9", T - H + 60 * S + 1)])).toBe("note key-absent");
    expect(find(["v1", stray("K9")], UNLABELLED, minting({ mint: mint({ listed: ["key-v1", "K9"] }) }))).toBe(
      "note key-absent",
    );
    expect(find(["v1", stray("K9")], UNLABELLED, minting({}, { strangers: ["K9"] }))).toBe("note key-absent");
  });
  test("two candidates are a person's to tell apart, and orphans: block asks for one", () => {
    expect(find(["v1", stray("K8"), stray("K9")])).toBe("blocked orphan-ambiguous");
    expect(find(["v1", stray("K9")], { ...UNLABELLED, orphans: "block" })).toBe("blocked orphan-inferred");
  });

  const orphan = (more: Partial<Version> = {}) =>
    idle({
      versions: [
        version("v1", "current"),
        version("v2", "abandoned", { origin: "inferred", staged: false, exposed: false, ...more }),
      ],
    });
  const WATCHED: RulesPatch = { ...UNLABELLED, usage: [{ ...MONITOR, traits: { ...MONITOR.traits, lag: H } }] };
  const unused = { log: { "key-v1": silent(0), "key-v2": silent(0) } };
  const sees = { ...BOTH, serves: { vault: "v1" }, usage: unused };
  const asleep = { ...sees, keys: ["v1", key("v2", { state: "disabled" })] };
  check([
    ["an inferred orphan is disabled first", { state: orphan(), rules: WATCHED, sees }, "act disable v2"],
    [
      "then watched as long as a use may show up late",
      { state: orphan({ disabledAt: T - 1 }), rules: WATCHED, sees: asleep },
      "wait settling",
    ],
    ["then deleted", { state: orphan({ disabledAt: T - 2 * H }), rules: WATCHED, sees: asleep }, "act delete v2"],
    [
      "at once where nobody else makes keys",
      { state: orphan({ disabledAt: T - 1 }), rules: { ...WATCHED, exclusive: true }, sees: asleep },
      "act delete v2",
    ],
    [
      "one that was ever used is handed back",
      {
        state: orphan({ disabledAt: T - 2 * H }),
        rules: WATCHED,
        sees: { ...asleep, usage: { log: { "key-v2": silent(0, denied("web")) } } },
      },
      "note said",
    ],
    [
      "what is handed back is enabled again",
      { state: orphan({ disabledAt: T - 1, handBack: true }), rules: WATCHED, sees: asleep },
      "act enable v2",
    ],
    [
      "a hold stops orphan clean-up",
      { state: said(orphan(), { word: "hold", reason: "why", until: null }), rules: WATCHED, sees },
      "wait held",
    ],
  ]);

  const lost = staged({ versions: [version("v1", "current"), version("v2", "pending", { staged: false })] });
  check([
    ["a value is not lost while this process has it", { state: lost, sees: { held: ["v2"] } }, "act stage v2 in vault"],
    ["nor before the authority was asked", { state: lost, sees: {} }, "look staged"],
    [
      "nor while its stage may still land",
      { state: { ...lost, mayLand: [open("stage", "v2", "vault")] }, sees: { staged: { v2: false } } },
      "wait settling",
    ],
    ["proven absent, it is given up", { state: lost, sees: { staged: { v2: false } } }, "note given-up"],
    [
      "and its key is gone before the next is made",
      {
        state: after(lost, [{ fact: "given-up", version: "v2", why: "lost" }]),
        sees: { ...BOTH, serves: { vault: "v1" } },
      },
      "act disable v2",
    ],
  ]);

  test("without labels the issue waits for a later granule than its listing's", () => {
    const scene = {
      state: idle({ rotation: rotation("v1", null) }),
      rules: UNLABELLED,
      sees: { keys: ["v1"], serves: { vault: "v1" } },
    };
    expect(verdict(scene)).toBe("wait settling");
    expect(verdict({ ...scene, rules: {} })).toMatch(/^act issue v2-/);
  });

  test("attempts are budgeted", () => {
    const failures = [
      { step: "issue", count: 3, at: T - H, retryAt: T - H, reason: "provider-unavailable", message: "no answer" },
    ] as const;
    const before = idle({ rotation: rotation("v1", null, { failures }) });
    const scene = { state: before, sees: { keys: ["v1"], serves: { vault: "v1" } } };
    expect(settledOn(scene).verdict).toBe("blocked attempts-exhausted");
  });
});

describe("promise 8: checked before minted", () => {
  const starts = idle({ rotation: rotation("v1", null) });
  const sees = { keys: ["v1"], serves: { vault: "v1" } } as const;
  check([
    ["in order, a key is made", { state: starts, sees }, "act issue v2-f00df00d"],
    ["nothing is made unseen", { state: starts }, "look keys delivery"],
    [
      "what the preflight found wrong is told before a look that would fail of it",
      { state: starts, sees: { findings: [{ reason: "permission-missing", blocks: true, message: "may not list" }] } },
      "blocked permission-missing",
    ],
    [
      "slots full of ours",
      {
        state: { ...starts, versions: [version("v0", "current"), version("v1", "current")] },
        sees: { ...sees, keys: ["v0", "v1"] },
      },
      "blocked slots-full-ours",
    ],
    [
      "slots full of a stranger's",
      { state: starts, sees: { ...sees, keys: ["v1", "AKIASTRANGER"] } },
      "blocked slots-full-foreign",
    ],
    ["a drifted store", { state: starts, sees: { ...sees, serves: { vault: "foreign" } } }, "blocked drift"],
    [
      "another account",
      { state: starts, sees: { ...sees, bindings: { issuer: "elsewhere" } } },
      "blocked binding-changed",
    ],
    [
      "a value that nobody adopted",
      {
        state: state({ deliveries: [delivery(AUTHORITY, null)], rotation: rotation(null, null) }),
        sees: { keys: [], serves: { vault: "foreign" } },
      },
      "blocked unmanaged",
    ],
    [
      "one slot and no consent",
      { state: starts, rules: { issuer: { maxKeys: 1 } }, sees },
      "blocked no-overlap-consent",
    ],
    ["a pause", { state: said(starts, { word: "pause", reason: "why" }), sees }, "wait paused"],
    [
      "a hook of its own",
      { state: starts, rules: { hooks: { beforeRotate: 1, afterDistribute: 0, beforeRevoke: 0, afterDone: 0 } }, sees },
      "act hook beforeRotate:0",
    ],
  ]);
});
