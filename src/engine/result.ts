import type { Decision } from "../core/case.ts";
import type { Duration, Instant } from "../core/duration.ts";
import type { ActionRecord, Paused, SecretState, StateEvent } from "../core/model.ts";
import type { Failed } from "../core/observed.ts";
import type { Phase } from "../core/phase.ts";
import { hintOf, outcomeOf } from "../core/reasons.ts";
import type { Outcome, ReasonCode } from "../core/reasons.ts";
import type { Now } from "../core/rules.ts";
import type { Sit } from "./sit.ts";

export interface RunOptions {
  /** Start a rotation when the schedule says so; false: only advance what is in flight. */
  readonly start: boolean;
  readonly sit: Sit;
  /** Upper bound for all sitting, ms; null: none. */
  readonly waitMax: Duration | null;
  /** How long to wait for another run's lease, ms. */
  readonly lockTimeout: Duration;
  readonly signal: AbortSignal;
  /** Asked before the first decision, and again before each that may turn on it. */
  readonly pausedAll?: () => Promise<PausedAll | null>;
  /** Around each sleep of the run: whoever shares its place with others lets them work meanwhile. */
  readonly aside?: (nap: () => Promise<void>) => Promise<void>;
  readonly onProgress?: (progress: Progress) => void;
}

/** A pause that is not of the secret itself. */
export interface PausedAll {
  readonly reason: string;
  readonly by: string;
  /** Wall clock; left out: until a person ends it. */
  readonly until?: Instant;
}

export interface Progress {
  readonly name: string;
  readonly phase: Phase;
  readonly outcome: Outcome;
  readonly reason: ReasonCode;
  readonly message: string;
  /** Wall clock. */
  readonly until: Instant | null;
  readonly state: SecretState;
  readonly event?: StateEvent;
}

export interface RunResult {
  readonly name: string;
  readonly outcome: Outcome;
  readonly reason: ReasonCode;
  readonly message: string;
  /** Wall clock. */
  readonly until: Instant | null;
  readonly hints: readonly string[];
  readonly state: SecretState | null;
  /** What this run did. */
  readonly actions: readonly ActionRecord[];
  /** Added to a document instant, gives wall time. */
  readonly offset: Duration;
}

/** A decision that a run can end in. */
export type Standing = Exclude<Decision, { readonly decision: "look" | "act" | "note" }>;

/** What a result is made of, beside the decision that a run ended in. */
export interface Account {
  readonly name: string;
  readonly state: SecretState | null;
  readonly actions: readonly ActionRecord[];
  readonly now: Now;
  /** A refusal, or a revocation that did not succeed. */
  readonly failed: Failed | null;
  readonly sit: Sit;
}

/** Added to a document instant, gives wall time. */
export function offsetOf(now: Now): Duration {
  return now.wall - now.doc;
}

/** A pause that no document holds, as the rules look at it. */
export function pausedIn(all: PausedAll | null, now: Now): Paused | null {
  if (all === null) return null;
  const { reason, by, until } = all;
  return { reason, by, at: now.doc, ...(until !== undefined && { until: until - offsetOf(now) }) };
}

export function conclude(decision: Standing, run: Account): RunResult {
  const { state, failed } = run;
  const until = decision.decision === "wait" && decision.until !== null ? decision.until + offsetOf(run.now) : null;
  if (failed !== null) return ended("failed", failed.reason, failed.message, until, run);
  // A rolled back secret is brought to its end, and still needs a person before it rotates again.
  const isRolledBack = state?.rotation?.rollback != null && run.sit !== "served";
  // What a person asked for was not done, and the rotation goes on forward: nobody may take that for the way back.
  const isRefused = state?.rotation != null && state.stopped?.reason === "nothing-to-roll-back-to";
  const stopped = isRolledBack || isRefused ? (state?.stopped ?? null) : null;
  if (decision.decision === "wait" && stopped !== null) {
    return ended("blocked", stopped.reason, `${stopped.message}; meanwhile: ${decision.message}`, until, run);
  }
  const outcome = decision.decision === "wait" ? outcomeOf(decision.reason) : decision.decision;
  return ended(outcome, decision.reason, decision.message, until, run, "hint" in decision ? decision.hint : undefined);
}

/** What helps on: the decision's own hint, then the one that its reason always has. */
export function helpFor(
  {
    reason,
    until,
    hint,
  }: { readonly reason: ReasonCode; readonly until: Instant | null; readonly hint?: string | undefined },
  name: string,
  state: Pick<SecretState, "paused"> | null,
): string[] {
  const isAnothers = reason === "paused" && (state?.paused ?? null) === null;
  const usual = isAnothers ? pauseHint(until) : hintOf(reason, name);
  return [hint, usual].filter((one) => one != null);
}

/** Of a pause that is not the secret's own: a blackout ends by itself, a pause of everything does not. */
function pauseHint(until: Instant | null): string {
  return until === null ? "keyturn resume" : "one of the policy's blackouts is under way";
}

export function ended(
  outcome: Outcome,
  reason: ReasonCode,
  message: string,
  until: Instant | null,
  run: Account,
  own?: string,
): RunResult {
  const { name, state, actions } = run;
  const hints = helpFor({ reason, until, hint: own }, name, state);
  return {
    name,
    outcome,
    reason,
    message,
    until,
    hints,
    state,
    actions,
    offset: offsetOf(run.now),
  };
}
