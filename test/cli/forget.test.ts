import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { SqliteState } from "../../src/adapters/state/sqlite.ts";
import type { SecretState } from "../../src/core/model.ts";
import type { StateBackend } from "../../src/ports/state.ts";
import { intent, version } from "../core/support.ts";
import { mint } from "../core/scenes.ts";
import { bench, build, policyOf, type Bench, type Json } from "./harness.ts";

let b: Bench;
let state: StateBackend;
beforeAll(build);
beforeEach(async () => {
  b = await bench();
  b.policy(policyOf(b.authority.url));
  const none = () => undefined;
  const deps = { folder: b.folder, env: {}, now: Date.now, sleep: async () => {}, debug: none, announce: none };
  state = new SqliteState(".keyturn/state.db", deps);
  await b.run("rotate", "one");
});
afterEach(async () => {
  await state.close();
  await b.close();
});

const made = version("v9-new", "minting", { keyId: null, mint: mint() });
const lease = { runner: "other", host: "elsewhere", pid: 1, actor: "ci", since: 0, duration: 60_000 };

async function change(edit: (state: SecretState) => Partial<SecretState>): Promise<void> {
  const there = await state.load("one");
  if (there === null) throw new Error("no document");
  await state.save("one", { ...there.state, ...edit(there.state) }, there.revision);
}

describe("forget", () => {
  test.each<[string, (state: SecretState) => Partial<SecretState>, string]>([
    ["a run works on it", ({ clock }) => ({ lease: { ...lease, renewedAt: clock } }), "ci (elsewhere, process 1)"],
    ["an effect is under way", () => ({ intent: intent("issue", "v9-new") }), "issue of v9-new"],
    [
      "an effect may still take place",
      ({ clock }) => ({ mayLand: [{ ...intent("issue", "v9-new"), until: clock + 60_000 }] }),
      "issue of v9-new",
    ],
  ])("is refused while %s: what it makes would be lost", async (_, edit, told) => {
    await change((before) => ({ versions: [...before.versions, made], ...edit(before) }));
    const { code, stderr } = await b.run("forget", "one", "--yes");
    expect(code).toBe(4);
    expect(stderr).toContain(told);
    expect(await state.load("one")).not.toBeNull();
  });

  test("names a key that was asked for and never answered, and leaves no event untold", async () => {
    await change(({ clock, versions, outbox: { events, ...outbox } }) => ({
      versions: [...versions, made],
      mayLand: [{ ...intent("issue", "v9-new"), until: clock - 1 }],
      outbox: { ...outbox, events: events.slice(0, 0) },
    }));
    const newest = (await state.audit.read("one", 1)).at(-1);
    const hash = "a".repeat(64);
    const event = { at: 0, wall: 0, actor: "ada", type: "hold", data: {}, previous: newest?.hash ?? "", hash } as const;
    const seq = (newest?.seq ?? 0) + 1;
    await change(({ outbox }) => ({ outbox: { ...outbox, events: [{ ...event, seq }], seq, hash } }));
    const { code, document } = await b.json("forget", "one", "--yes");
    expect(code).toBe(0);
    expect(document.forget.leftAlive.map((one: Json) => [one.version, one.keyId === null])).toEqual([
      [expect.stringMatching(/^v1-/), false],
      ["v9-new", true],
    ]);
    expect(document.secrets[0].message).toContain("a key may have been made as v9-new");
    const [last, forgotten] = await state.audit.read("one", 2);
    expect(last).toMatchObject({ seq, hash });
    // Who has done it, and what is nobody's any more.
    expect(forgotten).toMatchObject({ type: "forget", previous: hash, data: { rotation: null } });
    expect(forgotten?.data["leftAlive"]).toMatch(/^\S+, v9-new$/);
    expect((await b.run("history", "one")).stdout).toMatch(/forget/);
  });
});

test("doctor finds an entry of the audit log that the document does not tell of", async () => {
  const examined = async (): Promise<Json[]> => (await b.json("doctor", "one")).document.doctor;
  const found = { part: "audit log", verdict: "warning", reason: "state-damaged" };
  expect(await examined()).not.toContainEqual(expect.objectContaining(found));
  const newest = (await state.audit.read("one", 1)).at(-1);
  if (newest === undefined) throw new Error("no audit log");
  await state.audit.append([{ ...newest, seq: newest.seq + 1, previous: newest.hash, hash: "f".repeat(64) }]);
  expect(await examined()).toContainEqual(expect.objectContaining(found));
  await b.run("hold", "one", "--reason", "why");
  expect(await examined()).toContainEqual(expect.objectContaining(found));
});
