import { describe, expect, test } from "vitest";
import { decide } from "../../src/core/decide.ts";
import type { CallerMemory, SecretState, Version } from "../../src/core/model.ts";
import type { KeyUsage } from "../../src/core/observed.ts";
import { BLIND_MIRROR, BOTH, LONG, PROVEN, caller, check, denied, open, silent } from "./scenes.ts";
import type { RulesPatch, Scene } from "./support.ts";
import {
  AUTHORITY,
  H,
  MIRROR,
  MONITOR,
  S,
  T,
  UNREADABLE,
  at,
  caseOf,
  consumer,
  decided,
  delivery,
  key,
  overlapping,
  said,
  verdict,
  version,
} from "./support.ts";

describe("promise 4: every check alone stops a disable", () => {
  const base: Scene = { state: overlapping(LONG), sees: PROVEN };
  const web = consumer("web", { required: true });
  const usedAt = (ago: number) => ({
    log: { "key-v1": silent(0, { who: "web", first: 0, last: T - ago, count: 9, outcome: "ok" }), "key-v2": silent(0) },
  });
  const rest = (more: Partial<Scene> = {}): Scene => ({ ...base, ...more });
  const asked: RulesPatch = { usage: [MONITOR], consumers: [consumer("web")] };
  check([
    ["all of them hold", base, "act disable v1"],
    ["the minimum overlap", rest({ state: overlapping(H) }), "wait minimum-overlap"],
    ["twice the minimum where no signal exists", rest({ state: overlapping(2 * H - 1) }), "wait minimum-overlap"],
    ["the last store's readers", rest({ state: overlapping(-S) }), "wait distributing"],
    ["a hold", rest({ state: said(overlapping(LONG), { word: "hold", reason: "why", until: null }) }), "wait held"],
    [
      "a hold that has ended is none",
      rest({ state: said(overlapping(LONG), { word: "hold", reason: "why", until: T }) }),
      "act disable v1",
    ],
    ["a pause", rest({ state: said(overlapping(LONG), { word: "pause", reason: "why" }) }), "wait paused"],
    ["required consumers", rest({ state: overlapping(3 * H), rules: { consumers: [web] } }), "wait not-adopted"],
    ["a use of the old key", rest({ rules: asked, sees: { ...PROVEN, usage: usedAt(H) } }), "wait old-key-in-use"],
    [
      "a monitor that cannot tell",
      rest({
        rules: asked,
        sees: { ...PROVEN, usage: { log: { "key-v1": { status: "unknown", from: T, until: T, events: [] } } } },
      }),
      "wait usage-unknown",
    ],
    ["long silent", rest({ rules: asked, sees: { ...PROVEN, usage: usedAt(3 * H) } }), "act disable v1"],
    [
      "a store that serves a foreign value",
      rest({ sees: { ...PROVEN, serves: { vault: "foreign" } } }),
      "blocked drift",
    ],
    ["a store that serves the old key", rest({ sees: { ...PROVEN, serves: { vault: "v1" } } }), "blocked drift"],
    [
      "a store of which nobody can tell",
      rest({ sees: { ...PROVEN, serves: { vault: "unknown" } } }),
      "wait distributing",
    ],
    ["a replica", rest({ sees: { ...PROVEN, lagging: { vault: ["eu"] } } }), "wait replica-not-in-sync"],
    ["the new key refused", rest({ sees: { ...PROVEN, accepts: { v2: "rejected" } } }), "blocked verify-rejected"],
    [
      "the new key disabled",
      rest({ sees: { ...PROVEN, keys: ["v1", key("v2", { state: "disabled" })] } }),
      "wait verifying",
    ],
    ["the new key not listed", rest({ sees: { ...PROVEN, keys: ["v1"] } }), "wait verifying"],
    [
      "another account at the issuer",
      rest({ sees: { ...PROVEN, bindings: { issuer: "elsewhere" } } }),
      "blocked binding-changed",
    ],
    [
      "another place of the store",
      rest({ sees: { ...PROVEN, bindings: { vault: "elsewhere" } } }),
      "blocked binding-changed",
    ],
    [
      "an unreadable mirror without a receipt",
      rest({
        rules: BLIND_MIRROR,
        state: overlapping(LONG, { deliveries: [delivery(AUTHORITY, "v2"), delivery(UNREADABLE, "v1")] }),
      }),
      "act put v2 in env",
    ],
    [
      "a store line taken out of the policy",
      rest({ state: overlapping(LONG, { deliveries: [delivery(AUTHORITY, "v2"), delivery(MIRROR, "v1")] }) }),
      "blocked not-in-policy",
    ],
  ]);

  test("every observation is asked for again: nothing seen, nothing done", () => {
    expect(verdict({ state: overlapping(LONG) })).toMatch(/^look/);
    expect(verdict({ state: overlapping(LONG), sees: { ...PROVEN, accepts: {} } })).toBe("look accepts");
    expect(verdict({ state: overlapping(LONG), sees: { ...BOTH } })).toMatch(/^look/);
  });

  test("the same checks stand before the delete", () => {
    const soaked = overlapping(LONG, {
      versions: [version("v1", "disabled", { disabledAt: T - 4 * H }), version("v2", "current")],
    });
    const sees = { ...PROVEN, keys: [key("v1", { state: "disabled" }), "v2"] };
    expect(verdict({ state: soaked, sees })).toBe("act delete v1");
    expect(verdict({ state: said(soaked, { word: "hold", reason: "why", until: null }), sees })).toBe("wait held");
    expect(verdict({ state: soaked, sees: { ...sees, serves: { vault: "v1" } } })).toBe("blocked drift");
    expect(verdict({ state: soaked, sees: { ...sees, accepts: { v2: "rejected" } } })).toBe("blocked verify-rejected");
    expect(verdict({ state: { ...soaked, mayLand: [open("enable", "v1")] }, sees })).toBe("wait settling");
  });

  test("a key that is gone is known to be gone, though nobody can say any more how it was used", () => {
    const unknown: KeyUsage = { status: "unknown", from: T, until: T, why: "no such key", events: [] };
    const usage = { log: { "key-v1": unknown, "key-v2": silent(0) } };
    const rules = { usage: [MONITOR] };
    const disabled = version("v1", "disabled", { disabledAt: T - 4 * H });
    for (const v1 of [version("v1", "retiring"), disabled]) {
      const lost = overlapping(LONG, { versions: [v1, version("v2", "current")] });
      expect(verdict({ state: lost, rules, sees: { ...PROVEN, keys: ["v2"], usage } })).toBe("note key-state");
      const there = verdict({ state: lost, rules, sees: { ...PROVEN, keys: ["v1", "v2"], usage } });
      expect(there).toBe("wait usage-unknown");
    }
  });

  test("a failed look at usage keeps its hint", () => {
    const failed = { reason: "credentials-missing", message: "session expired", hint: "sign in again" } as const;
    const c = caseOf({ state: overlapping(LONG), rules: { usage: [MONITOR] }, sees: PROVEN });
    const decision = decide({ ...c, seen: { ...c.seen, usage: { log: { failed } } } });
    expect(decision).toMatchObject({ decision: "wait", reason: "credentials-missing", hint: "sign in again" });
    expect("message" in decision ? decision.message.split("session expired").length : 0).toBe(2);
  });

  test("a key is dead once a listing that can be believed lacks it, and the value is refused", () => {
    const deleted = (more: Partial<Version> = {}) =>
      overlapping(LONG, {
        versions: [
          version("v1", "disabled", { disabledAt: T - 4 * H, deletedAt: T - H, ...more }),
          version("v2", "current"),
        ],
      });
    expect(verdict({ state: deleted(), sees: { keys: ["v2"], staged: { v1: true } } })).toBe("look accepts");
    expect(
      verdict({ state: deleted(), sees: { keys: ["v2"], staged: { v1: true }, accepts: { v1: "rejected" } } }),
    ).toBe("note dead");
    expect(
      verdict({ state: deleted(), sees: { keys: ["v2"], staged: { v1: true }, accepts: { v1: "accepted" } } }),
    ).toBe("wait debt");
    expect(verdict({ state: deleted(), sees: { keys: [key("v1", { state: "disabled" }), "v2"] } })).toBe(
      "note key-state debt",
    );
    expect(
      verdict({
        state: deleted({ createdAt: T - S }),
        sees: { keys: ["v2"], staged: { v1: true }, accepts: { v1: "rejected" } },
      }),
    ).toBe("wait settling");
  });
});

describe("3.9 quiet", () => {
  const web = consumer("web", { required: true });
  const inUse: KeyUsage = silent(0, { who: "web", first: 0, last: T - S, count: 9, outcome: "ok" });
  const atMaximum = (onMaximum: "block" | "alert", rest: Partial<SecretState> = {}): Scene => ({
    state: overlapping(100 * H, rest),
    rules: { usage: [MONITOR], consumers: [web], overlap: { onMaximum } },
    sees: { ...PROVEN, usage: { log: { "key-v1": inUse, "key-v2": silent(0) } } },
  });
  test("the maximum never revokes: block asks a person, alert goes on waiting; both name the straggler", () => {
    for (const onMaximum of ["block", "alert"] as const) {
      const decision = decided(atMaximum(onMaximum));
      expect(decision).toMatchObject({ decision: onMaximum === "block" ? "blocked" : "wait" });
      expect("facts" in decision ? decision.facts : []).toContainEqual({ fact: "escalated", who: ["web"] });
    }
  });
  test("before a straggler is reminded the stores are looked at: a value put back is drift, and stays it", () => {
    const scene: Scene = { ...atMaximum("block"), state: overlapping(30 * H) };
    const usage = { log: { "key-v1": inUse, "key-v2": silent(0) } };
    expect(verdict({ ...scene, sees: { usage } })).toBe("look delivery");
    const decision = decided({ ...scene, sees: { ...scene.sees, serves: { vault: "v1" } } });
    expect(decision).toMatchObject({ decision: "blocked", reason: "drift" });
    expect("facts" in decision ? decision.facts?.map(({ fact }) => fact) : []).toEqual(["usage-looked"]);
    const fine = decided(scene);
    expect(fine).toMatchObject({ decision: "wait", reason: "old-key-in-use" });
    expect("facts" in fine ? fine.facts : []).toContainEqual({ fact: "reminded", who: ["web"] });
  });
  test("usage is looked at no more than once per quiet/8", () => {
    const looked = (ago: number) => {
      const v1 = version("v1", "retiring", {
        usageLookedAt: T - ago,
        usage: {
          log: {
            from: 0,
            until: T - ago,
            reached: T - ago,
            at: T - ago,
            unknown: null,
            who: { web: caller({ last: T - ago - S }) },
          },
        },
      });
      return verdict({
        state: overlapping(3 * H, { versions: [v1, version("v2", "current")] }),
        rules: { usage: [MONITOR], consumers: [web] },
        sees: { ...PROVEN },
      });
    };
    expect(looked(H / 8)).toBe("wait old-key-in-use");
    expect(looked(H)).toBe("look usage");
  });
  test("where the issuer cannot disable, the key is deleted without a soak", () => {
    expect(verdict({ state: overlapping(LONG), rules: { issuer: { canDisable: false } }, sees: PROVEN })).toBe(
      "act delete v1",
    );
  });
  test("a person's revoke hurries usage, adoption and minimum along, never stores, drift or holds", () => {
    const told = said(overlapping(0), { word: "revoke", version: "v1", compromised: false });
    const scene: Scene = { state: told, rules: { consumers: [web] }, sees: PROVEN };
    expect(verdict(scene)).toBe("act disable v1");
    expect(verdict({ ...scene, sees: { ...PROVEN, serves: { vault: "v1" } } })).toBe("blocked drift");
    expect(verdict({ ...scene, state: said(told, { word: "hold", reason: "why", until: null }) })).toBe("wait held");
  });
});

describe("3.10 soak", () => {
  const asleep = {
    keys: [key("v1", { state: "disabled" }), "v2"],
    serves: { vault: "v2" },
    accepts: { v2: "accepted" },
  } as const;
  const soaking = (v1: Partial<Version> = {}, who: Readonly<Record<string, CallerMemory>> = { web: caller() }) =>
    overlapping(LONG, {
      versions: [
        version("v1", "disabled", {
          disabledAt: T - H,
          usage: { log: { from: 0, until: T - H, reached: T - H, at: T - H, unknown: null, who } },
          usageLookedAt: T - H,
          ...v1,
        }),
        version("v2", "current"),
      ],
    });
  const tried = (who: string, onFailedUse: "reenable" | "alert" = "reenable", before = soaking()) =>
    decided({
      state: before,
      rules: { usage: [MONITOR], consumers: [consumer("web")], soak: { onFailedUse } },
      sees: { ...asleep, usage: { log: { "key-v1": silent(0, denied(who)) } } },
    });

  test("a caller that was seen on the key before gets it back", () => {
    expect(tried("web")).toMatchObject({ decision: "act", action: { do: "enable", version: "v1" } });
  });
  test("in a pause, too: to switch on neither starts nor destroys anything", () => {
    const paused = said(soaking(), { word: "pause", reason: "why" });
    expect(tried("web", "reenable", paused)).toMatchObject({ decision: "act", action: { do: "enable" } });
  });
  test("a stranger who tries it does not; it is told", () => {
    expect(tried("mallory")).toMatchObject({
      decision: "wait",
      reason: "soaking",
      facts: [{ fact: "usage-looked" }, { fact: "noticed", event: "failed-use" }],
    });
  });
  test("nor does anybody where the policy says alert, or a person asked for its end", () => {
    expect(tried("web", "alert")).toMatchObject({ decision: "wait", reason: "soaking" });
    expect(tried("web", "reenable", soaking({ expedite: true }))).not.toMatchObject({ action: { do: "enable" } });
  });
  test("a leaked key has no soak, and is not enabled for anybody", () => {
    expect(tried("web", "reenable", soaking({ compromised: true }))).toMatchObject({
      decision: "act",
      action: { do: "delete", version: "v1" },
    });
  });
  test("until it is over nothing is deleted", () => {
    expect(verdict({ state: soaking(), sees: asleep })).toBe("wait soaking");
    expect(verdict({ state: soaking(), sees: asleep, now: at(2 * H) })).toBe("act delete v1");
  });
});
