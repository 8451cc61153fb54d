import type { EventType } from "./events.ts";
import { adopt, bind } from "./adoption.ts";
import { acted, emit, stillOpen, withDelivery, withRotation, withVersion } from "./edit.ts";
import { cleared, close, foundKey, intend, seenState, serve } from "./effects.ts";
import type { TransitionOptions } from "./effects.ts";
import type { Fact } from "./facts.ts";
import { failureOf } from "./failures.ts";
import type { SecretState, Version } from "./model.ts";
import { versionOf } from "./model.ts";
import { outcomeOf } from "./reasons.ts";
import { abandon, begin, giveUp, isStillAsked } from "./rotation.ts";
import type { Now } from "./rules.ts";
import { applyWord } from "./said.ts";
import { move } from "./status.ts";

const TERMINAL_VERSIONS_KEPT = 10;

/** Facts after which what the last run ended in still stands. */
const SAYS_NOTHING_NEW: ReadonlySet<Fact["fact"]> = new Set([
  "leased",
  "renewed",
  "released",
  "stood",
  "read",
  "usage-looked",
  "reminded",
  "escalated",
  "noticed",
]);

const STRICT: TransitionOptions = { guardLeaked: true, mayLand: true };

/**
 * The document after a fact. Pure.
 *
 * Facts about the outside world are accepted whatever happened to the document meanwhile: they are true. What
 * a late one cannot prove any more it voids, so that it is looked at afresh.
 * @throws IllegalTransition when a fact would move a version where it may not go
 */
export function transition(
  before: SecretState,
  fact: Fact,
  now: Now,
  options: TransitionOptions = STRICT,
): SecretState {
  const standing = SAYS_NOTHING_NEW.has(fact.fact) ? before.standing : null;
  const state: SecretState = { ...before, clock: now.doc, mayLand: stillOpen(before, now), standing };
  return trim(apply({ ...state, seq: fact.fact === "renewed" ? before.seq : before.seq + 1 }, fact, now, options));
}

function apply(state: SecretState, fact: Fact, now: Now, options: TransitionOptions): SecretState {
  const actor = state.lease?.actor ?? state.rotation?.actor ?? "keyturn";
  const tell = (next: SecretState, type: EventType, data = {}): SecretState => emit(next, now, actor, type, data);
  switch (fact.fact) {
    case "leased": {
      const lease = { ...fact.lease, since: now.doc, renewedAt: now.doc };
      return { ...state, lease };
    }
    case "renewed":
      return state.lease?.runner === fact.runner ? { ...state, lease: { ...state.lease, renewedAt: now.doc } } : state;
    case "released":
      return state.lease?.runner === fact.runner ? { ...state, lease: null } : state;
    case "said":
      return applyWord(state, fact.word, fact.by, fact.id, now, options.guardLeaked);
    case "begun":
      return begunBy(state, fact, now);
    case "intended":
      return intend(state, fact.intent, fact.mint, now);
    case "closed":
      return close(state, fact.intent, fact.closing, now, options);
    case "key-found":
      return tell(foundKey(state, fact.version, fact.keyId, fact.dates, fact.inferred), "key-found", {
        version: fact.version,
        keyId: fact.keyId,
        inferred: fact.inferred,
      });
    case "key-absent":
      return withVersion(state, fact.version, (v) =>
        v.mint ? { ...v, mint: { ...v.mint, absences: v.mint.absences + 1 } } : v,
      );
    case "given-up":
      return tell(abandon(state, fact.version), "abandoned", { version: fact.version, why: fact.why });
    case "key-state":
      return withVersion(state, fact.version, (v) => seenState(v, fact.state, now, options));
    case "staged-seen":
      return withVersion(state, fact.version, (v) => ({ ...v, staged: fact.present }));
    case "delivery-seen":
      return serve(
        state,
        fact.delivery,
        fact.serves,
        fact.ref,
        now,
        { confirmed: fact.confirmed, written: false },
        options,
      );
    case "delivery-lost":
      return tell(
        withRotation(
          withDelivery(state, fact.delivery, (d) => ({ ...d, serves: null, writtenAt: null, confirmedAt: null })),
          { overlapFrom: null },
        ),
        "drift",
        { delivery: fact.delivery },
      );
    case "verified":
      return withVersion(state, fact.version, (v) => verified(v, fact.result, now));
    case "hook-done":
      if (fact.rotation !== (state.rotation?.id ?? null)) return state;
      return acted(
        tell(
          withRotation(cleared(state, "hook", fact.hook), { hooks: [...(state.rotation?.hooks ?? []), fact.hook] }),
          "hook-done",
          { hook: fact.hook },
        ),
        now,
        "hook",
        null,
        null,
      );
    case "overlap-started":
      return tell(withRotation(state, { overlapFrom: fact.from }), "overlap-started", {
        version: state.rotation?.to ?? null,
      });
    case "usage-looked":
      return Object.entries(fact.memories).reduce(
        (s, [id, usage]) => withVersion(s, id, (v) => ({ ...v, usage, usageLookedAt: now.doc })),
        state,
      );
    case "reminded":
      return tell(withRotation(state, { remindedAt: now.doc }), "straggler", { who: fact.who.join(", ") });
    case "escalated":
      return tell(withRotation(state, { escalatedAt: now.doc, remindedAt: now.doc }), "overlap-maximum", {
        who: fact.who.join(", "),
      });
    case "failed": {
      if (fact.rotation !== (state.rotation?.id ?? null)) return state;
      const others = state.rotation?.failures.filter((f) => f.step !== fact.failure.step) ?? [];
      const count = (failureOf(state, fact.failure.step)?.count ?? 0) + (fact.counts ? 1 : 0);
      const failure = { ...fact.failure, count, at: now.doc, retryAt: now.doc + fact.retryIn };
      return tell(withRotation(state, { failures: [...others, failure] }), "failed", {
        step: failure.step,
        reason: failure.reason,
        message: failure.message,
        count,
      });
    }
    case "debt":
      return tell(
        withVersion(state, fact.version, (v) => {
          const attempts = (v.debt?.attempts ?? 0) + 1;
          return {
            ...v,
            debt: { since: v.debt?.since ?? now.doc, attempts, lastError: fact.error, retryAt: now.doc + fact.retryIn },
          };
        }),
        "debt",
        { version: fact.version, error: fact.error },
      );
    case "refused": {
      const noted =
        fact.delivery === null
          ? state
          : withDelivery(state, fact.delivery, (d) => ({ ...d, lastError: fact.stopped.message }));
      const { reason, message } = fact.stopped;
      return tell(isStillAsked(state, fact) ? giveUp(noted, fact, now) : noted, "refused", { reason, message });
    }
    case "stopped":
      return tell({ ...state, stopped: { ...fact.stopped, halts: true, at: now.doc } }, "blocked", {
        reason: fact.stopped.reason,
        message: fact.stopped.message,
      });
    case "dead":
      return tell(
        withVersion(state, fact.version, (v) => ({ ...move(v, "destroyed"), debt: null, leftOpen: [], usage: {} })),
        "destroyed",
        { version: fact.version, keyId: versionOf(state, fact.version)?.keyId ?? null },
      );
    case "handed-back": {
      const keyId = versionOf(state, fact.version)?.keyId ?? null;
      const freed = withVersion(state, fact.version, (v) => ({
        ...v,
        keyId: null,
        mint: null,
        handBack: false,
        debt: null,
        status: "abandoned" as const,
      }));
      return tell({ ...freed, strangers: keyId === null ? freed.strangers : [...freed.strangers, keyId] }, "released", {
        keyId,
      });
    }
    case "turned-to":
      return tell(
        withVersion(withRotation(state, { to: fact.version, overlapFrom: null }), fact.version, (v) => ({
          ...v,
          verification: null,
        })),
        "turned-to",
        { version: fact.version },
      );
    case "rollback-failed": {
      const forward = withRotation(state, { rollback: null, overlapFrom: null, failures: [] });
      const stopped = { halts: false, reason: "nothing-to-roll-back-to", message: fact.why, at: now.doc } as const;
      return tell({ ...forward, stopped }, "rollback-failed", {
        version: fact.version,
        reason: stopped.reason,
        message: fact.why,
      });
    }
    case "looked-again":
      return { ...state, lookAgainAt: null };
    case "look-again":
      return { ...state, lookAgainAt: now.doc + fact.in };
    case "ended":
      return end(state, now);
    case "read":
      return {
        ...state,
        outbox: { ...state.outbox, cursors: fact.cursors, retryAt: fact.retryAt },
      };
    case "stood":
      return stand(state, fact, now);
    case "noticed":
      return tell(state, fact.event, fact.data);
    case "bound":
      return bind(state, fact);
    case "adopted":
      return adopt(state, fact, now);
  }
}

function verified(v: Version, result: "accepted" | "rejected" | "unknown", now: Now): Version {
  const old = v.verification;
  const kept = result === "rejected" ? 0 : (old?.successes ?? 0);
  const successes = result === "accepted" ? kept + 1 : kept;
  const firstSuccessAt = successes === 0 ? null : kept === 0 ? now.doc : (old?.firstSuccessAt ?? now.doc);
  const verification = {
    firstTryAt: old?.firstTryAt ?? now.doc,
    lastTryAt: now.doc,
    firstSuccessAt,
    successes,
    last: result,
  };
  return { ...v, verification };
}

function end(state: SecretState, now: Now): SecretState {
  const { rotation } = state;
  if (rotation === null) return state;
  const outcome = rotation.rollback === null ? "done" : "rolled-back";
  const { id, reason, startedAt } = rotation;
  const last = { id, reason, startedAt, endedAt: now.doc, outcome } as const;
  const ended = emit({ ...state, rotation: null, last, incident: null }, now, rotation.actor, outcome, {
    rotation: rotation.id,
  });
  return state.queued === null
    ? ended
    : begin(ended, { id: state.queued.id, reason: "manual", actor: state.queued.by, repair: state.queued.repair }, now);
}

function begunBy(state: SecretState, fact: Extract<Fact, { fact: "begun" }>, now: Now): SecretState {
  const { id, reason, actor, expiresAt } = fact;
  const begun = begin(state, { id, reason, actor, repair: false }, now);
  if (expiresAt === undefined) return begun;
  const keyId = versionOf(state, begun.rotation?.from ?? null)?.keyId ?? null;
  return emit(begun, now, "keyturn", "expiring", { keyId, expiresAt: new Date(expiresAt).toISOString() });
}

function stand(
  state: SecretState,
  { reason, message, until }: Extract<Fact, { fact: "stood" }>,
  now: Now,
): SecretState {
  const stood: SecretState = { ...state, standing: { reason, message, until, at: now.doc } };
  // What stops a secret was told when it stopped; what merely stands in its way is told when it is found.
  const told = state.standing?.reason === reason || state.stopped?.reason === reason || outcomeOf(reason) !== "blocked";
  return told ? stood : emit(stood, now, "keyturn", "blocked", { reason, message });
}

/** Bounds what a document carries: terminal versions and acks about them go first. */
function trim(state: SecretState): SecretState {
  const over = state.versions.filter((v) => isTerminal(v)).length - TERMINAL_VERSIONS_KEPT;
  if (over <= 0) return state;
  let drop = over;
  const versions = state.versions.filter((v) => !(isTerminal(v) && drop-- > 0));
  return { ...state, versions, acks: state.acks.filter((a) => versions.some((v) => v.id === a.version)) };
}

function isTerminal(v: Version): boolean {
  return !v.staged && (v.status === "destroyed" || (v.status === "abandoned" && v.keyId === null && v.mint === null));
}
