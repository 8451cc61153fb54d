import * as z from "zod";
import { formatDuration, type Duration, type Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import { matches } from "../../core/usage.ts";
import type { AdapterDeps, UsageAdapter } from "../../ports/adapter.ts";
import type { Ctx } from "../../ports/context.ts";
import type { KeyId } from "../../ports/issuer.ts";
import type { KeyUsage, UsageMonitor, UsageTraits } from "../../ports/usage.ts";
import { apiSettings, getJson } from "../json-api.ts";
import { duration, ms } from "../settings.ts";
import { answers, Sightings, Stretch, type Covered } from "../sightings.ts";

/** In one answer, so that it stays below the transport's limit with dozens of consumers. */
const POINTS = 500;

const settings = z.strictObject({
  url: z.string().min(1).describe("Where Prometheus, or what speaks its API, answers: http://prometheus:9090"),
  ...apiSettings,
  counter: z
    .string()
    .refine((text) => /=\s*(["'])\$key\1.*\}\s*$/s.test(text), {
      error: 'must be a selector that names the key: requests_total{key="$key"}',
    })
    .describe('Selects the counters of one key\'s accepted uses: requests_total{key="$key",code!="401"}'),
  consumer: z
    .string()
    .regex(/^[A-Za-z_]\w*$/, { error: "is no label" })
    .optional()
    .describe("The label that names who used the key. Default: nobody is named."),
  targets: z.string().min(1).describe('Selects the `up` of all that counts these uses: up{job="gateway"}'),
  traffic: z
    .string()
    .min(1)
    .describe("Query that is above zero while there is traffic of any kind: sum(rate(requests_total[5m]))"),
  step: duration(1).default("5m").describe("How exactly uses are told; at least the scrape interval. Default: 5m."),
  pause: duration(1)
    .default("15m")
    .describe("Targets down, or without traffic, for longer make a hole in what is known. Default: 15m."),
  history: duration(1).default("7d").describe("How far back is asked. Default: 7d."),
  own: z
    .array(z.string().min(1))
    .default(["keyturn", "keyturn/*"])
    .describe("What keyturn itself is called there. Default: keyturn and keyturn/*."),
});

type Settings = z.output<typeof settings>;

/**
 * Uses of a key from counters in Prometheus. A series has grown, has started again below where it was, or is there
 * where it was not a step before: each is a use, by the label `consumer`. So the first use that a series is born with
 * counts, which `increase()` alone does not see, and a failed scrape rather makes a use than hides one.
 *
 * Silence counts only while every target is up and other traffic shows, breaks up to `pause` apart. A counter that
 * starts again and has reached the very same number at the next step looks as if nothing happened: let it start at
 * zero, or let `step` be short.
 */
export const adapter: UsageAdapter<typeof settings> = {
  type: "prometheus",
  settings,
  create: (options, _secret, deps) => new Prometheus(options, deps),
};

const scalar = z.object({
  status: z.literal("success"),
  data: z.object({ result: z.tuple([z.number(), z.string()]) }),
});
const matrix = z.object({
  status: z.literal("success"),
  warnings: z.array(z.string()).optional(),
  data: z.object({
    resultType: z.literal("matrix"),
    result: z.array(
      z.object({ metric: z.record(z.string(), z.string()), values: z.array(z.tuple([z.number(), z.string()])) }),
    ),
  }),
});

/** The moments of one range query, in ms. */
interface Range {
  readonly start: Instant;
  readonly end: Instant;
  readonly step: Duration;
}

class Prometheus implements UsageMonitor {
  readonly traits: UsageTraits;
  readonly #base: string;

  constructor(
    private readonly options: Settings,
    private readonly deps: AdapterDeps,
  ) {
    const step = ms(options.step);
    const names = options.consumer === undefined ? "none" : "consumer";
    this.traits = { granularity: 2 * step, lag: step, names, history: "events", seesDenied: false };
    this.#base = options.url.replace(/\/+$/, "");
  }

  async usageOf(keyIds: readonly KeyId[], since: Instant, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>> {
    const { consumer = "", step: every, history, own } = this.options;
    const step = ms(every);
    const now = await this.#now(ctx);
    // Whole steps, so that two looks ask about the same moments.
    const end = Math.floor(now / step) * step;
    const start = Math.ceil(Math.max(since, end - ms(history)) / step) * step;
    const starts: Instant[] = [];
    const stretch = new Stretch(ms(this.options.pause));
    for (const { values } of await this.#range(this.#alive(), { start, end, step }, "traffic", ctx)) {
      for (const at of values) if (stretch.alive(at) >= starts.length) starts.push(at);
    }
    const sightings = new Sightings();
    for (const keyId of keyIds) {
      const found = await this.#range(this.#used(keyId, step), { start, end, step }, "counter", ctx);
      for (const { metric, values } of found) {
        for (const at of values)
          sightings.add(keyId, metric[consumer] ?? "", "ok", at, starts.filter((begun) => begun <= at).length);
      }
    }
    const covered = this.#judge(stretch, now, sightings);
    return answers(keyIds, sightings, covered, now, (who) => own.some((glob) => matches(glob, who)));
  }

  #judge({ from, until }: Stretch, now: Instant, sightings: Sightings): Covered {
    if (from === null || until === null) return { why: "its targets are not up, or show no traffic" };
    if (now - until > ms(this.options.pause))
      return { why: `its targets are not up, or show no traffic, for ${formatDuration(now - until)}` };
    if (!sightings.any) return { why: "none of this secret's keys was ever counted, so `counter` may not name them" };
    return { from, until };
  }

  /** Has a value at the moments at which silence means something. */
  #alive(): string {
    const { traffic, targets } = this.options;
    return `(sum(${traffic}) > 0) and on() (min(${targets}) > 0)`;
  }

  /** Has a value, for each consumer, at the moments up to a step after a use. */
  #used(keyId: KeyId, step: Duration): string {
    const counter = this.options.counter.replaceAll("$key", () => escape(keyId));
    const before = `${counter} offset ${step}ms`;
    const uses = [
      `increase(${counter}[${2 * step}ms]) > 0`,
      `(${counter} - ${before}) > 0`,
      `(${counter} < ${before}) > 0`,
      `(${counter} unless ${before}) > 0`,
    ];
    return `sum by (${this.options.consumer ?? ""}) (${uses.map((use) => `(${use})`).join(" or ")})`;
  }

  /** Prometheus' own clock. */
  async #now(ctx: Ctx): Promise<Instant> {
    const { document } = await this.#get("query", { query: "time()" }, "asking for its time", ctx);
    const answer = scalar.safeParse(document);
    if (!answer.success) throw unlike("asking for its time");
    return Math.floor(Number(answer.data.data.result[1]) * 1000);
  }

  async #range(
    query: string,
    { start, end, step }: Range,
    name: string,
    ctx: Ctx,
  ): Promise<{ metric: Readonly<Record<string, string>>; values: Instant[] }[]> {
    const series = new Map<string, { metric: Record<string, string>; values: Instant[] }>();
    const what = `asking for \`${name}\``;
    for (let from = start; from <= end; from += POINTS * step) {
      const to = Math.min(end, from + (POINTS - 1) * step);
      const range = { start: String(from / 1000), end: String(to / 1000), step: String(step / 1000) };
      const { document } = await this.#get("query_range", { query, ...range }, what, ctx);
      const answer = matrix.safeParse(document);
      if (!answer.success) throw unlike(what);
      // What gathers from several servers says so where one of them did not answer.
      if ((answer.data.warnings ?? []).length > 0)
        throw new ProviderError("unavailable", "no", `${what}: answered with warnings, so it may be incomplete`);
      for (const { metric, values } of answer.data.data.result) {
        const id = JSON.stringify(metric);
        const known = series.get(id) ?? { metric, values: [] };
        known.values.push(...values.map(([at]) => Math.round(at * 1000)));
        series.set(id, known);
      }
    }
    return [...series.values()];
  }

  #get(path: string, query: Readonly<Record<string, string>>, what: string, ctx: Ctx) {
    this.deps.debug(`prometheus: ${path} ${query["query"] ?? ""}`);
    return getJson(
      this.options,
      `${this.#base}/api/v1/${path}?${new URLSearchParams(query).toString()}`,
      what,
      this.deps.env,
      ctx,
    );
  }
}

function unlike(what: string): ProviderError {
  return new ProviderError("unavailable", "no", `${what}: the answer is not one of Prometheus`);
}

/** Inside quotes of either kind nothing but the text itself. */
function escape(keyId: KeyId): string {
  return keyId.replaceAll(/[^\w.:/ -]/gu, (char) => `\\U${(char.codePointAt(0) ?? 0).toString(16).padStart(8, "0")}`);
}
