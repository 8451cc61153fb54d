import { beforeEach, describe, expect, test } from "vitest";
import { Document } from "../../src/engine/document.ts";
import { say } from "../../src/engine/say.ts";
import { H, S } from "../core/support.ts";
import { depsOf, Memory, Time } from "./support.ts";

let time: Time;
let state: Memory;
beforeEach(() => {
  time = new Time();
  state = new Memory(time);
});

const HOLD = { fact: "said", word: { word: "hold", reason: "why", until: null }, by: "ada", id: "x" } as const;
const AUDITED = { fact: "noticed", event: "failed-use", data: {} } as const;
const types = () => state.document?.state.outbox.events.map(({ type }) => type);

test("a machine that slept, or whose save took long, dates nothing too early", async () => {
  let asleep = 0;
  const real = time.clock();
  const document = await Document.open(
    depsOf(state, "run-a", { ...real, monotonic: () => real.monotonic() - asleep }),
    "payments",
  );
  const lag = () => time.now - document.now().doc;
  const save = state.save.bind(state);
  state.save = async (...args) => {
    const saved = await save(...args);
    time.now += 32 * S;
    return saved;
  };
  await document.commit([HOLD]);
  expect(lag()).toBe(0);
  time.now += 60 * S;
  asleep += 60 * S;
  await document.wake();
  expect(lag()).toBe(0);
});

describe("the document's clock", () => {
  test.each([H, -H])("a wall clock that jumps by %d ms changes nothing", async (jump) => {
    const clock = time.clock();
    const document = await Document.open(depsOf(state, "a", clock), "payments");
    await document.commit([HOLD]);
    const before = document.now().doc;
    time.now += 10 * S;
    clock.jump = jump;
    expect(document.now()).toEqual({ doc: before + 10 * S, wall: time.now + jump });
    await document.commit([HOLD]);
    await document.load();
    expect(document.now().doc).toBe(before + 10 * S);
  });

  test("another runner reads the same time by the age of the revision, whatever its own clock says", async () => {
    const mine = await Document.open(depsOf(state, "a"), "payments");
    await mine.commit([HOLD]);
    time.now += 7 * H;
    const clock = time.clock();
    clock.jump = -3 * H;
    const other = await Document.open(depsOf(state, "b", clock), "payments");
    expect(other.now().doc).toBe(mine.now().doc);
    await other.commit([HOLD]);
    expect(state.document?.state.clock).toBe(mine.now().doc);
  });

  test("it never goes back, even when a load tells of a smaller age than is known here", async () => {
    const document = await Document.open(depsOf(state), "payments");
    await document.commit([HOLD]);
    time.now += 5 * S;
    const before = document.now().doc;
    state.document = state.document && { ...state.document, savedAt: time.now };
    await document.load();
    expect(document.now().doc).toBe(before);
  });
});

describe("commits", () => {
  test("what rests on a sequence falls when the document has moved, and nothing of it is applied", async () => {
    const mine = await Document.open(depsOf(state, "a"), "payments");
    await mine.commit([HOLD]);
    const restsOn = mine.state.seq;
    const other = await Document.open(depsOf(state, "b"), "payments");
    await other.commit([AUDITED]);
    expect(await mine.commit([HOLD], restsOn)).toBe("stale");
    expect(types()).toEqual(["hold", "failed-use"]);
    expect(mine.state.seq).toBe(other.state.seq);
    expect(await mine.commit([HOLD], restsOn)).toBe("stale");
    expect(await mine.commit([HOLD], mine.state.seq)).toBe("saved");
  });

  test("a fact about the world is recorded on whatever is newest, however often somebody is first", async () => {
    const mine = await Document.open(depsOf(state, "a"), "payments");
    const other = await Document.open(depsOf(state, "b"), "payments");
    state.before = async () => {
      await other.commit([HOLD]);
      state.before = async () => void (await other.commit([HOLD]));
    };
    await mine.record([AUDITED]);
    expect(types()).toEqual(["hold", "hold", "failed-use"]);
  });

  test.each(["saved", "lost"] as const)(
    "a save of unknown outcome that was %s is told by its commit id",
    async (unknown) => {
      const document = await Document.open(depsOf(state), "payments");
      state.unknown = unknown;
      expect(await document.commit([HOLD])).toBe(unknown === "saved" ? "saved" : "stale");
      state.unknown = unknown;
      await document.record([AUDITED]);
      expect(types()?.filter((type) => type === "failed-use")).toHaveLength(1);
    },
  );

  test("commits of one process take turns: none is lost, none goes stale by another", async () => {
    const document = await Document.open(depsOf(state), "payments");
    const results = await Promise.all(Array.from({ length: 20 }, () => document.commit([HOLD])));
    expect(new Set(results)).toEqual(new Set(["saved"]));
    expect(state.document?.state.holds).toHaveLength(20);
  });

  test("3.12: events are chained by their hashes across commits", async () => {
    const document = await Document.open(depsOf(state), "payments");
    await document.commit([HOLD, AUDITED]);
    await document.commit([AUDITED]);
    const { events } = document.state.outbox;
    expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(events.map(({ previous }) => previous)).toEqual(["", events[0]?.hash, events[1]?.hash]);
    expect(new Set(events.map(({ hash }) => hash)).size).toBe(3);
  });
});

test("a machine whose clock on the wall is another one says so, and a hold ends by nobody's wall clock", async () => {
  const deps = depsOf(state);
  const until = deps.clock.wall() + 30 * 60_000;
  await say(deps, "payments", { word: "hold", reason: "why", until });
  const warnings: string[] = [];
  const hour = 3_600_000;
  const ahead = { ...deps.clock, wall: () => deps.clock.wall() + hour };
  const elsewhere = { ...deps, clock: ahead, warn: (line: string) => void warnings.push(line) };
  const document = await Document.open(elsewhere, "payments");
  expect(warnings).toEqual([expect.stringMatching(/^this machine's clock is 1 h ahead of the one of /)]);
  const [hold] = document.state.holds;
  expect((hold?.until ?? 0) - document.now().doc).toBeGreaterThan(29 * 60_000);
  const here: string[] = [];
  await Document.open({ ...deps, warn: (line) => void here.push(line) }, "payments");
  expect(here).toEqual([]);
});
