import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { bench, policyOf, type Bench, type Json } from "../cli/harness.ts";
import { CommandLine } from "../support/command-line.ts";

const DAY = 86_400_000;

let cli: CommandLine;
let b: Bench;
beforeAll(() => {
  cli = new CommandLine();
});
beforeEach(async () => {
  b = await bench();
  b.policy(policyOf(b.authority.url));
});
afterEach(() => b.close());
afterAll(() => cli.remove());

const keyturn = (...args: string[]) => cli.run({ folder: b.folder, env: b.env }, ...args);

/** With a wall clock that is so many days ahead. */
async function daysLater(days: number, ...args: string[]): Promise<{ code: number | null; document: Json }> {
  const clock = `const now = Date.now; Date.now = () => now() + ${days * DAY};`;
  const env = { ...b.env, NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(clock)}` };
  const { code, stdout } = await cli.run({ folder: b.folder, env }, "--json", ...args);
  return { code, document: JSON.parse(stdout) };
}

test("names a secret that nothing rotated for 91 days, and since when it is late", async () => {
  await keyturn("rotate", "--all");
  const rotated = Date.now();
  expect((await daysLater(89, "check")).code).toBe(0);
  const { code, document } = await daysLater(91, "check", "one");
  expect([code, document.outcome]).toEqual([5, "found"]);
  expect(document.check).toMatchObject([{ secret: "one", reason: "overdue", fails: true }]);
  expect(document.check[0].message).toMatch(/^due 1 ?d.* ago$/);
  expect(Math.abs(Date.parse(document.check[0].since) - (rotated + 90 * DAY))).toBeLessThan(60_000);

  b.policy(policyOf(b.authority.url, { every: null }));
  expect((await daysLater(91, "check")).code).toBe(0);
  const aged = await daysLater(91, "check", "--max-age", "90d");
  expect(aged.code).toBe(5);
  expect(aged.document.check.map((one: Json) => [one.secret, one.reason])).toEqual([
    ["one", "overdue"],
    ["two", "overdue"],
  ]);
  expect(Math.abs(Date.parse(aged.document.check[0].since) - (rotated + 90 * DAY))).toBeLessThan(60_000);
});

test("--fail-on says which findings count; the others are told", async () => {
  await keyturn("rotate", "one");
  writeFileSync(join(b.folder, "one.env"), "API_KEY=somebody-elses\n");
  expect((await keyturn("rotate", "one")).code).toBe(3);
  const all = await daysLater(0, "check");
  expect(all.document.check.map((one: Json) => [one.secret, one.reason, one.fails])).toEqual([
    ["one", "drift", true],
    ["two", "unmanaged", true],
  ]);
  expect(Math.abs(Date.parse(all.document.check[0].since) - Date.now())).toBeLessThan(60_000);
  const codes = async (words: string) => (await daysLater(0, "check", "--fail-on", words)).code;
  expect([await codes("drift"), await codes("blocked"), await codes("overdue,debt"), await codes("unmanaged")]).toEqual(
    [5, 5, 0, 5],
  );
  const quiet = await daysLater(0, "check", "--fail-on", "overdue", "--fail-on", "expiring");
  expect([quiet.code, quiet.document.outcome]).toEqual([0, "done"]);
  expect(quiet.document.check.map((one: Json) => one.fails)).toEqual([false, false]);
});

test("a first rotation that is blocked is found as both", async () => {
  b.env["ADMIN"] = "wrong";
  const { code } = await keyturn("run", "one");
  expect(code).toBeGreaterThan(0);
  const [wrong] = (await daysLater(0, "status", "one")).document.secrets;
  const found = (await daysLater(0, "check", "one", "--fail-on", wrong.outcome)) as Json;
  expect(found.code).toBe(5);
  expect(found.document.check.map((one: Json) => [one.reason, one.fails])).toEqual([
    ["unmanaged", false],
    [wrong.reason, true],
  ]);
});

test("--grace leaves the schedule time to begin", async () => {
  await keyturn("rotate", "--all");
  expect((await daysLater(91, "check")).code).toBe(5);
  expect((await daysLater(91, "check", "--grace", "2d")).code).toBe(0);
  expect((await daysLater(93, "check", "--grace", "2d")).code).toBe(5);
  expect((await daysLater(91, "check", "--grace", "2d", "--max-age", "90d")).code).toBe(5);
});

test("a word that is none is exit 2, with the nearest one", async () => {
  const { code, stderr } = await keyturn("check", "--fail-on", "debt,overdeu");
  expect(code).toBe(2);
  expect(stderr).toContain('keyturn: --fail-on: unknown word "overdeu": did you mean "overdue"?');
});

test("a state that is gone is found, not taken for good news", async () => {
  await keyturn("rotate", "--all");
  rmSync(join(b.folder, ".keyturn/state.db"));
  const { code, document } = await daysLater(0, "check", "--fail-on", "unmanaged");
  expect(code).toBe(5);
  expect(document.check.map((one: Json) => one.since)).toEqual([null, null]);
});
