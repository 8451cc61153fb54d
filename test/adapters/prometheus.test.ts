import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { adapter } from "../../src/adapters/usage/prometheus.ts";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { KeyUsage } from "../../src/ports/usage.ts";
import { lookCtx, usageContract } from "../contract/usage.ts";
import { hasPrometheus, SCRAPE, startPrometheus, type Prometheus } from "../support/prometheus.ts";

const STEP = 250;
/** Until a use certainly shows, and until it certainly lies before what is covered. */
const SHOWN = STEP + 2 * SCRAPE;
const PASSED = 4 * STEP;

const deps: AdapterDeps = {
  folder: "/",
  env: {},
  now: Date.now,
  sleep: async (ms) => void (await sleep(ms)),
  debug: () => {},
  announce: () => {},
};

let prometheus: Prometheus;
let traffic: NodeJS.Timeout;
let round = 0;

describe.runIf(hasPrometheus())("prometheus", () => {
  beforeAll(async () => {
    prometheus = await startPrometheus();
  });
  afterAll(() => prometheus.stop());

  /** Every test has counters of its own. */
  const begin = async () => {
    round += 1;
    const mine = String(round);
    traffic = setInterval(() => prometheus.exporter.add("traffic_total", { round: mine }), 50);
    await sleep(PASSED);
  };
  const end = () => clearInterval(traffic);
  const use = async (key: string, client: string, by?: number) => {
    prometheus.exporter.add("requests_total", { round: String(round), key, client }, by);
    await sleep(SHOWN);
  };
  const monitor = (options: Partial<Parameters<typeof adapter.settings.parse>[0] & object> = {}) =>
    adapter.create(
      adapter.settings.parse({
        url: `${prometheus.url}/`,
        counter: `requests_total{round="${round}",key="$key"}`,
        consumer: "client",
        targets: 'up{job="gateway"}',
        traffic: `increase(traffic_total{round="${round}"}[500ms])`,
        step: `${STEP}ms`,
        pause: "2s",
        history: "1h",
        ...options,
      }),
      "s",
      deps,
    );

  usageContract("prometheus", { keys: ['AK"old\\1', "AK.new{}"], skew: 2 * STEP }, async () => {
    await begin();
    return {
      open: () => monitor(),
      use,
      pass: () => sleep(PASSED),
      cut: async () => {
        end();
        await sleep(3000);
      },
      dispose: async () => end(),
    };
  });

  describe("counters", () => {
    beforeEach(async () => {
      await begin();
      return end;
    });
    const look = async (options = {}): Promise<KeyUsage> => {
      const seen = await monitor(options).usageOf(["AK-1", "AK-2"], 0, lookCtx());
      return seen.get("AK-1") as KeyUsage;
    };

    test("the first use of all, a later one, and the silence in between", async () => {
      await use("AK-1", "checkout");
      const first = await look();
      expect(first).toMatchObject({ status: "covered", events: [{ who: "checkout", outcome: "ok", own: false }] });
      await sleep(PASSED);
      const quiet = await look();
      expect(quiet.events[0]?.last).toBe(first.events[0]?.last);
      await use("AK-1", "checkout");
      const again = await look();
      expect(again.events).toHaveLength(1);
      expect(again.events[0]?.last).toBeGreaterThan(first.events[0]?.last ?? Infinity);
      expect(again.events[0]?.longestGap).toBeGreaterThan(PASSED - STEP);
    });

    test("a counter that starts anew counts as a use when it is there again", async () => {
      await use("AK-1", "checkout", 5);
      await use("AK-2", "billing", 5);
      await sleep(PASSED);
      const before = (await look()).events[0]?.last ?? 0;
      prometheus.exporter.restart();
      await sleep(PASSED);
      expect((await look()).events[0]?.last).toBe(before);
      await use("AK-1", "checkout", 5);
      expect((await look()).events[0]?.last).toBeGreaterThan(before);
    });

    test("a target that is down is unknown, not silent; what it counted meanwhile shows afterwards", async () => {
      await use("AK-1", "checkout");
      await prometheus.exporter.down(true);
      prometheus.exporter.add("requests_total", { round: String(round), key: "AK-1", client: "billing" });
      await sleep(3000);
      expect(await look()).toMatchObject({ status: "unknown", events: [{ who: "checkout" }] });
      await prometheus.exporter.down(false);
      await sleep(PASSED);
      const seen = await look();
      expect(seen.status).toBe("covered");
      const before = seen.events.find(({ who }) => who === "checkout")?.first;
      expect(seen.from).toBeGreaterThan(before ?? Infinity);
      expect(new Set(seen.events.map(({ who }) => who))).toEqual(new Set(["checkout", "billing"]));
    });

    test("no such target, no such label, keyturn itself", async () => {
      await use("AK-1", "keyturn");
      expect((await look({ targets: 'up{job="other"}' })).why).toMatch("not up, or show no traffic");
      expect((await look({ consumer: undefined })).events).toMatchObject([{ who: "" }]);
      expect(monitor({ consumer: undefined }).traits).toMatchObject({
        names: "none",
        granularity: 2 * STEP,
        lag: STEP,
      });
      expect((await look()).events).toMatchObject([{ who: "keyturn", own: true }]);
    });

    test("a query that it does not take, and no Prometheus at all", async () => {
      await expect(look({ traffic: "sum(" })).rejects.toMatchObject({ kind: "invalid", applied: "no" });
      await expect(look({ url: "http://127.0.0.1:9" })).rejects.toMatchObject({ kind: "unavailable", applied: "no" });
    });
  });
});

test("a counter has to be a selector that names the key", () => {
  const rest = { url: "http://p", targets: "up", traffic: "t" };
  for (const counter of ['a{k="$key"}', "a{k='$key',b=\"c\"}"])
    expect(adapter.settings.safeParse({ ...rest, counter }).success).toBe(true);
  for (const counter of ["a", "a{k=`$key`}", "a{k=$key}", 'sum(a{k="$key"})'])
    expect(adapter.settings.safeParse({ ...rest, counter }).success).toBe(false);
});
