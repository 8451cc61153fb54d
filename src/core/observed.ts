import type { ReasonCode } from "./reasons.ts";
import type { Duration, Instant } from "./duration.ts";
import type { DeliveryId, Serves, VersionId } from "./model.ts";

/** The issuer's own name of a key. Not secret. */
export type KeyId = string;

/** The store's own revision of what it serves: a UUID, a number, a hash. Not secret, and no plain hash of a value. */
export type Ref = string;

/** A key's life as its issuer tells it, on the issuer's clock, to its granularity. */
export interface KeyDates {
  readonly createdAt: Instant;
  /** When it ends by itself, whatever anybody does; left out: never, or the issuer does not say. */
  readonly expiresAt?: Instant;
}

/** One key as the issuer lists it, ours or a stranger's. */
export interface ObservedKey extends KeyDates {
  readonly keyId: KeyId;
  readonly state: "enabled" | "disabled";
  /** The version id given to `issue`, where the issuer stores one. */
  readonly label?: string;
}

/** A complete listing. */
export interface Listing {
  readonly keys: readonly ObservedKey[];
  /** The issuer's clock when it answered. */
  readonly asOf: Instant;
}

/** What one caller did with one key inside the window. */
export interface UsageEvent {
  /** Whom the signal names: an instance, a service; "" where it names nobody. */
  readonly who: string;
  /** On the monitor's clock, as the others. */
  readonly first: Instant;
  readonly last: Instant;
  readonly count: number;
  readonly outcome: "ok" | "denied";
  /** The longest silence between two uses that the monitor itself saw; absent when it cannot know. */
  readonly longestGap?: Duration;
  /** True when keyturn made these uses itself and the monitor can tell. */
  readonly own?: boolean;
}

/**
 * `covered`: everything between `from` and `until` is known, so what is not among the events did not happen.
 * `unknown`: nothing may be concluded from silence; events, where given, still count as seen.
 */
export interface KeyUsage {
  readonly status: "covered" | "unknown";
  /** Since when the monitor has watched this key, and up to when it has seen everything (its watermark). */
  readonly from: Instant;
  readonly until: Instant;
  /** What its clock showed when it answered; left out: as late after `until` as its lag allows. */
  readonly asOf?: Instant;
  /** For `unknown`: why, in a few words. */
  readonly why?: string;
  readonly events: readonly UsageEvent[];
}

/** One finding of a preflight. `blocks` is false where the adapter cannot tell or it only matters later. */
export interface Finding {
  readonly reason:
    | "identity-mismatch"
    | "permission-missing"
    | "foreign-pending"
    | "name-conflict"
    | "store-unsuitable"
    | "credentials-missing";
  readonly blocks: boolean;
  readonly message: string;
  readonly hint?: string;
}

export interface Description {
  /** Where the thing really lives: compared with what was recorded, so equal places give equal text. No secrets. */
  readonly binding: string;
  readonly findings: readonly Finding[];
}

/** What one delivery serves now. */
export interface DeliveryLook {
  readonly serves: Serves;
  readonly ref: Ref | null;
  readonly lagging: readonly string[];
}

/** Absent, failed and unknown are three answers: a look that failed says so, it is never an absence. */
export type Seen<T> = { readonly value: T } | { readonly failed: Failed };

export interface Failed {
  readonly reason: ReasonCode;
  readonly message: string;
  readonly hint?: string | undefined;
}

export type Query =
  | { readonly look: "describe"; readonly what: "issuer" | DeliveryId }
  | { readonly look: "keys" }
  | { readonly look: "delivery"; readonly delivery: DeliveryId }
  | { readonly look: "staged"; readonly version: VersionId }
  | { readonly look: "usage" }
  | { readonly look: "accepts"; readonly version: VersionId };

/**
 * What was looked at since the document last changed: the engine drops it all (but the descriptions) with every
 * commit, so whatever stands here was observed after the last change to what it proves.
 */
export interface Observed {
  readonly described: Readonly<Record<string, Seen<Description>>>;
  readonly keys: Seen<Listing> | null;
  /** How long ago, at least, the listing was taken. */
  readonly keysAge: Duration;
  readonly deliveries: Readonly<Record<DeliveryId, Seen<DeliveryLook>>>;
  /** How long ago the oldest of these was begun. */
  readonly deliveriesAge: Duration;
  readonly staged: Readonly<Record<VersionId, Seen<boolean>>>;
  /** Monitor → key → usage. */
  readonly usage: Readonly<Record<string, Seen<ReadonlyMap<KeyId, KeyUsage>>>> | null;
  readonly accepts: Readonly<Record<VersionId, Seen<"accepted" | "rejected">>>;
  /** Versions whose value this process has in memory. */
  readonly held: ReadonlySet<VersionId>;
}

export const NOTHING_OBSERVED: Observed = {
  described: {},
  keys: null,
  keysAge: 0,
  deliveries: {},
  deliveriesAge: 0,
  staged: {},
  usage: null,
  accepts: {},
  held: new Set(),
};

/** Of whatever carries them. */
export function datesOf({
  createdAt,
  expiresAt,
}: {
  readonly createdAt: Instant;
  readonly expiresAt?: Instant | null | undefined;
}): KeyDates {
  return expiresAt == null ? { createdAt } : { createdAt, expiresAt };
}
