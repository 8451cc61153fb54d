import type { Instant } from "./duration.ts";
import type { Fact } from "./facts.ts";
import type { DeliveryId, MayLand, Mint, SecretState, Version, VersionId } from "./model.ts";
import { versionOf } from "./model.ts";
import type { DeliveryLook, Failed, Listing, Observed, ObservedKey, Query, Ref, Seen } from "./observed.ts";
import { outcomeOf, type ReasonCode } from "./reasons.ts";
import type { DeliveryRules, Due, HookPoint, Now, SecretRules } from "./rules.ts";
import type { Safeguard } from "./safeguards.ts";
import { wantedId } from "./wanted.ts";
import { stillOpen } from "./edit.ts";
import { failureOf, stepOf } from "./failures.ts";

/** Everything `decide` may look at. */
export interface Case {
  readonly rules: SecretRules;
  readonly state: SecretState;
  readonly seen: Observed;
  readonly now: Now;
  readonly due: Due;
  /** A random id for what this decision may begin. */
  readonly fresh: string;
  readonly off?: ReadonlySet<Safeguard> | undefined;
}

/** One effect outside. All but `verify` and `hook` get an intent of their own. */
export type Action =
  | {
      readonly do: "issue";
      readonly version: VersionId;
      /** `within` counts from the end of the intent; what passes until then is known when it is committed. */
      readonly mint: Omit<Mint, "absences" | "again">;
    }
  | { readonly do: "stage" | "discard"; readonly version: VersionId; readonly delivery: DeliveryId }
  | {
      readonly do: "promote" | "put";
      readonly version: VersionId;
      readonly delivery: DeliveryId;
      readonly expected: Ref | null;
      readonly fresh: boolean;
    }
  | { readonly do: "enable" | "disable" | "delete"; readonly version: VersionId }
  | { readonly do: "verify"; readonly version: VersionId }
  | { readonly do: "hook"; readonly point: HookPoint; readonly index: number; readonly id: string };

/**
 * `look`: answer these and ask again. `act`: one effect. `note`: a change of the document alone. `wait`: until time
 * or the world moves; `keep` says that what was looked at stays good. `blocked`: a person is needed.
 */
export type Decision =
  | { readonly decision: "look"; readonly queries: readonly Query[] }
  | { readonly decision: "act"; readonly action: Action }
  | { readonly decision: "note"; readonly facts: readonly Fact[] }
  | {
      readonly decision: "wait";
      readonly reason: ReasonCode;
      readonly message: string;
      readonly until: Instant | null;
      readonly keep?: boolean;
      readonly hint?: string;
      readonly facts?: readonly Fact[];
    }
  | {
      readonly decision: "blocked";
      readonly reason: ReasonCode;
      readonly message: string;
      readonly hint?: string;
      readonly facts?: readonly Fact[];
    }
  | { readonly decision: "done"; readonly reason: "not-due"; readonly message: string };

/**
 * Thrown by `ask` and caught by `decide`: a rule reads as if every answer were there, and what is missing ends it.
 */
export class Unanswered {
  constructor(readonly decision: Decision) {}
}

function answerOf(c: Case, query: Query): Seen<unknown> | undefined | null {
  switch (query.look) {
    case "describe":
      return c.seen.described[query.what];
    case "keys":
      return c.seen.keys;
    case "delivery":
      return c.seen.deliveries[query.delivery];
    case "staged":
      return c.seen.staged[query.version];
    case "accepts":
      return c.seen.accepts[query.version];
    case "usage":
      return c.seen.usage === null ? null : { value: c.seen.usage };
  }
}

/** Ends the rule unless every query has an answer; one that failed ends it as that failure. */
export function ask(c: Case, ...queries: readonly Query[]): void {
  const missing = queries.filter((query) => answerOf(c, query) == null);
  if (missing.length > 0) throw new Unanswered({ decision: "look", queries: missing });
  for (const query of queries) {
    const answer = answerOf(c, query);
    if (answer != null && "failed" in answer) throw new Unanswered(failed(answer.failed));
  }
}

/** Keys count only where they were left: a listing of another owner proves nothing of ours. */
export function listing(c: Case): Listing {
  ask(c, { look: "describe", what: "issuer" }, { look: "keys" });
  const place = c.seen.described["issuer"];
  const recorded = c.state.issuerBinding;
  if (place !== undefined && "value" in place && recorded !== null && place.value.binding !== recorded) {
    throw new Unanswered(blocked("binding-changed", `the issuer was ${recorded} and is now ${place.value.binding}`));
  }
  return (c.seen.keys as { value: Listing }).value;
}

export function keyOf(c: Case, version: Version): ObservedKey | null {
  return listing(c).keys.find((key) => key.keyId === version.keyId) ?? null;
}

export function deliveryLook(c: Case, id: DeliveryId): DeliveryLook {
  ask(c, { look: "delivery", delivery: id });
  return (c.seen.deliveries[id] as { value: DeliveryLook }).value;
}

export function accepts(c: Case, version: VersionId): "accepted" | "rejected" {
  ask(c, { look: "accepts", version });
  return (c.seen.accepts[version] as { value: "accepted" | "rejected" }).value;
}

/** Whether what a delivery serves can be looked at. */
export function canLook(delivery: DeliveryRules): boolean {
  return delivery.traits.proof === "value" || delivery.traits.proof === "digest";
}

export function lookAtStores(c: Case): readonly Query[] {
  return c.rules.deliveries.filter(canLook).map((d) => ({ look: "delivery", delivery: d.id }));
}

export function wait(
  reason: ReasonCode,
  message: string,
  until: Instant | null,
  facts: readonly Fact[] = [],
): Decision {
  return { decision: "wait", reason, message, until, facts };
}

/** A look that failed: today's news, and tried again by the next run, or once a person has mended it. */
export function failed({ reason, message, hint }: Failed): Extract<Decision, { decision: "wait" | "blocked" }> {
  if (outcomeOf(reason) === "blocked") return blocked(reason, message, hint);
  return { decision: "wait", reason, message, until: null, ...(hint === undefined ? {} : { hint }) };
}

export function blocked(
  reason: ReasonCode,
  message: string,
  hint?: string,
): Extract<Decision, { decision: "blocked" }> {
  return { decision: "blocked", reason, message, ...(hint === undefined ? {} : { hint }) };
}

export function note(...facts: readonly Fact[]): Decision {
  return { decision: "note", facts };
}

export function wanted(c: Case): Version | null {
  return versionOf(c.state, wantedId(c.state));
}

export function authority(c: Case): DeliveryRules {
  return c.rules.deliveries[0] as DeliveryRules;
}

export function isOff(c: Case, safeguard: Safeguard): boolean {
  return c.off?.has(safeguard) ?? false;
}

export function open(c: Case): readonly MayLand[] {
  return isOff(c, "may-land") ? [] : stillOpen(c.state, c.now);
}

/** Nothing is destroyed, minted or finished while an effect without an answer may still take place. */
export function unsettled(c: Case): Decision | null {
  const entries = open(c);
  if (entries.length === 0) return null;
  const what = [...new Set(entries.map((e) => `${e.effect} of ${e.version}`))].join(", ");
  return wait(
    "settling",
    `no answer came for ${what}; it may still take place`,
    Math.max(...entries.map((e) => e.until)),
  );
}

/** A disable or delete of `version` that may still land: no observation of it counts yet. */
export function killMayLand(c: Case, version: VersionId): Decision | null {
  const entries = open(c).filter((e) => (e.effect === "disable" || e.effect === "delete") && e.version === version);
  if (entries.length === 0) return null;
  return wait(
    "settling",
    `a ${entries[0]?.effect} of ${version} may still take place`,
    Math.max(...entries.map((e) => e.until)),
  );
}

export function stepName(action: Action): string {
  return action.do === "hook"
    ? stepOf("hook", action.id)
    : stepOf(action.do, "delivery" in action ? action.delivery : null);
}

/** The action, unless it failed lately or too often. */
export function attempt(c: Case, action: Action): Decision {
  const ends = action.do === "disable" || action.do === "delete" || action.do === "discard";
  if (c.state.stopped?.halts && !ends) return blocked(c.state.stopped.reason, c.state.stopped.message);
  const failure = failureOf(c.state, stepName(action));
  if (failure !== null) {
    if (failure.count >= c.rules.retry.attempts) {
      const reason = failure.reason === "store-conflict" ? "store-conflict" : "attempts-exhausted";
      const message = `${failure.step} failed ${failure.count} times: ${failure.message}`;
      return note({ fact: "stopped", stopped: { reason, message } });
    }
    if (failure.retryAt > c.now.doc)
      return wait(
        failure.reason === "hook-failed" ? "hook-failed" : "provider-unavailable",
        failure.message,
        failure.retryAt,
      );
  }
  return { decision: "act", action };
}

/** The next hook of a point that has not succeeded in this rotation (and direction). */
export function hook(c: Case, point: HookPoint): Decision | null {
  const direction = c.state.rotation?.rollback ? "rollback:" : "";
  for (let index = 0; index < c.rules.hooks[point]; index++) {
    const id = `${direction}${point}:${index}`;
    if (!c.state.rotation?.hooks.includes(id)) return attempt(c, { do: "hook", point, index, id });
  }
  return null;
}
