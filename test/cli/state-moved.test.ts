import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SqliteState } from "../../src/adapters/state/sqlite.ts";
import { EVERYTHING } from "../../src/commands/choose.ts";
import { move, stillHere } from "../../src/commands/state-moved.ts";
import { UserError } from "../../src/core/errors.ts";
import { newState } from "../../src/core/model.ts";
import type { EngineDeps } from "../../src/engine/deps.ts";
import { say } from "../../src/engine/say.ts";
import type { StateBackend } from "../../src/ports/state.ts";
import { depsOf, Memory, Time } from "../engine/support.ts";

/** Calls that write until a move of three documents is over, and some more. */
const CALLS = 22;

let folder: string;
let made = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-moved-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function place(): StateBackend {
  const none = () => undefined;
  const deps = { folder, env: {}, now: Date.now, sleep: async () => {}, debug: none, announce: none };
  return new SqliteState(`state-${++made}.db`, deps);
}

function depsAt(state: StateBackend): EngineDeps {
  return { ...depsOf(new Memory(new Time())), state };
}

/** Somebody's command, from its start to its end. */
async function hold(state: StateBackend, name: string, reason: string): Promise<boolean> {
  try {
    return (await say(depsAt(await stillHere(state)), name, { word: "hold", reason, until: null })).ok;
  } catch (error) {
    if (error instanceof UserError && error.code === "state-moved") return false;
    throw error;
  }
}

/** Before each call that writes, `first` is told which one it is. */
function watched(state: StateBackend, first: () => Promise<void>): StateBackend {
  return {
    location: state.location,
    loadAll: () => state.loadAll(),
    load: (name) => state.load(name),
    save: async (...args) => (await first(), state.save(...args)),
    remove: async (...args) => (await first(), state.remove(...args)),
    audit: {
      append: async (...args) => (await first(), state.audit.append(...args)),
      read: (...args) => state.audit.read(...args),
    },
    close: () => state.close(),
  };
}

async function holds(state: StateBackend): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for await (const loaded of (await stillHere(state)).loadAll())
    if (loaded.state.name !== EVERYTHING) found[loaded.state.name] = loaded.state.holds.map(({ reason }) => reason);
  return found;
}

async function scene(nth: number, happens: (source: StateBackend) => Promise<void>) {
  const [source, target] = [place(), place()];
  for (const name of ["one", "two"]) await hold(source, name, "before");
  await say(depsAt(source), EVERYTHING, { word: "pause", reason: "a move" });
  let calls = 0;
  const first = async (): Promise<void> => {
    if (++calls === nth) await happens(source);
  };
  const moving = () => move(watched(source, first), watched(target, first), depsAt(source));
  const close = () => Promise.all([source.close(), target.close()]);
  return { source, target, moving, close, reached: () => calls >= nth };
}

describe("state migrate, whatever comes in between", () => {
  test.each(Array.from({ length: CALLS }, (_, index) => index + 1))("killed at its write number %d", async (nth) => {
    const { source, target, moving, close, reached } = await scene(nth, async () => {
      throw new Error("killed");
    });
    const isKilled = await moving().then(
      () => false,
      () => true,
    );
    expect(isKilled).toBe(reached());
    if (isKilled) await moving();
    expect(await holds(target)).toEqual({ one: ["before"], two: ["before"] });
    await expect(stillHere(source)).rejects.toMatchObject({ code: "state-moved" });
    expect((await target.audit.read("one", 10)).map(({ type }) => type)).toEqual(["hold"]);
    // And back again.
    await move(target, source, depsAt(target));
    expect(await holds(source)).toEqual({ one: ["before"], two: ["before"] });
    await close();
  });

  for (const name of ["one", "two", "three"])
    test.each(Array.from({ length: CALLS }, (_, index) => index + 1))(
      `a word to ${name} before its write number %d is obeyed where the state is, or refused`,
      async (nth) => {
        let said = false;
        const { source, target, moving, close } = await scene(nth, async (at) => {
          said = await hold(at, name, "meanwhile");
        });
        const expected = { one: ["before"], two: ["before"] } as Record<string, string[]>;
        const failure = await moving().then(
          () => null,
          (error: UserError) => error.code,
        );
        if (said) (expected[name] ??= []).push("meanwhile");
        const left = failure && { failure, source: await holds(source), target: await holds(target) };
        const refused = { failure: "locked", source: expected, target: {} };
        expect([null, refused]).toContainEqual(left);
        if (failure !== null) await move(source, target, depsAt(source));
        expect(await holds(target)).toEqual(expected);
        await expect(stillHere(source)).rejects.toMatchObject({ code: "state-moved" });
        await close();
      },
    );
});

test("a new secret that a stopped process saves in the old place is taken back", async () => {
  const [source, target] = [place(), place()];
  await hold(source, "one", "before");
  const slow = await stillHere(source);
  expect(await slow.load("new")).toBeNull();
  await move(source, target, depsAt(source));
  const made = { ...newState("new", 0), commitId: "c" };
  await expect(slow.save("new", made, null)).rejects.toMatchObject({ code: "state-moved" });
  expect(await source.load("new")).toBeNull();
  await Promise.all([source.close(), target.close()]);
});

test.each(Array.from({ length: CALLS }, (_, index) => index + 2))(
  "killed at its write number %d and gone on with by others, it ends when it is called again",
  async (nth) => {
    const { source, target, moving, close } = await scene(nth, async () => {
      throw new Error("killed");
    });
    const isWhole = await moving().then(
      () => true,
      () => false,
    );
    const said = { one: ["before"], two: ["before"] };
    // Whichever of the two answers; never both.
    const answers = [await hold(source, "one", "later"), !isWhole && (await hold(target, "one", "later"))];
    expect(answers).not.toEqual([true, true]);
    if (answers.includes(true)) said.one.push("later");
    if (!isWhole) await move(source, target, depsAt(source));
    expect(await holds(target)).toEqual(said);
    await expect(stillHere(source)).rejects.toMatchObject({ code: "state-moved" });
    await close();
  },
);

test.each(Array.from({ length: CALLS }, (_, index) => index + 1))(
  "two at once, the second before write number %d of the first: once both have ended, one more ends it",
  async (nth) => {
    let second: Promise<unknown> = Promise.resolve();
    const { source, target, moving, close } = await scene(nth, async () => {
      second = move(source, target, depsAt(source)).catch(() => {});
      await second;
    });
    await moving().catch((error: UserError) => {
      if (error.code !== "locked" && error.code !== "state-occupied") throw error;
    });
    await second;
    await move(source, target, depsAt(source));
    expect(await holds(target)).toEqual({ one: ["before"], two: ["before"] });
    await close();
  },
);
