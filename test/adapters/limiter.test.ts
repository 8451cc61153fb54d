import { describe, expect, it } from "vitest";
import { Limiter, Limiters } from "../../src/adapters/limiter.ts";

/** Time that passes only while somebody sleeps, in order of waking. */
class VirtualTime {
  now = 0;
  readonly said: string[] = [];
  readonly #sleepers: { at: number; wake: () => void }[] = [];

  readonly deps = {
    now: () => this.now,
    random: () => 0.5,
    debug: (line: string) => void this.said.push(line),
    sleep: (ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        if (signal?.aborted) return reject(new Error("aborted"));
        signal?.addEventListener("abort", () => reject(new Error("aborted")));
        this.#sleepers.push({ at: this.now + ms, wake: resolve });
      }),
  };

  /** Runs until nobody sleeps any more. */
  async run(): Promise<void> {
    for (;;) {
      for (let i = 0; i < 10; i++) await Promise.resolve();
      const next = this.#sleepers.sort((a, b) => a.at - b.at).shift();
      if (next === undefined) return;
      this.now = Math.max(this.now, next.at);
      next.wake();
    }
  }
}

const unending = (): AbortSignal => new AbortController().signal;

/** When each of `count` calls that come at once goes out. */
async function burst(limiter: Limiter, time: VirtualTime, count: number): Promise<number[]> {
  const sent: number[] = [];
  const calls = Array.from({ length: count }, async () => {
    await limiter.admit(unending());
    sent.push(time.now);
  });
  await time.run();
  await Promise.all(calls);
  return sent;
}

/** So many calls that come at once, each of them throttled. */
async function refused(limiter: Limiter, time: VirtualTime, count: number): Promise<void> {
  const places = Array.from({ length: count }, () => limiter.admit(unending()));
  await time.run();
  for (const place of await Promise.all(places)) limiter.throttled(place, 0);
}

/** The most that left within any one second. */
function peak(sent: readonly number[]): number {
  return Math.max(...sent.map((from) => sent.filter((at) => at >= from && at < from + 1000).length));
}

describe("a published quota", () => {
  it.each([
    [50, 200],
    [3, 12],
    [2, 8],
  ])("%i a second: never more, and not much less", async (quota, count) => {
    const time = new VirtualTime();
    const sent = await burst(new Limiter("writes", quota, time.deps), time, count);
    expect(sent).toHaveLength(count);
    expect(peak(sent)).toBeLessThanOrEqual(quota);
    expect(time.now).toBeLessThanOrEqual((count / quota) * 1000 * 2.1);
  });

  it("holds nobody back who comes slowly", async () => {
    const time = new VirtualTime();
    const limiter = new Limiter("writes", 50, time.deps);
    for (let i = 0; i < 20; i++) {
      await limiter.admit(unending());
      time.now += 100;
    }
    expect([time.now, time.said]).toEqual([2000, []]);
  });

  it("says so when it holds a call back", async () => {
    const time = new VirtualTime();
    await burst(new Limiter("writes eu-west-1", 3, time.deps), time, 3);
    expect(time.said[0]).toMatch(/^writes eu-west-1: held back for \d+ ms$/);
  });
});

describe("no published quota", () => {
  it("holds nothing back until it is throttled", async () => {
    const time = new VirtualTime();
    const limiter = new Limiter("iam", null, time.deps);
    await burst(limiter, time, 499);
    const place = await limiter.admit(unending());
    expect(time.now).toBe(0);
    limiter.throttled(place, null);
    const sent = await burst(limiter, time, 50);
    expect(sent[0]).toBeGreaterThanOrEqual(500);
    expect(time.said[0]).toBe("iam: throttled, now 250.0 calls a second");
  });

  it("does not crawl after a stray refusal of one of few calls", async () => {
    const time = new VirtualTime();
    const limiter = new Limiter("sts", null, time.deps);
    await refused(limiter, time, 2);
    await burst(limiter, time, 10);
    expect(time.now).toBeLessThanOrEqual(1100);
  });

  it("takes the answers to calls that were in the air together for one sign", async () => {
    const [one, all] = [new VirtualTime(), new VirtualTime()];
    const [patient, hasty] = [new Limiter("s3", null, one.deps), new Limiter("s3", null, all.deps)];
    await burst(patient, one, 31);
    await refused(patient, one, 1);
    await refused(hasty, all, 32);
    expect(await burst(hasty, all, 100)).toEqual(await burst(patient, one, 100));
    expect(hasty.counts.throttled).toBe(32);
  });

  it("waits for the longest that was asked for, whichever of them asked", async () => {
    const time = new VirtualTime();
    const limiter = new Limiter("s3", null, time.deps);
    const [one, two] = [await limiter.admit(unending()), await limiter.admit(unending())];
    limiter.throttled(two, 1000);
    limiter.throttled(one, 7000);
    expect((await burst(limiter, time, 1))[0]).toBeGreaterThanOrEqual(7000);
  });

  it("halves at each throttling and finds its way back", async () => {
    const time = new VirtualTime();
    const limiter = new Limiter("iam", null, time.deps);
    await refused(limiter, time, 32);
    for (let i = 0; i < 3; i++) await refused(limiter, time, 1);
    const slow = await burst(limiter, time, 10);
    expect(peak(slow)).toBeLessThanOrEqual(3);
    for (let i = 0; i < 2000; i++) limiter.succeeded();
    const before = time.now + 10_000;
    time.now = before;
    await burst(limiter, time, 100);
    expect(time.now).toBe(before);
  });

  it("never comes to a halt", async () => {
    const time = new VirtualTime();
    const limiter = new Limiter("iam", null, time.deps);
    for (let i = 0; i < 50; i++) await refused(limiter, time, 1);
    const before = time.now;
    await burst(limiter, time, 3);
    expect(time.now - before).toBeLessThan(16_000);
  });
});

it("waits as long as the provider asks", async () => {
  const time = new VirtualTime();
  const limiter = new Limiter("writes", 50, time.deps);
  limiter.throttled(await limiter.admit(unending()), 7000);
  const sent = await burst(limiter, time, 5);
  expect(sent[0]).toBeGreaterThanOrEqual(7000);
});

it("gives up with the signal, and nothing has happened", async () => {
  const time = new VirtualTime();
  const limiter = new Limiter("writes", 2, time.deps);
  await limiter.admit(unending());
  const stop = new AbortController();
  const waiting = limiter.admit(stop.signal);
  stop.abort();
  await expect(waiting).rejects.toMatchObject({ name: "ProviderError", kind: "unavailable", applied: "no" });
});

it("is shared by those who share a quota, and counts what it did", async () => {
  const limiters = new Limiters();
  const time = new VirtualTime();
  const ours = limiters.of("writes eu-west-1", "", 5, time.deps);
  expect(limiters.of("writes eu-west-1", "", 5, time.deps)).toBe(ours);
  const theirs = limiters.of("writes eu-west-1", "admin-123456789012", 5, time.deps);
  expect(theirs).not.toBe(ours);
  expect(limiters.told()).toEqual([{ quota: "writes eu-west-1", heldBack: 0, heldFor: 0, throttled: 0 }]);
  const sent = await burst(ours, time, 4);
  theirs.throttled(await theirs.admit(unending()), null);
  const [told, ...others] = limiters.told();
  expect(others).toEqual([]);
  expect(told).toMatchObject({ quota: "writes eu-west-1", heldBack: 3, throttled: 1 });
  expect(told?.heldFor).toBeCloseTo(sent.reduce((sum, at) => sum + at, 0));
});
