import { ProviderError } from "../../src/core/errors.ts";
import type { KeyId, KeyUsage, UsageEvent } from "../../src/core/observed.ts";
import type { UsageTraits } from "../../src/core/rules.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { UsageMonitor } from "../../src/ports/usage.ts";
import type { TruthKey, Use } from "./fake-issuer.ts";
import type { Process } from "./process.ts";
import { EPOCH } from "./process.ts";
import { ask } from "./provider.ts";
import type { World } from "./world.ts";

export interface MonitorSpec {
  readonly id: string;
  readonly traits: UsageTraits;
  readonly optional: boolean;
  /** It says the longest silence between two uses. */
  readonly tellsGaps: boolean;
  readonly skew: number;
  /** True times between which it knows nothing. */
  readonly outages: readonly { readonly from: number; readonly until: number }[];
}

/** What a monitor has to say: the truth, late, coarse, and now and then not at all. */
export class MonitorTruth {
  constructor(
    readonly world: World,
    readonly spec: MonitorSpec,
  ) {}

  usageOf(key: TruthKey | undefined, since: number): KeyUsage {
    const { spec, world } = this;
    const { lag, granularity: grain, history } = spec.traits;
    const offset = EPOCH + spec.skew;
    const seenTo = world.now - world.random.skewed(lag);
    const until = offset + world.now - lag;
    const out = world.calm ? undefined : spec.outages.find((o) => world.now >= o.from && world.now < o.until);
    // A register goes with its key.
    const gone = key !== undefined && key.deletedAt !== null && history === "last-only";
    if (key === undefined || gone) return { status: "unknown", from: until, until, why: "no such key", events: [] };
    if (out) return { status: "unknown", from: until, until, why: "outage", events: [] };
    const from = offset + key.createdAt;
    const coarse = (at: number): number => (grain > 0 ? Math.floor((offset + at) / grain) * grain : offset + at);
    const uses: Use[] = [];
    for (let i = key.uses.length - 1; i >= 0; i--) {
      const use = key.uses[i] as Use;
      if (use.at > seenTo || (!use.ok && !spec.traits.seesDenied)) continue;
      if (coarse(use.at) < since) break;
      uses.push(use);
      if (history === "last-only" && uses.some((u) => u.ok)) break;
    }
    uses.reverse();
    const asOf = offset + world.now;
    return { status: "covered", from: Math.max(from, since), until, asOf, events: this.#events(uses, coarse) };
  }

  #events(uses: readonly Use[], coarse: (at: number) => number): UsageEvent[] {
    const { traits, tellsGaps } = this.spec;
    const named = (use: Use): string =>
      traits.names === "consumer" ? use.who : traits.names === "service" ? "s3" : "";
    const groups = new Map<string, { who: string; uses: Use[]; ok: boolean; own: boolean }>();
    for (const use of uses) {
      const own = traits.history === "events" && traits.names === "consumer" && use.own;
      const id = `${named(use)}|${use.ok}|${own}`;
      const group = groups.get(id);
      if (group) group.uses.push(use);
      else groups.set(id, { who: named(use), uses: [use], ok: use.ok, own });
    }
    return [...groups.values()].map((g) => {
      const first = g.uses[0] as Use;
      const last = g.uses.at(-1) as Use;
      let gap = 0;
      for (let i = 1; i < g.uses.length; i++) gap = Math.max(gap, (g.uses[i] as Use).at - (g.uses[i - 1] as Use).at);
      return {
        who: g.who,
        first: coarse(first.at),
        last: coarse(last.at),
        count: g.uses.length,
        outcome: g.ok ? "ok" : "denied",
        ...(tellsGaps ? { longestGap: gap } : {}),
        ...(g.own ? { own: true } : {}),
      };
    });
  }
}

/** One process's connection to a monitor. */
export class FakeMonitor implements UsageMonitor {
  readonly traits: UsageTraits;

  constructor(
    readonly world: World,
    readonly process: Process,
    readonly truth: MonitorTruth,
  ) {
    this.traits = truth.spec.traits;
  }

  usageOf(keyIds: readonly KeyId[], since: number, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>> {
    return ask(this.world, this.process, ctx, `usage ${this.truth.spec.id}`, () => {
      const broken =
        !this.world.calm &&
        this.truth.spec.outages.some(
          (o) => this.world.now >= o.from && this.world.now < o.until && Math.floor(o.from) % 2 === 0,
        );
      if (broken) throw new ProviderError("unavailable", "no", "outage");
      return new Map(keyIds.map((id) => [id, this.truth.usageOf(this.world.issuer.keys.get(id), since)]));
    });
  }
}
