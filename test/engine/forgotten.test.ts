import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SqliteState } from "../../src/adapters/state/sqlite.ts";
import type { EngineDeps } from "../../src/engine/deps.ts";
import { Document } from "../../src/engine/document.ts";
import { audit } from "../../src/engine/outbox.ts";
import { say } from "../../src/engine/say.ts";
import type { StateBackend } from "../../src/ports/state.ts";
import { depsOf, Memory, Time } from "./support.ts";

let folder: string;
let state: StateBackend;
let deps: EngineDeps;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-forgotten-"));
  const none = () => undefined;
  state = new SqliteState("state.db", {
    folder,
    env: {},
    now: Date.now,
    sleep: async () => {},
    debug: none,
    announce: none,
  });
  deps = { ...depsOf(new Memory(new Time())), state };
});
afterEach(async () => {
  await state.close();
  rmSync(folder, { recursive: true, force: true });
});

const hold = (reason: string) => say(deps, "one", { word: "hold", reason, until: null });

test("3.12: a secret that comes back goes on with the chain of its audit log", async () => {
  await hold("first life");
  await say(deps, "one", { word: "unhold" });
  for (const life of ["second", "third"]) {
    const there = await state.load("one");
    expect(await state.remove("one", there?.revision ?? "")).toBe("removed");
    await hold(`${life} life`);
  }
  const log = await state.audit.read("one", 10);
  expect(log.map(({ seq, type }) => [seq, type])).toEqual([
    [1, "hold"],
    [2, "unhold"],
    [3, "hold"],
    [4, "hold"],
  ]);
  expect(log.map(({ previous }) => previous)).toEqual(["", ...log.slice(0, -1).map(({ hash }) => hash)]);
  const { outbox } = (await Document.open(deps, "one")).state;
  expect([outbox.seq, outbox.cursors["audit"]]).toEqual([4, 3]);
});

test("an entry that is another one is told apart from a log that does not answer", async () => {
  await hold("true");
  const document = await Document.open(deps, "one");
  const { outbox } = document.state;
  const events = outbox.events.map((event) => ({ ...event, hash: "f".repeat(64) }));
  const forged = { ...document.state, outbox: { ...outbox, events } };
  expect(await audit(deps, forged)).toBe("damaged");
  const silent = new Memory(new Time());
  silent.auditFails = true;
  expect(await audit({ ...deps, state: silent }, document.state)).toBe("unavailable");
});
