import { PassThrough } from "node:stream";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ProviderError, UserError } from "../../src/core/errors.ts";
import { failureOf, failureText } from "../../src/ui/failure.ts";
import { wantsColour } from "../../src/ui/style.ts";
import { table, whole } from "../../src/ui/table.ts";
import { plain, wrap } from "../../src/ui/text.ts";
import { Terminal } from "../../src/ui/terminal.ts";
import { iso, isoFrom, relative } from "../../src/ui/time.ts";

test.each([
  [0, "now"],
  [900, "now"],
  [-1000, "1 s ago"],
  [3000, "in 3 s"],
  [-59_600, "1 min ago"],
  [180_000, "in 3 min"],
  [-7_200_000, "2 h ago"],
  [86_400_000 * 89.6, "in 90 d"],
])("%d ms is %s", (distance, said) => expect(relative(1e12 + distance, 1e12)).toBe(said));

test("dates are ISO, and what is no date is null", () => {
  expect(iso(0)).toBe("1970-01-01T00:00:00Z");
  expect([iso(null), iso(Infinity), iso(Number.NaN)]).toEqual([null, null, null]);
});

test("what can happen from a moment on is told by the second, however two clocks tell it", () => {
  const opens = Date.UTC(2026, 10, 23, 8);
  for (const told of [-1, 0, 3, 99]) expect(isoFrom(opens + told)).toBe("2026-11-23T08:00:00Z");
  expect([isoFrom(opens + 400), isoFrom(null)]).toEqual(["2026-11-23T08:00:01Z", null]);
});

describe("tables", () => {
  const words = fc.string({ minLength: 0, maxLength: 90 }).map(plain);
  test("fit, and lose nothing but spaces", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(words, words, words), { maxLength: 5 }), (rows) => {
        const text = table(["A", "B", "C"], rows, 80, (cell) => cell);
        for (const line of text.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
        const letters = (all: string) => [...all.replaceAll(/\s/g, "")].toSorted().join("");
        expect(letters(text)).toBe(letters(["A", "B", "C", ...rows.flat()].join("")));
      }),
    );
  });
  test("never break whole words, others give first", () => {
    const rows = [["some longer text", "key_0123456789abcdef and more"]];
    expect(table(["A", whole("KEY")], rows, 32, (cell) => cell).split("\n")).toEqual([
      "A           KEY",
      "some        key_0123456789abcdef",
      "longer      and more",
      "text",
    ]);
    const narrow = table(["A", whole("KEY")], rows, 10, (cell) => cell);
    expect(narrow).toContain("key_0123456789abcdef");
  });
  test.each([
    [{ isTTY: true, columns: 100 }, 100],
    [{ isTTY: true, columns: 0 }, 80],
    [{ isTTY: true, columns: 10 }, 40],
    [{ columns: 100 }, Infinity],
  ])("a stream of %o gives tables %d columns", async (stream, width) => {
    const stdout = Object.assign(new PassThrough(), stream);
    const terminal = await Terminal.open({
      stdin: new PassThrough(),
      stdout,
      stderr: new PassThrough(),
      env: {},
      quiet: false,
      verbose: false,
      noColour: false,
      now: Date.now,
    });
    expect(terminal.width).toBe(width);
  });
  test("wrapping keeps to the width", () =>
    expect(wrap("a longer text here", 8)).toEqual(["a longer", "text", "here"]));
});

test("names from outside cannot steer the terminal", () => {
  expect(plain("a\u001b[2Jb\nc\u202ed")).toBe("a [2Jb c d");
});

test("colours are for terminals that want them", () => {
  expect(wantsColour({}, false, true)).toBe(true);
  expect(wantsColour({}, false, false)).toBe(false);
  expect(wantsColour({ TERM: "dumb" }, false, true)).toBe(false);
  expect(wantsColour({ FORCE_COLOR: "1" }, false, false)).toBe(true);
  expect(wantsColour({ FORCE_COLOR: "0" }, false, true)).toBe(false);
  expect(wantsColour({ NO_COLOR: "1", FORCE_COLOR: "1" }, false, true)).toBe(false);
  expect(wantsColour({ FORCE_COLOR: "1" }, true, true)).toBe(false);
});

describe("failures", () => {
  test("our own are told in full", () => {
    const user = failureOf(new UserError("usage", "one\ntwo", { hints: ["do that"] }));
    expect(failureText(user, false)).toBe("keyturn: one\nkeyturn: two\nhint: do that");
    expect(failureOf(new ProviderError("denied", "no", "the store says no"))).toMatchObject({
      code: "denied",
      exit: 1,
    });
  });
  test("anybody else's text stays unsaid, with its stack frames only when asked", () => {
    const bug = failureOf(new TypeError("token s3cret\n    at s3cret (s3cret)"));
    expect(bug).toMatchObject({ code: "bug", exit: 1 });
    expect(failureText(bug, false)).not.toContain("    at ");
    expect(failureText(bug, true)).toContain("    at ");
    expect(failureText(bug, true)).not.toContain("s3cret");
    expect(failureOf("s3cret").lines.join()).not.toContain("s3cret");
  });
});
