import type { SecretPolicy } from "../config/model.ts";
import { formatDuration, type Instant } from "../core/duration.ts";
import { living, versionOf, type Hold, type Paused, type SecretState } from "../core/model.ts";
import { phaseOf } from "../core/phase.ts";
import { sentence } from "../core/quiet.ts";
import { outcomeOf, REASONS, type Outcome, type ReasonCode } from "../core/reasons.ts";
import type { Now, SecretRules } from "../core/rules.ts";
import { judge } from "../core/usage.ts";
import { wantedId } from "../core/wanted.ts";
import { blackoutOf } from "./pause.ts";

export interface Standing {
  readonly outcome: Outcome;
  readonly reason: ReasonCode;
  readonly message: string;
  /** The document's clock. */
  readonly until: Instant | null;
}

/** What the document alone does not tell. */
export interface Surroundings {
  readonly policy: SecretPolicy | null;
  /** null: its adapters are not loaded. */
  readonly rules: SecretRules | null;
  /** A pause of everything. */
  readonly pausedAll: Pause | null;
  readonly now: Now;
}

export type Pause = Pick<Paused, "reason" | "by">;

/**
 * Why a secret stands where it stands: as the newest run found it, else as far as its document tells; only a run can
 * say what is true of providers now.
 */
export function standingOf(state: SecretState, around: Surroundings): Standing {
  const { policy, pausedAll, now } = around;
  return (
    stopped(state) ??
    forgotten(state, policy) ??
    (canPause(state) ? (paused(pausedAll) ?? blackout(state, around)) : null) ??
    found(state, around) ??
    held(state, now) ??
    inFlight(state, around) ??
    idle(state, policy)
  );
}

function say(reason: ReasonCode, message: string = REASONS[reason].message, until: Instant | null = null): Standing {
  return { outcome: outcomeOf(reason), reason, message, until };
}

/** A reason that fails the run which meets it blocks the later ones. A rollback is brought to its end first. */
function stopped({ stopped: stop, rotation }: SecretState): Standing | null {
  if (stop === null || (rotation !== null && !stop.halts)) return null;
  return { ...say(stop.reason, stop.message), outcome: "blocked" };
}

function forgotten(state: SecretState, policy: SecretPolicy | null): Standing | null {
  return policy === null && living(state).length > 0 ? say("not-in-policy") : null;
}

/** An emergency goes on in a pause, and so does a rollback until the old value is back. */
function canPause(state: SecretState): boolean {
  return state.incident === null && phaseOf(state) !== "rolling-back";
}

function paused(all: Pause | null): Standing | null {
  return all === null ? null : say("paused", `everything is paused by ${all.by}: ${all.reason}`);
}

/** Where nothing goes on there is nothing that it keeps. */
function blackout(state: SecretState, { policy, now }: Surroundings): Standing | null {
  if (policy === null || (state.rotation === null && living(state).length < 2)) return null;
  const over = blackoutOf(policy, now.wall);
  return over === null ? null : say("paused", `paused by ${over.by}: ${over.reason}`, over.until - now.wall + now.doc);
}

/** Follow from the document alone, and their messages name spans of time that have gone on since. */
const DERIVED: ReadonlySet<ReasonCode> = new Set(["minimum-overlap", "old-key-in-use", "soaking"]);

/** Waits for a time that is known: once it is over they say nothing any more. */
const ENDS_BY_ITSELF: ReadonlySet<ReasonCode> = new Set(["distributing", "verifying", "settling", "outside-window"]);

/** What the newest run ended in, unless the document moved since, or what it met has passed without a commit. */
function found(state: SecretState, around: Surroundings): Standing | null {
  const { standing } = state;
  if (standing === null) return null;
  const reason = standing.reason;
  if (DERIVED.has(reason)) {
    const derived = inFlight(state, around);
    return derived?.reason === reason ? { ...derived, until: derived.until ?? standing.until } : derived;
  }
  const isOver =
    (ENDS_BY_ITSELF.has(reason) && (standing.until ?? Infinity) <= around.now.doc) ||
    (reason === "paused" && state.paused === null) ||
    (reason === "held" && heldBy(state, around.now) === undefined);
  return isOver || outcomeOf(reason) === "done" ? null : say(reason, standing.message, standing.until);
}

function heldBy({ holds }: SecretState, now: Now): Hold | undefined {
  return holds.find(({ until }) => until === null || until > now.doc);
}

function held(state: SecretState, now: Now): Standing | null {
  if (state.paused !== null && canPause(state))
    return say("paused", `paused by ${state.paused.by}: ${state.paused.reason}`);
  const hold = heldBy(state, now);
  if (hold === undefined || (state.rotation === null && living(state).length < 2)) return null;
  return say("held", `held by ${hold.by}: ${hold.reason}`);
}

function inFlight(state: SecretState, { policy, rules, now }: Surroundings): Standing | null {
  const { rotation } = state;
  const inDebt = state.versions.some(({ debt, status }) => debt !== null && status !== "destroyed");
  if (rotation === null) return inDebt ? say("debt") : null;
  const [failure] = rotation.failures;
  if (failure !== undefined) return say(failure.reason, failure.message, failure.retryAt);
  switch (phaseOf(state)) {
    case "overlap":
      return overlap(state, { policy, rules, now });
    case "soaking": {
      const from = Math.max(
        ...state.versions.filter(({ status }) => status === "disabled").map(({ disabledAt }) => disabledAt ?? now.doc),
      );
      return say("soaking", undefined, policy === null ? null : from + policy.soak.for);
    }
    case "deleting":
      if (inDebt) return say("debt");
      if (state.lookAgainAt === null) return settling(state, "the old key is on its way out; the next run goes on");
      return settling(state, "what is served is looked at once more", state.lookAgainAt);
    case "verifying":
      return say("verifying");
    case "distributing":
    case "promoting":
    case "rolling-back":
      return say("distributing");
    default:
      return settling(state, "a new key is on its way; the next run goes on");
  }
}

/** An effect without an answer comes first: nothing goes on while it may still take place. */
function settling({ mayLand }: SecretState, message: string, until: Instant | null = null): Standing {
  if (mayLand.length === 0) return say("settling", message, until);
  return say("settling", undefined, Math.max(...mayLand.map((effect) => effect.until)));
}

function overlap(state: SecretState, { policy, rules, now }: Omit<Surroundings, "pausedAll">): Standing {
  const minimum =
    (state.rotation?.overlapFrom ?? now.doc) + (policy?.overlap.minimum ?? 0) * (policy?.usage === "none" ? 2 : 1);
  if (minimum > now.doc)
    return say("minimum-overlap", `both keys live for another ${formatDuration(minimum - now.doc)}`, minimum);
  const old = state.versions.find(({ status }) => status === "retiring");
  if (old === undefined || rules === null) return say("usage-unknown");
  const context = { state, rules, now };
  const judgements = judge(old, versionOf(state, wantedId(state)), context);
  const users = judgements.filter(({ verdict }) => verdict === "in-use");
  if (users.length > 0) return say("old-key-in-use", users.map((one) => sentence(context, old, one)).join("; "));
  const missing = judgements.filter(({ mustAdopt, adopted }) => mustAdopt && !adopted).map(({ name }) => name);
  const looked = rules.usage === "none" || old.usageLookedAt !== null;
  if (looked && missing.length > 0) return say("not-adopted", `${missing.join(", ")} not yet seen on the new key`);
  if (!looked || judgements.some(({ verdict }) => verdict === "unknown")) return say("usage-unknown");
  return settling(state, "the old key is quiet; the next run goes on");
}

function idle({ versions }: SecretState, policy: SecretPolicy | null): Standing {
  const current = versions.find(({ status }) => status === "current");
  if (current === undefined) return say("not-due", "nothing issued or adopted yet");
  if (current.compromised) return say("compromised", `${current.id} has leaked and is still served`);
  return say("not-due", policy?.enabled === false ? "switched off in the policy" : "nothing is due");
}
