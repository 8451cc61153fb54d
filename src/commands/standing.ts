import type { SecretPolicy } from "../config/model.ts";
import { formatDuration, type Instant } from "../core/duration.ts";
import { living, type SecretState } from "../core/model.ts";
import { phaseOf } from "../core/phase.ts";
import { outcomeOf, REASONS, type Outcome, type ReasonCode } from "../core/reasons.ts";
import type { Now } from "../core/rules.ts";
import type { StateReport } from "../engine/report.ts";

export interface Standing {
  readonly outcome: Outcome;
  readonly reason: ReasonCode;
  readonly message: string;
  /** The document's clock. */
  readonly until: Instant | null;
}

/** Why a secret stands where it stands, as far as its document tells; only a run can say what is true of providers now. */
export function standingOf(state: SecretState, report: StateReport, policy: SecretPolicy | null, now: Now): Standing {
  return stopped(state) ?? held(state, policy, now) ?? blocked(state) ?? inFlight(state, report, policy, now) ?? idle(state, policy);
}

function say(reason: ReasonCode, message: string = REASONS[reason].message, until: Instant | null = null): Standing {
  return { outcome: outcomeOf(reason), reason, message, until };
}

function stopped({ stopped: stop, rotation }: SecretState): Standing | null {
  if (stop === null) return null;
  const standing = say(stop.reason as ReasonCode, stop.message);
  // A reason that fails the run which meets it blocks the later ones.
  return {
    ...standing,
    outcome: "blocked",
    message: rotation === null ? standing.message : `${standing.message}; its rotation comes to its end`,
  };
}

/** What the newest run found, unless the document moved since. */
function blocked({ standing }: SecretState): Standing | null {
  if (standing === null) return null;
  const reason = standing.reason as ReasonCode;
  return outcomeOf(reason) === "blocked" ? say(reason, standing.message) : null;
}

function held(state: SecretState, policy: SecretPolicy | null, now: Now): Standing | null {
  if (policy === null && living(state).length > 0) return say("not-in-policy");
  if (state.paused !== null) return say("paused", `paused by ${state.paused.by}: ${state.paused.reason}`);
  const hold = state.holds.find(({ until }) => until === null || until > now.wall);
  if (hold === undefined || (state.rotation === null && living(state).length < 2)) return null;
  return say("held", `held by ${hold.by}: ${hold.reason}`);
}

function inFlight(state: SecretState, report: StateReport, policy: SecretPolicy | null, now: Now): Standing | null {
  const { rotation } = state;
  if (rotation === null) return report.debt.length > 0 ? say("debt") : null;
  const [failure] = rotation.failures;
  if (failure !== undefined) return say(failure.reason as ReasonCode, failure.message, failure.retryAt);
  const phase = phaseOf(state);
  if (phase === "overlap") return overlap(state, report, policy, now);
  if (phase === "soaking") {
    const from = Math.max(
      ...state.versions.filter(({ status }) => status === "disabled").map(({ disabledAt }) => disabledAt ?? now.doc),
    );
    return say("soaking", undefined, policy === null ? null : from + policy.soak.for);
  }
  if (phase === "deleting") return say(report.debt.length > 0 ? "debt" : "settling");
  if (phase === "verifying") return say("verifying");
  if (phase === "distributing" || phase === "promoting" || phase === "rolling-back") return say("distributing");
  return say("settling", "a new key is on its way; the next run goes on");
}

function overlap(
  { rotation, versions }: SecretState,
  report: StateReport,
  policy: SecretPolicy | null,
  now: Now,
): Standing {
  const minimum =
    (rotation?.overlapFrom ?? now.doc) + (policy?.overlap.minimum ?? 0) * (policy?.usage === "none" ? 2 : 1);
  if (minimum > now.doc)
    return say("minimum-overlap", `both keys live for another ${formatDuration(minimum - now.doc)}`, minimum);
  const sentences = report.consumers.flatMap(({ floor, lastOnOldKey }) =>
    floor !== null && lastOnOldKey !== null ? [floor] : [],
  );
  if (sentences.length > 0) return say("old-key-in-use", sentences.join("; "));
  const missing = report.consumers
    .filter(({ required, adoptedAt }) => required && adoptedAt === null)
    .map(({ name }) => name);
  const looked = versions.some(({ status, usageLookedAt }) => status === "retiring" && usageLookedAt !== null);
  if (looked && missing.length > 0) return say("not-adopted", `${missing.join(", ")} not yet seen on the new key`);
  return say("usage-unknown");
}

function idle({ versions }: SecretState, policy: SecretPolicy | null): Standing {
  if (!versions.some(({ status }) => status === "current")) return say("not-due", "nothing issued or adopted yet");
  return say("not-due", policy?.enabled === false ? "switched off in the policy" : "nothing is due");
}
