import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import Database from "libsql";
import { join } from "node:path";
import { bench, build, policyOf, type Bench, type Json } from "./harness.ts";

let b: Bench;
beforeAll(build);
beforeEach(async () => {
  b = await bench();
  b.policy(policyOf(b.authority.url));
  await b.run("rotate", "--all");
  damage("one");
});
afterEach(() => b.close());

function damage(name: string): void {
  const db = new Database(join(b.folder, ".keyturn/state.db"));
  db.prepare("UPDATE documents SET body = '{broken' WHERE name = ?").run(name);
  db.close();
}

const told = (document: Json): unknown[] =>
  document.secrets.map((one: Json) => [one.name, one.outcome, one.reason === "state-damaged"]);
const [BLOCKED, OTHER] = [
  ["one", "blocked", true],
  ["two", "done", false],
];

test.each(["status", "run", "rotate --all", "plan", "emergency --all --grace 0s --yes"])(
  "one damaged document keeps nobody else waiting: %s",
  async (words) => {
    const { code, document } = await b.json(...words.split(" "));
    expect(code).toBe(words === "status" || words === "plan" ? 0 : 3);
    expect(told(document).map((one) => (one as unknown[]).slice(0, 1))).toEqual([["one"], ["two"]]);
    expect(told(document)).toContainEqual(BLOCKED);
    expect(told(document)).not.toContainEqual(["two", "blocked", true]);
  },
);

test("an emergency of all kills what it can, and says what it cannot", async () => {
  const [leaked] = await b.authority.list("two");
  const { code, stdout, stderr } = await b.run("emergency", "--all", "--grace", "0s", "--yes");
  expect(code).toBe(3);
  expect(stderr).toMatch(/^keyturn: one: blocked: the state in \S+ is damaged/m);
  expect(stdout).toMatch(/^one: nobody knows: /m);
  expect(stdout).not.toMatch(/^one: nothing is served/m);
  const alive = (await b.authority.list("two")).filter(({ status }) => status === "enabled");
  expect(alive.map(({ id }) => id)).not.toContain(leaked?.id);
});

test("check names it, and finds what is wrong with the others", async () => {
  expect(told((await b.json("check", "two")).document)).toEqual([OTHER]);
  const { code, document } = await b.json("check", "--max-age", "0s");
  expect(code).toBe(5);
  expect(document.check).toMatchObject([
    { secret: "one", reason: "state-damaged" },
    { secret: "two", reason: "overdue" },
  ]);
});

test("one that is not in the policy keeps no run from its work", async () => {
  b.policy(policyOf(b.authority.url).replace(/\n {2}one:[\s\S]*?(?=\n {2}two:)/, ""));
  expect(told((await b.json("run")).document)).toEqual([OTHER]);
  expect((await b.run("status")).code).toBe(3);
});

test("the pause of everything is read, or nothing is done", async () => {
  await b.run("pause", "--reason", "x");
  damage("@all");
  const { code, document } = await b.json("run");
  expect([code, document.error?.code]).toEqual([3, "state-damaged"]);
});
