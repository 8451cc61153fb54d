import type { ConsumerRules, DeliveryRules, SecretRules, StoreTraits } from "../../src/core/rules.ts";
import type { ConsumerSpec } from "./consumers.ts";
import type { IssuerSpec } from "./fake-issuer.ts";
import type { MonitorSpec } from "./fake-monitor.ts";
import type { StoreSpec } from "./fake-store.ts";
import type { Fate } from "./process.ts";
import { Random } from "./random.ts";

const S = 1000;
const M = 60 * S;
const H = 60 * M;

export const DEEDS = [
  "rollback",
  "rollback",
  "emergency",
  "emergency",
  "hold",
  "hold",
  "unhold",
  "revoke",
  "pause",
  "resume",
  "unlock",
  "rotate",
  "release",
  "runner",
  "runner",
  "stranger",
  "stranger",
  "mirror-away",
  "mirror-new",
  "durations",
  "damage",
  "console",
  "sibling",
  "sibling",
] as const;

/** Something a person or the world does: at a time, or a moment after a thing has happened for the nth time. */
export interface Deed {
  readonly what: (typeof DEEDS)[number];
  readonly at: number | null;
  readonly after: string | null;
  readonly nth: number;
  readonly delay: number;
  readonly seed: number;
}

interface Span {
  readonly from: number;
  readonly until: number;
}

export interface Scenario {
  readonly seed: number;
  readonly issuer: IssuerSpec;
  readonly stores: readonly StoreSpec[];
  readonly monitors: readonly MonitorSpec[];
  readonly rules: SecretRules;
  readonly consumers: readonly ConsumerSpec[];
  /** 0: nothing fails; 1: six calls out of ten do. */
  readonly trouble: number;
  readonly hookTrouble: number;
  readonly coarseAge: boolean;
  readonly denials: readonly (Span & { readonly effect: string })[];
  readonly identityWrong: Span;
  readonly notifierDown: Span;
  readonly lease: number;
  /** The secret starts without any key. */
  readonly empty: boolean;
  readonly startAt: number;
  readonly calmAt: number;
  /** A later rotation falls due so long after the last; null: never. */
  readonly every: number | null;
  readonly runEvery: number;
  readonly doubled: number;
  /** How often a runner meets a fate. */
  readonly fateful: number;
  readonly attacker: boolean;
  readonly deeds: readonly Deed[];
}

const NEVER: Span = { from: Infinity, until: Infinity };
const EFFECTS = ["issue", "stage", "promote", "put", "enable", "disable", "delete", "discard"] as const;
const QUIET_POINTS = [
  "save:before",
  "save:after",
  "save:after",
  "load",
  "list:answer",
  "verify:answer",
  "audit:after",
] as const;

export function drawScenario(seed: number): Scenario {
  const r = new Random(seed);
  const issuer: IssuerSpec = {
    maxKeys: r.chance(0.7) ? 2 : r.between(3, 5),
    valueFrom: "issuer",
    canDisable: r.chance(0.85),
    labels: r.chance(0.5),
    issueIdempotent: r.chance(0.15),
    timing: {
      listSettle: r.pick([0, 10 * S, 60 * S]),
      propagation: r.pick([0, 5 * S, 15 * S]),
      settle: r.pick([0, 5 * S, 10 * S]),
      timeGranularity: r.pick([0, 1000]),
    },
    skew: r.chance(0.5) ? r.between(-300, 300) * S : 0,
    alternating: r.chance(0.5),
  };
  const stores = drawStores(r);
  const startAt = r.between(2, 45) * M;
  const calmAt = startAt + r.between(20, 150) * M;
  const span = (longest: number): Span => {
    const from = r.between(startAt, calmAt);
    return { from, until: from + r.between(1, longest) };
  };
  const blind = r.chance(0.1);
  const monitors = blind ? [] : drawMonitors(r, issuer, span);
  const quiet = r.pick([1 * M, 5 * M, 15 * M, 30 * M]);
  const { consumers, declared } = drawConsumers(r, stores, quiet, blind);
  const needsHook = stores.some((s) => s.traits.proof === "none");
  const rules: SecretRules = {
    name: "payments",
    enabled: true,
    issuer: {
      maxKeys: issuer.maxKeys,
      valueFrom: issuer.valueFrom,
      canDisable: issuer.canDisable,
      labels: issuer.labels,
      issueIdempotent: issuer.issueIdempotent,
      timing: issuer.timing,
    },
    deliveries: stores.map((s) => deliveryRules(s)),
    usage: blind ? "none" : monitors.map((m) => ({ id: m.id, traits: m.traits, optional: m.optional })),
    consumers: declared,
    verify: {
      successes: r.between(1, 3),
      spread: issuer.timing.propagation + r.pick([0, 1 * S, 20 * S]),
      deadline: 5 * M,
    },
    overlap: {
      minimum: r.pick([0, 1 * M, 5 * M, 10 * M]),
      quiet,
      maximum: r.pick([2 * H, 6 * H, 24 * H]),
      onMaximum: r.chance(0.7) ? "block" : "alert",
      remind: r.pick([20 * M, 1 * H]),
    },
    soak: { for: r.pick([0, 1 * M, 10 * M]), onFailedUse: r.chance(0.7) ? "reenable" : "alert" },
    retry: { attempts: r.between(3, 6), backoff: r.pick([1 * S, 30 * S]) },
    hooks: {
      beforeRotate: r.chance(0.15) ? 1 : 0,
      afterDistribute: needsHook || r.chance(0.2) ? 1 : 0,
      beforeRevoke: r.chance(0.15) ? 1 : 0,
      afterDone: r.chance(0.15) ? 1 : 0,
    },
    acceptOutage: false,
    exclusive: false,
    orphans: r.chance(0.8) ? "infer" : "block",
    strict: false,
  };
  const denials = r.chance(0.15) ? [{ ...span(40 * M), effect: r.pick(EFFECTS) }] : [];
  const deeds = Array.from({ length: r.pick([0, 1, 1, 2, 2, 3, 4, 6]) }, () => drawDeed(r, startAt, calmAt));
  return {
    seed,
    issuer,
    stores,
    monitors,
    rules,
    consumers,
    trouble: r.pick([0, 0.05, 0.2, 0.5]),
    hookTrouble: r.pick([0, 0.3]),
    coarseAge: r.chance(0.3),
    denials,
    identityWrong: r.chance(0.04) ? span(30 * M) : NEVER,
    notifierDown: r.chance(0.2) ? span(60 * M) : NEVER,
    lease: 15 * S,
    empty: r.chance(0.12),
    startAt,
    calmAt,
    every: r.chance(0.25) ? r.between(10, 60) * M : null,
    runEvery: r.pick([2 * M, 5 * M, 10 * M]),
    doubled: r.pick([0, 0.2, 0.6]),
    fateful: r.pick([0, 0.2, 0.6]),
    attacker: r.chance(0.5),
    deeds,
  };
}

function drawStores(r: Random): StoreSpec[] {
  const timing = () => ({ propagation: r.pick([0, 5 * S]), settle: r.pick([0, 5 * S]) });
  const authority: StoreSpec = {
    id: "authority",
    compares: true,
    traits: { staged: true, proof: "value", timing: timing() },
    replica: r.chance(0.15) ? r.between(1, 180) * S : 0,
  };
  const mirrors = Array.from({ length: r.between(0, 2) }, (_, i) => drawMirror(r, `mirror${i + 1}`));
  return [authority, ...mirrors];
}

/** A mirror of one of the kinds that exist: readable, comparable by digest, acknowledged only, or silent. */
export function drawMirror(r: Random, id: string): StoreSpec {
  const proof: StoreTraits["proof"] = r.pick(["value", "value", "digest", "receipt", "receipt", "none"]);
  const timing = { propagation: r.pick([0, 5 * S]), settle: r.pick([0, 5 * S]) };
  return { id, compares: proof === "value" && r.chance(0.5), traits: { staged: false, proof, timing }, replica: 0 };
}

export function deliveryRules(store: StoreSpec): DeliveryRules {
  return { id: store.id, use: store.id, name: `apps/${store.id}`, traits: store.traits };
}

function drawMonitors(r: Random, issuer: IssuerSpec, span: (longest: number) => Span): MonitorSpec[] {
  const one = (id: string, optional: boolean): MonitorSpec => ({
    id,
    optional,
    traits: {
      granularity: r.pick([0, 1 * S, 60 * S]),
      lag: r.pick([0, 10 * S, 5 * M]),
      names: r.pick(["consumer", "consumer", "consumer", "service", "none"]),
      history: r.chance(0.7) ? "events" : "last-only",
      seesDenied: r.chance(0.6),
    },
    tellsGaps: r.chance(0.5),
    skew: issuer.skew,
    outages: r.chance(0.2) ? [span(40 * M)] : [],
  });
  return [one("usage", false), ...(r.chance(0.25) ? [one("second", r.chance(0.5))] : [])];
}

function drawConsumers(
  r: Random,
  stores: readonly StoreSpec[],
  quiet: number,
  blind: boolean,
): { consumers: ConsumerSpec[]; declared: ConsumerRules[] } {
  const consumers: ConsumerSpec[] = [];
  const declared: ConsumerRules[] = [];
  const count = r.between(0, 3);
  for (let i = 0; i < count; i++) {
    const name = `app${i + 1}`;
    const kind = r.pick(["quick", "quick", "slow", "pinned", "bursts", "batch", "rogue"]);
    const store = (stores[r.between(0, stores.length - 1)] as StoreSpec).id;
    const cadence = kind === "slow" || kind === "batch" ? r.between(5, 60) * M : null;
    const known = cadence !== null || blind || r.chance(0.6);
    const longest = cadence ?? Math.max(20 * S, Math.floor(quiet * 0.95));
    const gap: [number, number] =
      kind === "rogue"
        ? [quiet * 2, quiet * 4 + 30 * M]
        : kind === "quick"
          ? [Math.min(10 * S, longest), Math.min(120 * S, longest)]
          : [Math.floor(longest / 2), longest];
    consumers.push({
      name,
      instance: `${name}-1`,
      store,
      replica: r.chance(0.3),
      gap,
      burst: kind === "bursts" || kind === "batch" ? r.between(1, 4) : 0,
      cache: r.pick([0, 30 * S, 10 * M]),
      pinned: kind === "pinned" ? r.between(1, 40) * M : 0,
      within: kind !== "rogue" && (known || !blind),
    });
    if (known)
      declared.push({ name, match: [name, `${name}-*`], cadence, cache: null, required: blind || r.chance(0.8) });
  }
  return { consumers, declared };
}

function drawDeed(r: Random, startAt: number, calmAt: number): Deed {
  const timed = r.chance(0.35);
  const after = r.chance(0.2) ? "commit" : `${r.pick(["intent", "landed"])}:${r.pick(EFFECTS)}`;
  return {
    what: r.pick(DEEDS),
    at: timed ? r.between(startAt, calmAt) : null,
    after: timed ? null : after,
    nth: after === "commit" ? r.between(1, 60) : r.pick([1, 1, 1, 2, 3]),
    delay: r.pick([0, r.between(0, 1000), r.between(0, 30_000), r.between(0, 300_000)]),
    seed: r.between(0, 0xffffffff),
  };
}

/** What befalls one runner, most often nothing. */
export function drawFates(r: Random, fateful: number): Fate[] {
  if (!r.chance(fateful)) return [];
  const kind = r.pick<Fate["kind"]>(["crash", "crash", "stop", "stop", "jump"]);
  const point = r.chance(0.3) ? r.pick(QUIET_POINTS) : `${r.pick(EFFECTS)}:${r.pick(["before", "sent"])}`;
  const where = r.chance(0.5) ? { wake: r.between(1, 120) } : { point, nth: r.pick([1, 1, 1, 2, 3, 6]) };
  if (kind === "crash") return [{ kind, ms: 0, ...where }];
  if (kind === "jump") return [{ kind, ms: r.pick([-1, 1]) * r.between(1, 3600) * S, ...where }];
  return [
    {
      kind,
      ms: r.pick([r.between(1, 10), r.between(10, 60), r.between(60, 900)]) * S,
      asleep: r.chance(0.3),
      ...where,
    },
  ];
}
