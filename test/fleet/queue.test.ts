import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { GraphileQueue } from "../../src/adapters/graphile-queue.ts";
import { settings, settingsOfUrl } from "../../src/adapters/postgres-settings.ts";
import { startGate } from "../support/gate.ts";
import { postgresPrograms, startPostgres, type Postgres } from "../support/postgres.ts";

const hasPostgres = postgresPrograms() !== null;
const SILENCE = 500;
const DEPS = {
  folder: "/",
  env: {},
  now: Date.now,
  sleep: (ms: number) => sleep(ms),
  debug: () => {},
  announce: () => {},
};
let postgres: Postgres;

beforeAll(async () => {
  if (hasPostgres) postgres = await startPostgres();
});
afterAll(() => postgres?.stop());

function queueOf(database: string, port = postgres.port): GraphileQueue {
  const url = settingsOfUrl(postgres.url({ database, port, query: "sslmode=disable" }));
  return new GraphileQueue(settings.parse(url), DEPS, SILENCE);
}

/** Works until it is stopped; a wake is held until it is let go of. */
function at(queue: GraphileQueue, concurrency = 2) {
  const stop = new AbortController();
  const woken: string[] = [];
  const failures: unknown[] = [];
  let letGo = (): void => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  const ended = queue.work({
    concurrency,
    signal: stop.signal,
    woken: async (secret) => {
      woken.push(secret);
      await held;
      // One after the other, not all of them in one statement.
      await sleep(woken.indexOf(secret) * 30);
    },
    failed: (error) => failures.push(error),
  });
  return { woken, failures, letGo, stop: () => stop.abort(), ended };
}

async function until(holds: () => boolean): Promise<void> {
  for (const began = Date.now(); !holds(); await sleep(20))
    if (Date.now() - began > 15_000) throw new Error("not within 15 s");
}

describe.runIf(hasPostgres)("the queue on graphile-worker", () => {
  test("several begin at once; one wake for each secret, the newest", async () => {
    const database = await postgres.database();
    const [one, other] = [queueOf(database), queueOf(database)];
    await Promise.all([one.prepare(), other.prepare()]);
    await one.add([
      { secret: "a", in: 60_000, seen: "1.0.x" },
      { secret: "b", in: 60_000, seen: "1.0.x" },
    ]);
    await other.add([{ secret: "a", in: 90_000, seen: "2.0.x" }]);
    await other.add([]);
    const waiting = await one.waiting();
    expect([...waiting.keys()].toSorted()).toEqual(["a", "b"]);
    expect(waiting.get("a")).toMatchObject({ seen: "2.0.x", isTaken: false });
    expect(waiting.get("a")?.in).toBeGreaterThan(60_000);
    expect(waiting.get("a")?.in).toBeLessThanOrEqual(90_000);
    await Promise.all([one.close(), other.close()]);
  });

  test(
    "what a worker had begun that no longer says it is alive is handed to another",
    { timeout: 60_000 },
    async () => {
      const database = await postgres.database();
      const [silent, alive] = [queueOf(database), queueOf(database)];
      await silent.prepare();
      const first = at(silent);
      await silent.add([{ secret: "a", in: 0, seen: "1.0.x" }]);
      await until(() => first.woken.length === 1);
      expect((await alive.waiting()).get("a")?.isTaken).toBe(true);
      await alive.beat();
      expect((await alive.waiting()).get("a")?.isTaken).toBe(true);
      await sleep(2 * SILENCE);
      const second = at(alive);
      await alive.beat();
      await until(() => second.woken.length === 1);
      // Added while it is worked on: it comes once more, after its time.
      await alive.add([{ secret: "a", in: 60_000, seen: "2.0.x" }]);
      for (const worker of [first, second]) {
        worker.letGo();
        worker.stop();
        await worker.ended;
      }
      await alive.beat();
      const waiting = await alive.waiting();
      expect([...waiting]).toMatchObject([["a", { seen: "2.0.x", isTaken: false }]]);
      expect([...first.failures, ...second.failures]).toEqual([]);
      await Promise.all([silent.close(), alive.close()]);
    },
  );

  test("a server that is gone for a while", { timeout: 60_000 }, async () => {
    const queue = queueOf(await postgres.database());
    await queue.prepare();
    const worker = at(queue);
    worker.letGo();
    await postgres.restart();
    for (const began = Date.now(); ; await sleep(100)) {
      const added = await queue.add([{ secret: "a", in: 0, seen: "1.0.x" }]).then(
        () => true,
        () => false,
      );
      if (added) break;
      expect(Date.now() - began).toBeLessThan(20_000);
    }
    await until(() => worker.woken.length > 0);
    worker.stop();
    await worker.ended;
    await queue.close();
  });

  test("a server that is gone when several turns end, and comes back: it works on", { timeout: 60_000 }, async () => {
    const gate = await startGate(postgres.port);
    const queue = queueOf(await postgres.database(), gate.port);
    const heard: unknown[] = [];
    const { error, trace, warn } = console;
    onTestFinished(() => void Object.assign(console, { error, trace, warn }));
    const hear = (...words: unknown[]): void => void heard.push(...words);
    Object.assign(console, { error: hear, trace: hear, warn: hear });
    await queue.prepare();
    const worker = at(queue, 6);
    const secrets = ["a", "b", "c", "d", "e", "f"];
    const wakes = secrets.map((secret) => ({ secret, in: 0, seen: "1.0.x" }));
    await queue.add(wakes);
    await until(() => worker.woken.length === secrets.length);
    await gate.set("shut");
    console.trace("as the library does when one of its own workers ends");
    worker.letGo();
    await sleep(3000);
    await gate.set("open");
    worker.woken.length = 0;
    for (const began = Date.now(); worker.woken.length < secrets.length; await sleep(SILENCE / 3)) {
      expect(Date.now() - began).toBeLessThan(20_000);
      await queue.beat().catch(() => {});
    }
    expect(worker.woken.toSorted()).toEqual(secrets);
    worker.stop();
    await worker.ended;
    // What is said there meanwhile is the library's, and not for people.
    expect(heard).toEqual([]);
    console.error("heard again");
    expect(heard).toEqual(["heard again"]);
    await queue.close();
    await gate.close();
  });
});
