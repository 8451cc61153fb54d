import type { Duration } from "../core/duration.ts";
import type { SecretState } from "../core/model.ts";
import { living } from "../core/model.ts";
import { phaseOf } from "../core/phase.ts";
import type { ReasonCode } from "../core/reasons.ts";
import type { Now, SecretRules } from "../core/rules.ts";
import type { Standing } from "./result.ts";

/**
 * What a run sits through. `none`: a moment at most (CI). `short`: what gets the new key served (`rotate`).
 * `served`: until every store serves the wanted version (`rollback`). `dead`: until every leaked key is dead
 * (`emergency`). `all`: to the end.
 */
export type Sit = "none" | "short" | "served" | "dead" | "all";

/** What the length of a wait depends on. */
export interface Room {
  readonly sit: Sit;
  readonly waitMax: Duration | null;
  readonly waited: Duration;
  readonly state: SecretState;
  readonly now: Now;
  readonly rules: SecretRules;
  readonly held: ReadonlySet<string>;
}

const MOMENT: Duration = 2000;
/** Short waits on the way to a served key: those that the world ends soon, not those that are meant to last. */
const ON_THE_WAY: ReadonlySet<ReasonCode> = new Set([
  "settling",
  "verifying",
  "distributing",
  "replica-not-in-sync",
  "provider-unavailable",
  "hook-failed",
]);

/** Waits that nothing ends but time, or a person, who needs no run to stay for that. */
const BY_TIME_ALONE: ReadonlySet<ReasonCode> = new Set([
  "minimum-overlap",
  "old-key-in-use",
  "soaking",
  "outside-window",
  "paused",
  "settling",
  "verifying",
  "distributing",
]);

/** A value exists only in this process until the authority has it: giving up now would waste the key. */
function isOnlyHere(state: SecretState, held: ReadonlySet<string>): boolean {
  return state.versions.some((v) => v.status === "pending" && !v.staged && held.has(v.id));
}

/** Whether a lease is let go of for this wait, so that others may work meanwhile. */
export function outlasts(lease: Duration, decision: Standing, nap: Duration, { state, now, held }: Room): boolean {
  const until = decision.decision === "wait" ? (decision.until ?? now.doc) : now.doc;
  return !isOnlyHere(state, held) && Math.max(nap, until - now.doc) > lease;
}

/** How long to sleep before deciding again; null: this run ends here. */
export function napFor(decision: Standing, room: Room): Duration | null {
  if (decision.decision !== "wait") return null;
  const left = room.waitMax === null ? Infinity : room.waitMax - room.waited;
  const wanted = decision.until === null ? MOMENT : Math.max(0, decision.until - room.now.doc);
  if (left <= 0 || !goesOn(decision.reason, wanted, room)) return null;
  // Nothing comes of a stay that ends before the next step.
  if (wanted > left && BY_TIME_ALONE.has(decision.reason) && !isOnlyHere(room.state, room.held)) return null;
  // Long waits are slept in pieces, so that a person's word, or another run, is noticed.
  const piece = Math.max(1000, Math.min(30_000, wanted / 20));
  return Math.min(wanted, piece, left) + 1;
}

function goesOn(reason: ReasonCode, wanted: Duration, { sit, waited, state, rules, held }: Room): boolean {
  // Only a person can mend that, and no time does.
  if (reason === "credentials-missing") return false;
  const onlyHere = isOnlyHere(state, held);
  switch (sit) {
    case "all":
      return true;
    case "dead":
      return (
        living(state).some(
          (v) => v.compromised && v.keyId !== null && v.status !== "disabled" && v.disabledAt === null,
        ) || isBeingReplaced(state)
      );
    case "served":
      return phaseOf(state) === "rolling-back" && waited < rules.verify.deadline;
    case "short":
      return (
        onlyHere ||
        (ON_THE_WAY.has(reason) &&
          state.rotation !== null &&
          state.rotation.overlapFrom === null &&
          waited < rules.verify.deadline)
      );
    case "none":
      return onlyHere || (ON_THE_WAY.has(reason) && wanted <= MOMENT && waited < 5 * MOMENT);
  }
}

function isBeingReplaced(state: SecretState): boolean {
  return state.incident !== null && state.rotation !== null && state.rotation.overlapFrom === null;
}
