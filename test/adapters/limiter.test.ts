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

/** When each of `count` calls that come at once goes out. */
async function burst(limiter: Limiter, time: VirtualTime, count: number): Promise<number[]> {
  const sent: number[] = [];
  const calls = Array.from({ length: count }, async () => {
    await limiter.admit(new AbortController().signal);
    sent.push(time.now);
  });
  await time.run();
  await Promise.all(calls);
  return sent;
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
      await limiter.admit(new AbortController().signal);
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
    await burst(limiter, time, 500);
    expect(time.now).toBe(0);
    limiter.throttled(null);
    const sent = await burst(limiter, time, 50);
    expect(sent[0]).toBeGreaterThanOrEqual(500);
    expect(time.said[0]).toBe("iam: throttled, now 250.0 calls a second");
  });

  it("does not crawl after a stray refusal of one of few calls", async () => {
    const time = new VirtualTime();
    const limiter = new Limiter("sts", null, time.deps);
    await burst(limiter, time, 2);
    limiter.throttled(0);
    await burst(limiter, time, 10);
    expect(time.now).toBeLessThanOrEqual(1100);
  });

  it("halves at each throttling and finds its way back", async () => {
    const time = new VirtualTime();
    const limiter = new Limiter("iam", null, time.deps);
    await burst(limiter, time, 32);
    for (let i = 0; i < 4; i++) limiter.throttled(0);
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
    for (let i = 0; i < 50; i++) limiter.throttled(0);
    await burst(limiter, time, 3);
    expect(time.now).toBeLessThan(16_000);
  });
});

it("waits as long as the provider asks", async () => {
  const time = new VirtualTime();
  const limiter = new Limiter("writes", 50, time.deps);
  limiter.throttled(7000);
  const sent = await burst(limiter, time, 5);
  expect(sent[0]).toBeGreaterThanOrEqual(7000);
});

it("gives up with the signal, and nothing has happened", async () => {
  const time = new VirtualTime();
  const limiter = new Limiter("writes", 2, time.deps);
  await limiter.admit(new AbortController().signal);
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
  theirs.throttled(null);
  const [told, ...others] = limiters.told();
  expect(others).toEqual([]);
  expect(told).toMatchObject({ quota: "writes eu-west-1", heldBack: 3, throttled: 1 });
  expect(told?.heldFor).toBeCloseTo(sent.reduce((sum, at) => sum + at, 0));
});
