import { describe, expect, test } from "vitest";
import { BOTH, MIRRORED, check, onBoth } from "./scenes.ts";
import { H, S, T, idle, overlapping, said, staged, verdict, version } from "./support.ts";

describe("promise 7 and 3.13: nothing due, nothing done", () => {
  check([
    ["not due", { state: idle() }, "done"],
    ["due, a rotation begins", { state: idle(), due: { at: T, due: true } }, "note begun"],
    [
      "due, but its window is closed",
      { state: idle(), due: { at: T, due: true, opensAt: T + H } },
      "wait outside-window",
    ],
    [
      "due, but paused",
      { state: said(idle(), { word: "pause", reason: "why" }), due: { at: T, due: true } },
      "wait paused",
    ],
    ["due, but not enabled", { state: idle(), rules: { enabled: false }, due: { at: T, due: true } }, "done"],
    ["while time alone is awaited nothing is looked at", { state: overlapping(S) }, "wait minimum-overlap"],
  ]);
});

describe("the wanted version gets alive, staged, proven, promoted, put", () => {
  const proven = {
    verification: {
      firstTryAt: T - S,
      lastTryAt: T - S,
      firstSuccessAt: T - S,
      successes: 1,
      last: "accepted" as const,
    },
  };
  const tried = staged({
    versions: [version("v1", "current"), version("v2", "pending", proven)],
    deliveries: onBoth("v1"),
  });
  check([
    ["verified before any store is asked", { state: staged() }, "act verify v2"],
    [
      "then the authority alone",
      { state: tried, rules: MIRRORED, sees: { ...BOTH, serves: { vault: "v1", env: "v1" } } },
      "act promote v2 in vault",
    ],
    [
      "a value of somebody else's is not overwritten",
      { state: tried, rules: MIRRORED, sees: { ...BOTH, serves: { vault: "foreign", env: "v1" } } },
      "blocked drift",
    ],
    [
      "unless a person said --repair",
      {
        state: said(tried, { word: "rotate", repair: true }),
        rules: MIRRORED,
        sees: { ...BOTH, serves: { vault: "foreign", env: "v1" } },
      },
      "act promote v2 in vault",
    ],
    [
      "already there, it is noted, not written",
      { state: tried, rules: MIRRORED, sees: { ...BOTH, serves: { vault: "v2", env: "v1" } } },
      "note delivery-seen",
    ],
  ]);

  test("a key that the issuer goes on refusing is kept, and a person is told", () => {
    const rejected = {
      firstTryAt: T - 400 * S,
      lastTryAt: T - S,
      firstSuccessAt: null,
      successes: 0,
      last: "rejected" as const,
    };
    const before = staged({
      versions: [version("v1", "current"), version("v2", "pending", { verification: rejected })],
    });
    expect(verdict({ state: before })).toBe("blocked verify-rejected");
  });
});
