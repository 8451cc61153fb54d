import { describe, expect, test } from "vitest";
import type { Clock } from "../../src/engine/deps.ts";
import { fenceFrom, FencePassed } from "../../src/engine/fence.ts";

function clocks(): Clock & { at: { wall: number; monotonic: number } } {
  const at = { wall: 1_000_000, monotonic: 50 };
  return { at, wall: () => at.wall, monotonic: () => at.monotonic, sleep: async () => undefined };
}

describe("3.2: the last look before a request leaves", () => {
  test.each([
    ["nothing passed", 0, 0, true],
    ["just in time on both", 19_999, 19_999, true],
    ["passed on the monotonic clock", 20_000, 0, false],
    ["passed on the wall clock alone: the machine slept", 5, 20_000, false],
    ["a wall clock that ran backwards proves nothing", 5, -1, false],
    ["a wall clock far ahead", 5, 3_600_000, false],
  ])("%s", (_name, monotonic, wall, sends) => {
    const clock = clocks();
    const fence = fenceFrom(clock, 20_000, false);
    clock.at.monotonic += monotonic;
    clock.at.wall += wall;
    const ended = ((): unknown => {
      try {
        return fence();
      } catch (error) {
        return error;
      }
    })();
    expect(ended instanceof FencePassed).toBe(!sends);
    expect((ended as FencePassed | undefined)?.applied).toBe(sends ? undefined : "no");
  });

  test("a second send in one call that comes too late says maybe: the first may have changed something", () => {
    const clock = clocks();
    const fence = fenceFrom(clock, 20_000, false);
    fence();
    clock.at.monotonic += 20_000;
    expect(fence).toThrow(expect.objectContaining({ applied: "maybe", kind: "unavailable" }));
  });
});
