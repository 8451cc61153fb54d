import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ProviderError } from "../../src/core/errors.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { KeyUsage, UsageMonitor } from "../../src/ports/usage.ts";

/** A signal with nothing in it yet but what is always there. */
export interface MonitorUnderTest {
  /** The monitor as one more process would make it. */
  open(): UsageMonitor;
  /** `who` uses a key with success, now, and the signal shows it once this resolves. */
  use(keyId: string, who: string): Promise<void>;
  /** Time passes with other traffic, and no use of any key that is asked about. */
  pass(): Promise<void>;
  /** The signal's clock, ms. Default: this machine's. */
  now?(): number;
  /** The signal is cut: what happens from now on is not seen. */
  cut(): Promise<void>;
  dispose(): Promise<void>;
}

export interface UsageContractOptions {
  /** Two keys. They may hold what a query language, a URL or a pattern takes for its own. */
  readonly keys: readonly [string, string];
  /** Whether its silence means something. Default: true. */
  readonly provesSilence?: boolean;
  /** Whether it knows the keys by itself, so that it can say of one that it never was used. Default: false. */
  readonly knowsKeys?: boolean;
  /** Clocks may differ so much, ms. Default: 2000. */
  readonly skew?: number;
}

/** A look; it has no time of its own and changes nothing, so that its fence is never asked. */
export function lookCtx(signal = new AbortController().signal): Ctx {
  const fence = (): never => {
    throw new Error("a look was fenced");
  };
  return { signal, fence, attempt: 1, rotationId: null };
}

/** What `src/ports/usage.ts` asks of every monitor. */
export function usageContract(
  name: string,
  options: UsageContractOptions,
  make: () => Promise<MonitorUnderTest>,
): void {
  const { keys, provesSilence = true, knowsKeys = false, skew = 2000 } = options;
  const [old, fresh] = keys;
  describe(`${name}: usage contract`, () => {
    let signal: MonitorUnderTest;
    let began: number;
    const now = () => signal.now?.() ?? Date.now();
    beforeEach(async () => {
      signal = await make();
      began = now();
    });
    afterEach(() => signal.dispose());

    const look = async (): Promise<Record<string, KeyUsage>> => {
      const answer = await signal.open().usageOf(keys, 0, lookCtx());
      expect([...answer.keys()].toSorted()).toEqual([...keys].toSorted());
      for (const { status, from, until, why, events } of answer.values()) {
        expect(from).toBeLessThanOrEqual(until);
        expect(until).toBeLessThanOrEqual(now() + skew);
        expect(why ?? "").toMatch(status === "unknown" ? /\w+ \w+/ : /^$/);
        for (const { first, last, count } of events) {
          expect(first).toBeLessThanOrEqual(last);
          expect(count).toBeGreaterThanOrEqual(1);
        }
      }
      return Object.fromEntries(answer);
    };
    const names = (usage: KeyUsage | undefined) =>
      new Set(usage?.events.filter(({ outcome, own }) => outcome === "ok" && own !== true).map(({ who }) => who));

    it("says who used which key, and when", async () => {
      const { granularity, names: named } = signal.open().traits;
      await signal.use(old, "checkout-1");
      await signal.use(old, "billing-1");
      await signal.use(fresh, "checkout-1");
      const seen = await look();
      const expected = (...who: string[]) => new Set(named === "consumer" ? who : [""]);
      expect(names(seen[old])).toEqual(expected("checkout-1", "billing-1"));
      expect(names(seen[fresh])).toEqual(expected("checkout-1"));
      for (const { last } of seen[old]?.events ?? []) {
        expect(last).toBeGreaterThanOrEqual(began - granularity - skew);
        expect(last).toBeLessThanOrEqual(now() + granularity + skew);
      }
    });

    it("concludes nothing before it has seen one of the keys, or knows them", async () => {
      await signal.pass();
      const seen = await look();
      const never = { status: knowsKeys ? "covered" : "unknown", events: [] };
      expect(seen).toMatchObject({ [old]: never, [fresh]: never });
    });

    it("proves a key's silence while others are used, if it can prove silence at all", async () => {
      await signal.use(old, "checkout-1");
      const before = (await look())[old];
      await signal.pass();
      await signal.use(fresh, "checkout-1");
      const after = await look();
      const status = provesSilence ? "covered" : "unknown";
      expect([after[old]?.status, after[fresh]?.status]).toEqual([status, status]);
      expect(after[old]?.until).toBeGreaterThan(before?.until ?? Infinity);
      expect(after[old]?.until).toBeGreaterThan(Math.max(...(after[old]?.events.map(({ last }) => last) ?? [])));
      expect(names(after[old]).size).toBe(1);
    });

    it("says the same twice", async () => {
      await signal.use(old, "checkout-1");
      await signal.pass();
      const [first, second] = [await look(), await look()];
      for (const key of keys) {
        expect(names(second[key])).toEqual(names(first[key]));
        expect(second[key]?.status).toBe(first[key]?.status);
      }
    });

    it("takes a signal that is cut for no silence", async () => {
      await signal.use(old, "checkout-1");
      await signal.pass();
      await signal.cut();
      const statuses = look().then((seen) => Object.values(seen).map(({ status }) => status));
      const answer = await statuses.catch(({ name, applied }: ProviderError) => [name, applied]);
      expect([
        ["unknown", "unknown"],
        ["ProviderError", "no"],
      ]).toContainEqual(answer);
    });

    it("gives up when it is told to", async () => {
      await signal.use(old, "checkout-1");
      await expect(signal.open().usageOf(keys, 0, lookCtx(AbortSignal.abort()))).rejects.toBeInstanceOf(ProviderError);
    });
  });
}
