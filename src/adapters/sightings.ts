import type { Duration, Instant } from "../core/duration.ts";
import type { KeyId } from "../ports/issuer.ts";
import type { KeyUsage, UsageEvent } from "../ports/usage.ts";

/** More callers of one key than this are not told apart; the key is then `unknown`. */
const CALLERS_MAX = 1000;

interface Caller {
  readonly who: string;
  readonly outcome: UsageEvent["outcome"];
  first: Instant;
  last: Instant;
  count: number;
  longestGap: Duration;
  /** Of the stretch in which `last` was seen: a silence across a hole is not proven. */
  stretch: number;
}

/** Single uses, in any order of keys and callers but each caller's in the order of time, gathered into events. */
export class Sightings {
  readonly #callers = new Map<KeyId, Map<string, Caller>>();
  readonly #crowded = new Set<KeyId>();

  /** @param stretch uses with the same number have no hole of the signal between them */
  add(keyId: KeyId, who: string, outcome: UsageEvent["outcome"], at: Instant, stretch = 0): void {
    let callers = this.#callers.get(keyId);
    if (callers === undefined) this.#callers.set(keyId, (callers = new Map<string, Caller>()));
    const id = `${outcome} ${who}`;
    const known = callers.get(id);
    if (known === undefined) {
      if (callers.size >= CALLERS_MAX) this.#crowded.add(keyId);
      else callers.set(id, { who, outcome, first: at, last: at, count: 1, longestGap: 0, stretch });
      return;
    }
    if (known.stretch === stretch) known.longestGap = Math.max(known.longestGap, at - known.last);
    known.first = Math.min(known.first, at);
    known.last = Math.max(known.last, at);
    known.count += 1;
    known.stretch = stretch;
  }

  /** Whether any of the keys was seen at all. */
  get any(): boolean {
    return this.#callers.size > 0;
  }

  isCrowded(keyId: KeyId): boolean {
    return this.#crowded.has(keyId);
  }

  events(keyId: KeyId, isOwn: (who: string) => boolean): UsageEvent[] {
    return [...(this.#callers.get(keyId)?.values() ?? [])].map(
      ({ who, outcome, first, last, count, longestGap }): UsageEvent => {
        const gap = longestGap > 0 ? { longestGap } : {};
        return { who, outcome, first, last, count, own: isOwn(who), ...gap };
      },
    );
  }
}

/** What was covered, or why nothing may be concluded from silence. */
export type Covered =
  | { readonly from: Instant; readonly until: Instant; readonly why?: never }
  | { readonly why: string };

/** The answer for every key asked about. `now` stands in where nothing is covered. */
export function answers(
  keyIds: readonly KeyId[],
  sightings: Sightings,
  covered: Covered,
  now: Instant,
  isOwn: (who: string) => boolean,
): ReadonlyMap<KeyId, KeyUsage> {
  return new Map(
    keyIds.map((keyId): [KeyId, KeyUsage] => {
      const events = sightings.events(keyId, isOwn);
      const why =
        covered.why ?? (sightings.isCrowded(keyId) ? `more than ${CALLERS_MAX} callers used this key` : undefined);
      if (why === undefined)
        return [keyId, { status: "covered", ...(covered as { from: Instant; until: Instant }), events }];
      return [keyId, { status: "unknown", from: now, until: now, why, events }];
    }),
  );
}

/**
 * The last unbroken stretch of a signal, told by the instants at which it showed life: where none came for longer
 * than `pause`, what happened in between is not known and a new stretch begins.
 */
export class Stretch {
  #from: Instant | null = null;
  #until: Instant | null = null;
  #number = 0;

  constructor(private readonly pause: Duration) {}

  /** A sign of life, in the order of time, small steps backwards apart. @returns the number of its stretch */
  alive(at: Instant): number {
    if (this.#until !== null && at - this.#until > this.pause) this.broken();
    this.#from ??= at;
    this.#until = Math.max(this.#until ?? at, at);
    return this.#number;
  }

  /** Something is missing here. */
  broken(): void {
    this.#from = this.#until = null;
    this.#number += 1;
  }

  get from(): Instant | null {
    return this.#from;
  }

  /** The watermark. */
  get until(): Instant | null {
    return this.#until;
  }
}
