import { describe, expect, test } from "vitest";
import { versionOf, type SecretState } from "../../src/core/model.ts";
import { BOTH, LONG, MIRRORED, PROVEN, carriedOut, emergency, leaked, onBoth, settledOn, silent } from "./scenes.ts";
import type { RulesPatch, Scene } from "./support.ts";
import {
  AUTHORITY,
  EMERGENCY,
  H,
  MIRROR,
  MONITOR,
  S,
  T,
  after,
  at,
  consumer,
  decided,
  delivery,
  idle,
  intent,
  key,
  overlapping,
  rotation,
  said,
  staged,
  state,
  verdict,
  version,
} from "./support.ts";

describe("3.8 rollback", () => {
  const back = (more: Partial<SecretState> = {}) =>
    said(overlapping(LONG, { deliveries: onBoth("v2"), ...more }), { word: "rollback" });
  const serving = { vault: "v2", env: "v2" };
  test("enable, verify, promote, put: in this order", () => {
    const soaking = back({ versions: [version("v1", "disabled"), version("v2", "current")] });
    const scene = {
      state: soaking,
      rules: MIRRORED,
      sees: { keys: [key("v1", { state: "disabled" }), "v2"], serves: serving, staged: { v1: true } },
    };
    expect(verdict(scene)).toBe("act enable v1");
    const enabled = carriedOut(soaking, intent("enable", "v1"));
    expect(verdict({ ...scene, state: enabled, sees: { ...BOTH, serves: serving, staged: { v1: true } } })).toBe(
      "act verify v1",
    );
    const proven = after(enabled, [{ fact: "verified", version: "v1", result: "accepted" }]);
    expect(verdict({ ...scene, state: proven, sees: { ...BOTH, serves: serving } })).toBe("act promote v1 in vault");
    const promoted = carriedOut(proven, intent("promote", "v1", "vault"), { ref: "r9" });
    const seen = after(promoted, [
      { fact: "delivery-seen", delivery: "vault", serves: "v1", ref: "r9", confirmed: true },
    ]);
    expect(verdict({ ...scene, state: seen, sees: { ...BOTH, serves: { vault: "v1", env: "v2" } } })).toBe(
      "act put v1 in env",
    );
  });
  test("right after our disable a listing that still shows the key enabled is not believed", () => {
    const soaking = back({ versions: [version("v1", "disabled", { disabledAt: T - S }), version("v2", "current")] });
    const sees = { ...BOTH, serves: serving, staged: { v1: true } };
    const slow: RulesPatch = {
      ...MIRRORED,
      issuer: { timing: { listSettle: 0, propagation: 15 * S, settle: 0, timeGranularity: 0 } },
    };
    expect(verdict({ state: soaking, rules: slow, sees })).toBe("act enable v1");
    expect(settledOn({ state: soaking, rules: slow, sees, now: at(15 * S) }).verdict).toBe("act verify v1");
  });
  test("to a version whose value is in no store any more: given up, and the newer one stays", () => {
    const overlap = back({ versions: [version("v1", "retiring"), version("v2", "current")] });
    const { verdict: next, state: forward } = settledOn({
      state: overlap,
      rules: MIRRORED,
      sees: { ...BOTH, serves: serving, staged: { v1: false } },
    });
    expect(next).not.toMatch(/verify|promote v1|put v1/);
    expect(forward.rotation?.rollback).toBeNull();
    expect(forward.stopped?.reason).toBe("nothing-to-roll-back-to");
  });
  test("while nothing exists yet it ends the rotation: nothing is minted again", () => {
    const early = said(idle({ rotation: rotation("v1", null) }), { word: "rollback" });
    const sees = { keys: ["v1"], serves: { vault: "v1" }, accepts: { v1: "accepted" } } as const;
    const { verdict: next, state: ended } = settledOn({ state: early, sees });
    expect(next).toBe("blocked rolled-back");
    expect(ended.versions.map(({ status }) => status)).toEqual(["current"]);
  });
  test("from then on a due date starts nothing until a person says rotate", () => {
    const ended = idle({ stopped: { halts: false, reason: "rolled-back", message: "rolled back by ada", at: T } });
    const due = { at: T, due: true };
    expect(verdict({ state: ended, due })).toBe("blocked rolled-back");
    expect(said(ended, { word: "rotate", repair: false })).toMatchObject({
      stopped: null,
      rotation: { reason: "manual" },
    });
  });
  test("the new key then ends by the overlap rules, its value discarded before", () => {
    const done = {
      versions: [version("v1", "current"), version("v2", "retiring")],
      deliveries: [delivery(AUTHORITY, "v1")],
    };
    const scene = (ago: number): Scene => ({
      state: state({
        ...done,
        rotation: rotation("v1", "v2", { rollback: { at: T - LONG, by: "ada" }, overlapFrom: T - ago }),
      }),
      sees: { ...BOTH, serves: { vault: "v1" }, accepts: { v1: "accepted" } },
    });
    expect(verdict(scene(H))).toBe("wait minimum-overlap");
    expect(verdict(scene(LONG))).toBe("act discard v2 in vault");
  });
  test("promise 11: the way back is never a leaked key", () => {
    const before = back({ versions: [leaked("v1", "disabled"), version("v2", "current")] });
    expect(
      verdict({ state: before, sees: { keys: [key("v1", { state: "disabled" }), "v2"], serves: serving } }),
    ).not.toMatch(/enable|promote|put/);
  });
});

describe("3.11 emergency", () => {
  const served = { ...BOTH, serves: { vault: "v2", env: "v1" }, accepts: { v1: "accepted", v2: "accepted" } } as const;
  test("replace first: a new key is made while the leaked one is still served", () => {
    expect(verdict({ state: emergency(idle()), sees: { keys: ["v1"], serves: { vault: "v1" } } })).toMatch(
      /^act issue v2-/,
    );
  });
  test("revoke first needs the consent to an outage", () => {
    const sees = { keys: ["v1"], serves: { vault: "v1" }, accepts: { v1: "accepted" } } as const;
    expect(verdict({ state: emergency(idle(), { revokeFirst: true }), sees })).toMatch(/^act issue/);
    expect(verdict({ state: emergency(idle(), { revokeFirst: true, acceptOutage: true }), sees })).toBe(
      "act disable v1",
    );
  });
  test("full slots, one of them served by nobody: that one goes", () => {
    const struck = emergency(overlapping(0));
    expect(verdict({ state: struck, sees: PROVEN })).toBe("act disable v1");
  });
  test("full slots, both served: what the authority serves goes to the other store, so that the other can die", () => {
    const struck = emergency(overlapping(0, { deliveries: [delivery(AUTHORITY, "v2"), delivery(MIRROR, "v1")] }));
    expect(verdict({ state: struck, rules: MIRRORED, sees: served })).toBe("act put v2 in env");
  });
  test("a version that no store serves is not put anywhere", () => {
    const struck = emergency(overlapping(0));
    expect(verdict({ state: struck, sees: { ...PROVEN, serves: { vault: "foreign" } } })).not.toMatch(
      /put|promote|disable|delete/,
    );
  });
  test("a leftover that cannot be removed holds up neither an emergency nor a rollback, and is not forgotten", () => {
    const debt = { since: 0, attempts: 3, lastError: "discarding: answered 403", retryAt: T + H };
    const value = version("v0", "destroyed", { staged: true, debt });
    const struck = emergency(idle({ versions: [value, version("v1", "current")] }));
    const sees = { keys: ["v1"], serves: { vault: "v1" }, accepts: { v1: "accepted" } } as const;
    expect(settledOn({ state: struck, sees }).verdict).toMatch(/^act issue v/);
    const orphan = version("v0", "abandoned", { debt });
    const back = said(overlapping(0, { versions: [orphan, version("v1", "retiring"), version("v2", "current")] }), {
      word: "rollback",
    });
    const both = {
      ...BOTH,
      keys: ["v0", "v1", "v2"],
      accepts: { v1: "accepted", v2: "accepted" },
      staged: { v1: true },
    } as const;
    expect(settledOn({ state: back, sees: both }).verdict).toMatch(/^act (verify|promote) v1/);
    const idleWithDebt = idle({ versions: [orphan, version("v1", "current")] });
    expect(verdict({ state: idleWithDebt, sees: { ...sees, keys: ["v0", "v1"] } })).toBe("wait debt");
    const due = { at: 0, due: true };
    expect(verdict({ state: idleWithDebt, sees: { ...sees, keys: ["v0", "v1"] }, due })).toBe("wait debt");
  });
  test("a revoked version that was still being made is never served, though its key comes after all", () => {
    const minting = idle({
      versions: [version("v1", "current"), version("v2", "minting", { keyId: null })],
      rotation: rotation("v1", "v2"),
    });
    const told = said(minting, { word: "revoke", version: "v2", compromised: true });
    const came = after(told, [
      { fact: "key-found", version: "v2", keyId: "key-v2", dates: { createdAt: T }, inferred: false },
    ]);
    expect([versionOf(came, "v2")?.status, came.rotation?.to]).toEqual(["abandoned", null]);
  });
  test("with nothing named it does not mean an inferred key, which may be a stranger's", () => {
    const orphan = version("v0", "abandoned", { origin: "inferred" });
    const before = idle({ versions: [orphan, version("v1", "current")] });
    expect(versionOf(said(before, { ...EMERGENCY, versions: null }), "v0")?.compromised).toBe(false);
    expect(versionOf(said(before, { ...EMERGENCY, versions: ["v0"] }), "v0")?.compromised).toBe(true);
  });
  test("said again while it lasts, it means the keys that it meant, not the one that took their place", () => {
    const struck = emergency(idle(), { versions: null });
    const later = { ...struck, versions: [...struck.versions, version("v2", "pending", { since: T + S })] };
    const again = said({ ...later, clock: T + H }, { ...EMERGENCY, versions: null }, { doc: T + H, wall: T + H });
    expect(again.versions.map(({ id, compromised }) => [id, compromised])).toEqual([
      ["v1", true],
      ["v2", false],
    ]);
    const third = said(again, { ...EMERGENCY, versions: null }, { doc: T + 2 * H, wall: T + 2 * H });
    expect(versionOf(third, "v2")?.compromised).toBe(false);
    const named = said(later, { ...EMERGENCY, versions: ["v2"] });
    expect(versionOf(named, "v2")?.compromised).toBe(true);
  });
  test("while a store still serves the leaked key, that key lives", () => {
    const replaced = emergency(state({ versions: [version("v1", "current")], deliveries: onBoth("v1") }), {
      versions: ["v1"],
    });
    const third = {
      ...replaced,
      versions: [leaked("v1", "retiring"), version("v2", "current")],
      rotation: rotation("v1", "v2", { reason: "emergency", overlapFrom: T }),
      deliveries: onBoth("v2"),
    };
    expect(verdict({ state: third, rules: MIRRORED, sees: served })).toBe("blocked drift");
    expect(verdict({ state: third, rules: MIRRORED, sees: PROVEN })).toBe("act disable v1");
  });
  test("disabled, it is deleted at once where nothing serves it", () => {
    const struck = emergency(overlapping(0, { versions: [version("v1", "disabled"), version("v2", "current")] }), {
      versions: ["v1"],
    });
    expect(verdict({ state: struck, sees: { ...PROVEN, keys: [key("v1", { state: "disabled" }), "v2"] } })).toBe(
      "act delete v1",
    );
  });
  test("a hold stops it as blocked, unless it is overridden", () => {
    const held = said(overlapping(0), { word: "hold", reason: "why", until: null });
    expect(verdict({ state: emergency(held, { versions: ["v1"] }), sees: PROVEN })).toBe("blocked held");
    expect(verdict({ state: emergency(held, { versions: ["v1"], overrideHold: true }), sees: PROVEN })).toBe(
      "act disable v1",
    );
  });
  test("a pause does not stop it", () => {
    const paused = said(overlapping(0), { word: "pause", reason: "why" });
    expect(verdict({ state: emergency(paused, { versions: ["v1"] }), sees: PROVEN })).toBe("act disable v1");
  });
  test("inside the grace usage is waited for; after it no longer", () => {
    const struck = emergency(overlapping(0), { versions: ["v1"], grace: 300 * S });
    const inUse = {
      log: {
        "key-v1": silent(0, { who: "web", first: 0, last: T, count: 9, outcome: "ok" as const }),
        "key-v2": silent(0),
      },
    };
    const scene: Scene = {
      state: struck,
      rules: { usage: [MONITOR], consumers: [consumer("web")] },
      sees: { ...PROVEN, usage: inUse },
    };
    expect(decided(scene)).toMatchObject({ decision: "wait", reason: "old-key-in-use" });
    expect(verdict({ ...scene, now: at(300 * S) })).toBe("act disable v1");
  });
  test("promise 11: whatever is seen, a leaked version is never promoted anew, verified or enabled", () => {
    const struck = emergency(staged(), { versions: ["v2"] });
    for (const keys of [["v1", "v2"], ["v1", key("v2", { state: "disabled" })], ["v1"]] as const) {
      for (const vault of ["v1", "v2", "nothing", "foreign", "unknown"]) {
        const { verdict: next } = settledOn({
          state: struck,
          sees: {
            keys,
            serves: { vault },
            accepts: { v1: "accepted", v2: "accepted" },
            staged: { v1: true, v2: true },
          },
        });
        expect(next).not.toMatch(/act (enable|verify|promote|put|stage) v2\b/);
      }
    }
  });
});

describe("3.14 after a refusal", () => {
  const refusedAt = (before: SecretState, now: SecretState, delivery: string | null = "vault") =>
    after(now, [
      {
        fact: "refused",
        stopped: { reason: "store-denied", message: "no" },
        rotation: before.rotation?.id ?? null,
        version: before.rotation?.to ?? "v1",
        delivery,
      },
    ]);
  test("a value that the store refused: its key is destroyed, and nothing is minted again without a person", () => {
    const asked = staged({ versions: [version("v1", "current"), version("v2", "pending", { staged: false })] });
    const refused = refusedAt(asked, asked);
    const sees = { ...BOTH, serves: { vault: "v1" }, accepts: { v1: "accepted" } } as const;
    expect(verdict({ state: refused, sees })).toBe("act disable v2");
    const dead = { ...refused, versions: [version("v1", "current"), version("v2", "destroyed", { staged: false })] };
    expect(settledOn({ state: dead, sees: { ...sees, keys: ["v1"] } }).verdict).toBe("blocked store-denied");
  });
  test("only disabling, deleting and discarding go on where everything stopped", () => {
    const begun = idle({ rotation: rotation("v1", null) });
    const stopped = refusedAt(begun, begun, null);
    expect(verdict({ state: stopped, sees: { keys: ["v1"], serves: { vault: "v1" } } })).toBe("blocked store-denied");
  });
  test("a refusal that comes after a person's word began something else changes nothing of it", () => {
    const asked = staged();
    for (const told of [emergency(asked), said(asked, { word: "rollback" })]) {
      const { rotation: next, stopped } = refusedAt(asked, told);
      expect([next, stopped]).toEqual([told.rotation, told.stopped]);
    }
  });
});
