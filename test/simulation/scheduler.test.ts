import { expect, test } from "vitest";
import { Process } from "./process.ts";
import type { Fate } from "./process.ts";
import { Random } from "./random.ts";
import { Scheduler } from "./scheduler.ts";

function processOn(scheduler: Scheduler, fates: readonly Fate[] = []): Process {
  return new Process(scheduler, "p", "host", 1, new Random(1), 0, fates, () => {});
}

function start(scheduler: Scheduler, process: Process, body: () => Promise<void>): void {
  scheduler.after(0, () => void body(), process);
}

test("a killed process runs nothing any more, its finally neither", async () => {
  const scheduler = new Scheduler(new Random(1));
  const process = processOn(scheduler, [{ kind: "crash", point: "there", ms: 0 }]);
  const seen: string[] = [];
  start(scheduler, process, async () => {
    try {
      await process.pause(10, "here");
      seen.push("here");
      await process.pause(10, "there");
      seen.push("there");
    } finally {
      seen.push("finally");
    }
  });
  start(scheduler, process, async () => {
    await process.pause(50, "beside");
    seen.push("beside");
  });
  await scheduler.drive(() => false);
  expect(seen).toEqual(["here"]);
});

test("a stopped process gets its wakes once it goes on; asleep, its monotonic clock has stood still", async () => {
  const scheduler = new Scheduler(new Random(1));
  const process = processOn(scheduler, [{ kind: "stop", point: "nap", ms: 60_000, asleep: true }]);
  let woken = { at: 0, wall: 0, monotonic: 0 };
  start(scheduler, process, async () => {
    const [wall, monotonic] = [process.wall(), process.monotonic()];
    await process.pause(10, "nap");
    woken = { at: scheduler.now, wall: process.wall() - wall, monotonic: process.monotonic() - monotonic };
  });
  await scheduler.drive(() => false);
  expect(woken).toEqual({ at: 60_000, wall: 60_000, monotonic: 0 });
});

test("a sleep ends when its signal aborts", async () => {
  const scheduler = new Scheduler(new Random(1));
  const process = processOn(scheduler);
  const control = new AbortController();
  let woken = 0;
  start(scheduler, process, async () => {
    await process.sleep(Infinity, control.signal);
    woken = scheduler.now;
  });
  scheduler.at(500, () => control.abort());
  await scheduler.drive(() => false);
  expect(woken).toBe(500);
});

test("what is due at the same instant happens in an order of the seed's choosing, and long chains come to rest in between", async () => {
  const orders = new Set<string>();
  for (let seed = 0; seed < 20; seed++) {
    const scheduler = new Scheduler(new Random(seed));
    let order = "";
    for (const name of ["a", "b"]) {
      const process = processOn(scheduler);
      start(scheduler, process, async () => {
        for (let i = 0; i < 100; i++) await Promise.resolve();
        order += name + name.toUpperCase();
      });
    }
    await scheduler.drive(() => false);
    orders.add(order);
  }
  expect([...orders].toSorted()).toEqual(["aAbB", "bBaA"]);
});
