import type { Duration, Instant } from "./duration.ts";
import type { DeliveryId } from "./model.ts";

export interface IssuerTiming {
  /** A key that exists may be missing from listings for so long after its creation. */
  readonly listSettle: Duration;
  /** A new, enabled or disabled key may be answered by its old state for so long. */
  readonly propagation: Duration;
  /** A request may take effect for so long after its sender gave up on it. */
  readonly settle: Duration;
  /** `createdAt` is cut to multiples of this. 0: exact. */
  readonly timeGranularity: Duration;
}

export interface IssuerTraits {
  readonly maxKeys: number;
  readonly valueFrom: "issuer" | "caller";
  readonly canDisable: boolean;
  readonly labels: boolean;
  /** `issue` repeated with the same label gives the same key and value. */
  readonly issueIdempotent: boolean;
  readonly timing: IssuerTiming;
}

export interface StoreTiming {
  /** A reader may still get the old value for so long after a write. */
  readonly propagation: Duration;
  /** A write may take effect for so long after its sender gave up on it. */
  readonly settle: Duration;
}

export interface StoreTraits {
  /** Can hold a version before consumers see it. */
  readonly staged: boolean;
  /** What shows that the store serves a value: it can be read, compared by digest, was acknowledged, or nothing. */
  readonly proof: "value" | "digest" | "receipt" | "none";
  readonly timing: StoreTiming;
}

export interface UsageTraits {
  /** Two uses closer than this may show as one; a use may show up to this much early. */
  readonly granularity: Duration;
  /** A use may show up so late. */
  readonly lag: Duration;
  readonly names: "consumer" | "service" | "none";
  /** `last-only`: one register that each use overwrites, keyturn's own included. */
  readonly history: "events" | "last-only";
  /** Refused uses (of a disabled key) are reported with outcome `denied`. */
  readonly seesDenied: boolean;
}

export const HOOK_POINTS = ["beforeRotate", "afterDistribute", "beforeRevoke", "afterDone"] as const;
export type HookPoint = (typeof HOOK_POINTS)[number];

export interface DeliveryRules {
  readonly id: DeliveryId;
  readonly use: string;
  readonly name: string;
  readonly traits: StoreTraits;
  /** The issuer's fields that are written there; absent: all. */
  readonly fields?: readonly string[];
  /** The names in the store that they are written under; part of where a delivery lives. */
  readonly names?: readonly string[];
}

/** A delivery's place: a renamed member of the same object is another place, whose old one somebody may still read. */
export function placeOf(delivery: DeliveryRules, binding: string): string {
  return delivery.names === undefined ? binding : `${binding} ${[...delivery.names].sort().join(",")}`;
}

export interface MonitorRules {
  readonly id: string;
  readonly traits: UsageTraits;
  /** Its `unknown` does not block. */
  readonly optional: boolean;
}

export interface ConsumerRules {
  readonly name: string;
  /** Globs held against what a monitor calls a caller; `*` stands for any text. */
  readonly match: readonly string[];
  readonly cadence: Duration | null;
  readonly cache: Duration | null;
  readonly required: boolean;
  /** The notifier that hears of it when it is a straggler, whatever events that one lists. */
  readonly notify?: string | null;
}

/** What the policy says of one secret, with the traits of what it names: all that the core needs to decide. */
export interface SecretRules {
  readonly name: string;
  readonly enabled: boolean;
  readonly issuer: IssuerTraits;
  /** The authority first. */
  readonly deliveries: readonly DeliveryRules[];
  readonly usage: "none" | readonly MonitorRules[];
  readonly consumers: readonly ConsumerRules[];
  readonly verify: { readonly successes: number; readonly spread: Duration; readonly deadline: Duration };
  readonly overlap: {
    readonly minimum: Duration;
    readonly quiet: Duration;
    readonly maximum: Duration;
    readonly onMaximum: "block" | "alert";
    readonly remind: Duration;
  };
  readonly soak: { readonly for: Duration; readonly onFailedUse: "reenable" | "alert" };
  readonly retry: { readonly attempts: number; readonly backoff: Duration };
  /** How many hooks stand at each point. */
  readonly hooks: Readonly<Record<HookPoint, number>>;
  readonly acceptOutage: boolean;
  /** Nobody else makes keys under this owner. */
  readonly exclusive: boolean;
  readonly orphans: "infer" | "block";
  /** Findings that only warn block too. */
  readonly strict: boolean;
}

/** Whether a rotation is due, worked out from the schedule by whoever calls `decide`. Wall clock. */
export interface Due {
  /** null: by hand only. */
  readonly at: Instant | null;
  readonly due: boolean;
  /** When the window opens next; null: open now. */
  readonly opensAt: Instant | null;
  /** When the key ends by itself, where that pulled `at` forward. */
  readonly expiresAt?: Instant;
}

/** Both clocks at one moment. */
export interface Now {
  /** The document's clock, see model.ts. */
  readonly doc: Instant;
  readonly wall: Instant;
}

/** An intent lasts no longer than this, nor than the lease (rule 3.2). */
export const LONGEST_INTENT: Duration = 20_000;

/** How long after its sender's last moment an effect may still take place. */
export function settleOf(rules: SecretRules, effect: string, delivery: DeliveryId | null): Duration {
  const store = rules.deliveries.find((d) => d.id === delivery);
  if (delivery !== null)
    return store ? store.traits.timing.settle : Math.max(0, ...rules.deliveries.map((d) => d.traits.timing.settle));
  const { settle, listSettle, propagation } = rules.issuer.timing;
  // What a key call did shows only after the issuer's own delay: until then a listing would mislead.
  return settle + (effect === "issue" ? listSettle : propagation);
}
