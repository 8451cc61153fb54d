import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SqliteState } from "../../src/adapters/state/sqlite.ts";
import { EVERYTHING } from "../../src/commands/choose.ts";
import { contentOf, restore } from "../../src/commands/state-content.ts";
import { move } from "../../src/commands/state-move.ts";
import { stillHere } from "../../src/commands/state-moved.ts";
import { UserError } from "../../src/core/errors.ts";
import { newState } from "../../src/core/model.ts";
import type { EngineDeps } from "../../src/engine/deps.ts";
import { say } from "../../src/engine/say.ts";
import type { Loaded, StateBackend } from "../../src/ports/state.ts";
import { depsOf, Memory, Time } from "../engine/support.ts";

/** Calls that write until a move of three documents is over, and some more. */
const CALLS = 26;

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
  "two at once, the second before write number %d of the first, which wakes once the place is in use",
  async (nth) => {
    let isSecondDone = false;
    const { source, target, moving, close } = await scene(nth, async () => {
      isSecondDone = await move(source, target, depsAt(source)).then(
        () => true,
        () => false,
      );
      if (isSecondDone && !(await hold(target, "one", "later"))) throw new Error("it does not answer");
    });
    const isFirstDone = await moving().then(
      () => true,
      () => false,
    );
    const said = { one: isSecondDone ? ["before", "later"] : ["before"], two: ["before"] };
    const isLeft = await stillHere(source).then(
      () => false,
      () => true,
    );
    const hasArrived = await holds(target).catch(() => null);
    // What has ended stays so, and never do both answer.
    const isMoved = isSecondDone || isFirstDone;
    expect([isMoved && !isLeft, hasArrived ?? {}]).toEqual([false, isMoved ? said : {}]);
    await move(source, target, depsAt(source));
    expect(await holds(target)).toEqual(said);
    await close();
  },
);

test("the same move again, once it has ended, changes nothing there", async () => {
  const { target, moving, close } = await scene(0, async () => {});
  expect(await moving()).toMatchObject({ before: false });
  const one = await target.load("one");
  expect(await target.remove("one", one?.revision ?? "")).toBe("removed");
  expect(await moving()).toMatchObject({ before: true });
  expect(await holds(target)).toEqual({ two: ["before"] });
  await close();
});

test("a secret that was forgotten is forgotten at the new place, too, and its log goes on there", async () => {
  const { source, target, moving, close } = await scene(0, async () => {});
  const one = await source.load("one");
  await source.remove("one", one?.revision ?? "");
  await moving();
  expect(await target.load("one")).toBeNull();
  expect(await hold(target, "one", "again")).toBe(true);
  expect((await target.audit.read("one", 10)).map(({ seq }) => seq)).toEqual([1, 2]);
  await close();
});

describe("a backup", () => {
  const logOf = async (state: StateBackend) =>
    (await state.audit.read("one", 10)).map(({ seq, data }) => [seq, data["reason"]]);

  test("has no entry that its documents do not tell of", async () => {
    const [source, target] = [place(), place()];
    await hold(source, "one", "before");
    const early: StateBackend = {
      ...watched(source, async () => {}),
      // The documents are read, and then something happens.
      async *loadAll() {
        const all: Loaded[] = [];
        for await (const loaded of source.loadAll()) all.push(loaded);
        await hold(source, "one", "later");
        yield* all;
      },
    };
    await restore(target, await contentOf(early));
    expect(await logOf(target)).toEqual([[1, "before"]]);
    expect(await hold(target, "one", "again")).toBe(true);
    expect(await logOf(target)).toEqual([
      [1, "before"],
      [2, "again"],
    ]);
    await Promise.all([source.close(), target.close()]);
  });

  test("comes back to a place whose log went on, and goes on from its end", async () => {
    const state = place();
    await hold(state, "one", "before");
    const backup = await contentOf(state);
    await hold(state, "one", "later");
    const one = await state.load("one");
    await state.remove("one", one?.revision ?? "");
    await restore(state, backup);
    expect(await holds(state)).toEqual({ one: ["before"] });
    expect(await hold(state, "one", "again")).toBe(true);
    expect(await logOf(state)).toEqual([
      [1, "before"],
      [2, "later"],
      [3, "again"],
    ]);
    await state.close();
  });

  test("where the log is another one from the start on, it is kept as well", async () => {
    const [source, state] = [place(), place()];
    await hold(source, "one", "there");
    await hold(state, "one", "here");
    const one = await state.load("one");
    await state.remove("one", one?.revision ?? "");
    await restore(state, await contentOf(source));
    expect(await hold(state, "one", "again")).toBe(true);
    expect(await logOf(state)).toEqual([
      [1, "here"],
      [2, "again"],
    ]);
    await expect(move(source, state, depsAt(source))).rejects.toMatchObject({ code: "state-occupied" });
    await Promise.all([source.close(), state.close()]);
  });
});
