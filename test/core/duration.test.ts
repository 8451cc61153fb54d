import * as fc from "fast-check";
import { expect, test } from "vitest";
import { formatAgo, formatDuration, parseDuration } from "../../src/core/duration.ts";

const UNITS = [
  ["w", 604_800_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
] as const;

test.each([
  ["90d", 7_776_000_000],
  ["1h30m", 5_400_000],
  ["0s", 0],
  ["250ms", 250],
  ["1m250ms", 60_250],
  ["2w1d", 1_296_000_000],
  ["007s", 7000],
])("%s is %d ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each([
  "",
  " ",
  "90",
  "d",
  "1.5h",
  "-1h",
  "1h ",
  " 1h",
  "1 h",
  "1H",
  "30m1h",
  "1h1h",
  "1s1s",
  "1y",
  "1hm",
  "∞",
  "1e3s",
  "99999999999999999999d",
  "9007199254740993ms",
  "1h\n",
])("%j is no duration", (text) => {
  expect(parseDuration(text)).toBeNull();
});

test("any counts, the largest unit first, add up", () => {
  const parts = fc.tuple(...UNITS.map(() => fc.option(fc.nat(999), { nil: null })));
  fc.assert(
    fc.property(parts, (counts) => {
      const given = counts.flatMap((count, i) =>
        count === null ? [] : [[count, UNITS[i] as (typeof UNITS)[number]] as const],
      );
      fc.pre(given.length > 0);
      const text = given.map(([count, [unit]]) => `${count}${unit}`).join("");
      expect(parseDuration(text)).toBe(given.reduce((sum, [count, [, size]]) => sum + count * size, 0));
    }),
  );
});

test("any text is a duration or null, never an exception", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."0159wdhms. -") }), (text) => {
      const ms = parseDuration(text);
      expect(ms === null || (Number.isSafeInteger(ms) && ms >= 0)).toBe(true);
    }),
  );
});

test.each([
  [-5, "0 s"],
  [0, "0 s"],
  [0.4, "0 s"],
  [250, "250 ms"],
  [999, "999 ms"],
  [1000, "1 s"],
  [40_000, "40 s"],
  [125_000, "2 min 5 s"],
  [3_600_000, "1 h"],
  [3_659_000, "1 h"],
  [3_660_000, "1 h 1 min"],
  [273_600_000, "3 d 4 h"],
])("%d ms is written %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test("what is written never says more than there is, and at least the largest unit of it", () => {
  const sizes: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, min: 60_000, s: 1000, ms: 1 };
  fc.assert(
    fc.property(fc.nat(40 * 86_400_000), (ms) => {
      const parts = [...formatDuration(ms).matchAll(/(\d+) (d|h|min|ms|s)\b/g)];
      const said = parts.reduce((sum, [, count, unit]) => sum + Number(count) * (sizes[unit as string] as number), 0);
      expect(said).toBeLessThanOrEqual(ms);
      expect(ms - said).toBeLessThan(
        sizes[parts.at(-1)?.[2] as string] === 86_400_000
          ? 3_600_000
          : Math.max(1, sizes[parts[0]?.[2] as string] as number),
      );
    }),
  );
});

test.each([
  [967, "less than 1 s ago"],
  [0, "less than 1 s ago"],
  [1000, "1 s ago"],
  [3967, "3 s ago"],
  [125_400, "2 min 5 s ago"],
])("%d ms ago is %s", (ms, text) => {
  expect(formatAgo(ms)).toBe(text);
});
