import type { Closing, Fact } from "./facts.ts";
import { acted, emit, stillOpen, withDelivery, withRotation, withVersion } from "./edit.ts";
import type { DeliveryState, Failure, Intent, Rotation, SecretState, Version, VersionId } from "./model.ts";
import { living, versionOf } from "./model.ts";
import { outcomeOf } from "./reasons.ts";
import type { ReasonCode } from "./reasons.ts";
import type { Now } from "./rules.ts";
import { applyWord, wantedId } from "./said.ts";
import { mayMove, move } from "./status.ts";

const TERMINAL_VERSIONS_KEPT = 10;

/** Facts after which what the last run ended in still stands. */
const SAYS_NOTHING_NEW: ReadonlySet<Fact["fact"]> = new Set(["leased", "renewed", "released", "stood", "read", "usage-looked", "reminded", "escalated", "noticed"]);

/** Test-only: see safeguards.ts. */
export interface TransitionOptions {
  readonly guardLeaked: boolean;
  readonly mayLand: boolean;
}

const STRICT: TransitionOptions = { guardLeaked: true, mayLand: true };

/**
 * The document after a fact. Pure.
 *
 * Facts about the outside world are accepted whatever happened to the document meanwhile: they are true. What
 * a late one cannot prove any more it voids, so that it is looked at afresh.
 * @throws IllegalTransition when a fact would move a version where it may not go
 */
export function transition(before: SecretState, fact: Fact, now: Now, options: TransitionOptions = STRICT): SecretState {
  const standing = SAYS_NOTHING_NEW.has(fact.fact) ? before.standing : null;
  const state: SecretState = { ...before, clock: now.doc, mayLand: stillOpen(before, now), standing };
  return trim(apply({ ...state, seq: fact.fact === "renewed" ? before.seq : before.seq + 1 }, fact, now, options));
}

function apply(state: SecretState, fact: Fact, now: Now, options: TransitionOptions): SecretState {
  const actor = state.lease?.actor ?? state.rotation?.actor ?? "keyturn";
  const tell = (next: SecretState, type: string, data = {}): SecretState => emit(next, now, actor, type, data);
  switch (fact.fact) {
    case "leased": {
      const lease = { ...fact.lease, since: now.doc, renewedAt: now.doc };
      return { ...state, lease, epoch: state.epoch + 1 };
    }
    case "renewed":
      return state.lease?.runner === fact.runner ? { ...state, lease: { ...state.lease, renewedAt: now.doc } } : state;
    case "released":
      return state.lease?.runner === fact.runner ? { ...state, lease: null } : state;
    case "said":
      return applyWord(state, fact.word, fact.by, fact.id, now, options.guardLeaked);
    case "begun":
      return begin(state, { id: fact.id, reason: fact.reason, actor: fact.actor, repair: false }, now);
    case "intended":
      return intend(state, fact.intent, fact.mint, now);
    case "closed":
      return close(state, fact.intent, fact.closing, now, options);
    case "key-found":
      return tell(foundKey(state, fact.version, fact.keyId, fact.createdAt, fact.inferred), "key-found", { version: fact.version, keyId: fact.keyId, inferred: fact.inferred });
    case "key-absent":
      return withVersion(state, fact.version, (v) => (v.mint ? { ...v, mint: { ...v.mint, absences: v.mint.absences + 1 } } : v));
    case "given-up":
      return tell(abandon(state, fact.version), "abandoned", { version: fact.version, why: fact.why });
    case "key-state":
      return withVersion(state, fact.version, (v) => seenState(v, fact.state, now, options));
    case "staged-seen":
      return withVersion(state, fact.version, (v) => ({ ...v, staged: fact.present }));
    case "delivery-seen":
      return serve(state, fact.delivery, fact.serves, fact.ref, now, { confirmed: fact.confirmed, written: false }, options);
    case "delivery-lost":
      return tell(withRotation(withDelivery(state, fact.delivery, (d) => ({ ...d, serves: null, writtenAt: null, confirmedAt: null })), { overlapFrom: null }), "drift", { delivery: fact.delivery });
    case "verified":
      return withVersion(state, fact.version, (v) => verified(v, fact.result, now));
    case "hook-done":
      return acted(tell(withRotation(cleared(state, "hook", fact.hook), { hooks: [...(state.rotation?.hooks ?? []), fact.hook] }), "hook-done", { hook: fact.hook }), now, "hook", null, null);
    case "overlap-started":
      return tell(withRotation(state, { overlapFrom: fact.from }), "overlap-started", { version: state.rotation?.to ?? null });
    case "usage-looked":
      return Object.entries(fact.memories).reduce((s, [id, usage]) => withVersion(s, id, (v) => ({ ...v, usage, usageLookedAt: now.doc })), state);
    case "reminded":
      return tell(withRotation(state, { remindedAt: now.doc }), "straggler", { who: fact.who.join(", ") });
    case "escalated":
      return tell(withRotation(state, { escalatedAt: now.doc, remindedAt: now.doc }), "overlap-maximum", { who: fact.who.join(", ") });
    case "failed": {
      const others = state.rotation?.failures.filter((f) => f.step !== fact.failure.step) ?? [];
      const count = (failureOf(state, fact.failure.step)?.count ?? 0) + (fact.counts ? 1 : 0);
      const failure = { ...fact.failure, count, at: now.doc, retryAt: now.doc + fact.retryIn };
      return tell(withRotation(state, { failures: [...others, failure] }), "failed", { step: failure.step, reason: failure.reason, message: failure.message, count });
    }
    case "debt":
      return tell(withVersion(state, fact.version, (v) => {
        const attempts = (v.debt?.attempts ?? 0) + 1;
        return { ...v, debt: { since: v.debt?.since ?? now.doc, attempts, lastError: fact.error, retryAt: now.doc + fact.retryIn } };
      }), "debt", { version: fact.version, error: fact.error });
    case "refused": {
      const noted = fact.delivery === null ? state : withDelivery(state, fact.delivery, (d) => ({ ...d, lastError: fact.stopped.message }));
      const stopped = { ...noted, stopped: { ...fact.stopped, halts: !fact.back, at: now.doc } };
      return tell(fact.back ? turnBack(stopped, "keyturn", now) : stopped, "refused", { reason: fact.stopped.reason, message: fact.stopped.message });
    }
    case "stopped":
      return tell({ ...state, stopped: { ...fact.stopped, halts: true, at: now.doc } }, "blocked", { reason: fact.stopped.reason, message: fact.stopped.message });
    case "dead":
      return tell(withVersion(state, fact.version, (v) => ({ ...move(v, "destroyed"), debt: null, leftOpen: [], usage: {} })), "destroyed", { version: fact.version, keyId: versionOf(state, fact.version)?.keyId ?? null });
    case "handed-back": {
      const keyId = versionOf(state, fact.version)?.keyId ?? null;
      const freed = withVersion(state, fact.version, (v) => ({ ...v, keyId: null, mint: null, handBack: false, debt: null, status: "abandoned" as const }));
      return tell({ ...freed, strangers: keyId === null ? freed.strangers : [...freed.strangers, keyId] }, "released", { keyId });
    }
    case "turned-to":
      return tell(withVersion(withRotation(state, { to: fact.version, overlapFrom: null }), fact.version, (v) => ({ ...v, verification: null })), "turned-to", { version: fact.version });
    case "looked-again":
      return { ...state, lookAgainAt: null };
    case "look-again":
      return { ...state, lookAgainAt: now.doc + fact.in };
    case "ended":
      return end(state, now);
    case "read":
      return { ...state, outbox: { ...state.outbox, cursors: { ...state.outbox.cursors, ...fact.cursors }, retryAt: fact.retryAt } };
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

export function newVersion(id: VersionId, now: Now): Version {
  return {
    id, keyId: null, status: "minting", origin: "issued", createdAt: null, since: now.doc, compromised: false, expedite: false,
    staged: false, exposed: false, leftOpen: [], mint: null, verification: null, disabledAt: null, deletedAt: null, usage: {},
    usageLookedAt: null, debt: null, handBack: false,
  };
}

export function begin(state: SecretState, start: Pick<Rotation, "id" | "reason" | "actor" | "repair">, now: Now): SecretState {
  const from = state.versions.find((v) => v.status === "current")?.id ?? null;
  const rotation: Rotation = {
    ...start, startedAt: now.doc, to: null, from, rollback: null, overlapFrom: null, hooks: [], mints: 0, failures: [],
    remindedAt: null, escalatedAt: null,
  };
  return emit({ ...state, rotation, stopped: null, queued: null }, now, start.actor, "started", { rotation: start.id, reason: start.reason });
}

function intend(state: SecretState, intent: Intent, mint: Omit<Version["mint"] & {}, "absences" | "again"> | null, now: Now): SecretState {
  let next: SecretState = { ...state, intent };
  if (intent.effect === "issue") {
    const known = versionOf(state, intent.version);
    const version: Version = { ...(known ?? newVersion(intent.version, now)), mint: mint === null ? null : { ...mint, absences: 0, again: known !== null } };
    next = { ...next, versions: [...state.versions.filter((v) => v.id !== version.id), version], minted: state.minted + 1 };
    next = withRotation(next, { to: version.id, mints: (state.rotation?.mints ?? 0) + 1 });
  }
  // Revoked before its successor is there: an accepted outage.
  const kills = intent.effect === "disable" || intent.effect === "delete";
  if (kills) next = withVersion(next, intent.version, (v) => (v.status === "current" ? move(v, "retiring") : v));
  if (intent.effect === "promote" || intent.effect === "put") next = withVersion(next, intent.version, (v) => ({ ...v, exposed: true }));
  const keyId = versionOf(next, intent.version)?.keyId ?? null;
  return emit(next, now, state.lease?.actor ?? "keyturn", "intent", { effect: intent.effect, version: intent.version, delivery: intent.delivery, keyId });
}

function close(state: SecretState, intent: Intent, closing: Closing, now: Now, options: TransitionOptions): SecretState {
  const late = state.intent?.id !== intent.id;
  let next: SecretState = late ? state : { ...state, intent: null };
  const { effect, version, delivery } = intent;
  if (closing.how === "refused") return abandonUnissued(next, intent, now);
  if (closing.how === "unknown") {
    if (late || !options.mayLand) return late ? next : abandonUnissued(next, intent, now);
    const until = intent.at + intent.duration + closing.settle;
    next = { ...next, mayLand: [...next.mayLand, { id: intent.id, effect, version, delivery, until }] };
    if (delivery !== null && (effect === "promote" || effect === "put")) next = leaveOpen(next, version, delivery);
    return emit(next, now, "keyturn", "outcome-unknown", { effect, version, delivery });
  }
  next = acted(cleared(next, effect, delivery), now, effect, version, delivery);
  switch (effect) {
    case "issue":
      next = foundKey(next, version, closing.keyId as string, closing.createdAt ?? null, false);
      break;
    case "stage":
      next = withVersion(next, version, (v) => ({ ...v, staged: true }));
      break;
    case "discard":
      if (!late) next = withVersion(next, version, (v) => ({ ...v, staged: false }));
      break;
    case "promote":
    case "put":
      next = late
        ? leaveOpen(next, version, delivery as string)
        : serve(next, delivery as string, version, closing.ref ?? null, now, { confirmed: closing.confirmed ?? false, written: true }, options);
      break;
    case "enable":
      next = { ...next, lookAgainAt: now.doc + intent.duration };
      if (!late) next = withVersion(next, version, (v) => afterKeyCall(v, effect, now, options));
      break;
    default:
      // A late answer of enable, disable or delete proves nothing of what holds now: the listing will.
      if (!late) next = withVersion(next, version, (v) => afterKeyCall(v, effect, now, options));
  }
  const keyId = versionOf(next, version)?.keyId ?? null;
  return emit(next, now, state.lease?.actor ?? "keyturn", effect, { version, delivery, keyId, late });
}

/** A step that works again ends its own series of failures, nobody else's. */
function cleared(state: SecretState, effect: string, delivery: string | null): SecretState {
  const step = stepOf(effect, delivery);
  return failureOf(state, step) === null ? state : withRotation(state, { failures: state.rotation?.failures.filter((f) => f.step !== step) ?? [] });
}

export function failureOf(state: SecretState, step: string): Failure | null {
  return state.rotation?.failures.find((f) => f.step === step) ?? null;
}

export function stepOf(effect: string, delivery: string | null): string {
  return delivery === null ? effect : `${effect} ${delivery}`;
}

function afterKeyCall(v: Version, effect: Intent["effect"], now: Now, options: TransitionOptions): Version {
  if (effect === "delete") return { ...v, deletedAt: now.doc, debt: null };
  return { ...seenState(v, effect === "enable" ? "enabled" : "disabled", now, options), debt: null };
}

function seenState(v: Version, seen: "enabled" | "disabled" | "gone", now: Now, options: TransitionOptions): Version {
  if (seen === "gone") return { ...v, deletedAt: v.deletedAt ?? now.doc };
  if (seen === "disabled") {
    const disabled = { ...v, disabledAt: v.disabledAt ?? now.doc, deletedAt: null };
    if (v.status === "current" && v.compromised) return move(move(disabled, "retiring"), "disabled");
    return v.status === "retiring" ? move(disabled, "disabled") : disabled;
  }
  const enabled = { ...v, disabledAt: null, deletedAt: null };
  return v.status === "disabled" && mayMove(v, "retiring", options.guardLeaked) ? move(enabled, "retiring", options.guardLeaked) : enabled;
}

function abandonUnissued(state: SecretState, intent: Intent, now: Now): SecretState {
  if (intent.effect !== "issue") return state;
  const version = versionOf(state, intent.version);
  if (version?.status !== "minting" || version.keyId !== null || version.mint?.again) return state;
  return emit(abandon(state, intent.version), now, "keyturn", "abandoned", { version: intent.version, why: "not issued" });
}

/** It will not be served: a key it may have is to be destroyed. */
export function abandon(state: SecretState, id: VersionId): SecretState {
  const dropped = withVersion(state, id, (v) => (mayMove(v, "abandoned") ? { ...move(v, "abandoned"), mint: v.keyId === null ? null : v.mint } : v));
  return state.rotation?.to === id ? withRotation(dropped, { to: null }) : dropped;
}

function foundKey(state: SecretState, id: VersionId, keyId: string, createdAt: number | null, inferred: boolean): SecretState {
  const found = withVersion(state, id, (v) => {
    const known: Version = { ...v, keyId, createdAt, mint: null, origin: inferred ? "inferred" : v.origin };
    if (v.status === "minting") return move(known, "pending");
    // It was given up already: the key that turned up after all is debt.
    return v.status === "destroyed" ? move({ ...known, deletedAt: null, disabledAt: null }, "abandoned") : known;
  });
  // A person's word may have made it unwanted while it was being made.
  return versionOf(found, id)?.status === "pending" && wantedId(found) !== id ? abandon(found, id) : found;
}

/** No answer, or one that came too late: what the delivery serves is no longer known. */
function leaveOpen(state: SecretState, version: VersionId, delivery: string): SecretState {
  const voided = withDelivery(state, delivery, (d) => ({ ...d, writtenAt: null, confirmedAt: null }));
  return withVersion(voided, version, (v) => ({ ...v, leftOpen: [...new Set([...v.leftOpen, delivery])] }));
}

function serve(
  state: SecretState, deliveryId: string, id: VersionId, ref: string | null, now: Now,
  proof: { readonly confirmed: boolean; readonly written: boolean }, options: TransitionOptions,
): SecretState {
  const isAuthority = state.deliveries[0]?.id === deliveryId;
  let next = withDelivery(state, deliveryId, (d): DeliveryState => ({
    ...d, serves: id, ref, lastError: null,
    writtenAt: proof.written || d.serves !== id || d.writtenAt === null ? now.doc : d.writtenAt,
    confirmedAt: proof.confirmed ? (d.serves === id && !proof.written ? (d.confirmedAt ?? now.doc) : now.doc) : null,
  }));
  if (proof.written) {
    const open = new Set(next.mayLand.filter((e) => e.delivery === deliveryId).map((e) => e.version));
    // A write that succeeded after an older one can no longer land has overtaken it.
    const overtaken = (v: Version): boolean => v.id !== id && !open.has(v.id) && v.leftOpen.includes(deliveryId);
    // Until now readers may have got any of those: both keys overlap from here on.
    if (next.versions.some(overtaken)) next = withRotation(next, { overlapFrom: null });
    next = { ...next, versions: next.versions.map((v) => (overtaken(v) ? { ...v, leftOpen: v.leftOpen.filter((d) => d !== deliveryId) } : v)) };
  }
  // A store that serves it only now: both keys have to overlap from here on.
  const before = state.deliveries.find((d) => d.id === deliveryId);
  if (before?.serves !== id && next.rotation?.overlapFrom != null && wantedId(next) === id) next = withRotation(next, { overlapFrom: null });
  if (!isAuthority) return next;
  const versions = next.versions.map((v) => {
    if (v.id === id) return mayMove(v, "current", options.guardLeaked) ? move({ ...v, exposed: true }, "current", options.guardLeaked) : v.status === "pending" ? move({ ...v, exposed: true }, "retiring") : v;
    return v.status === "current" ? move(v, "retiring") : v;
  });
  return { ...next, versions };
}

function verified(v: Version, result: "accepted" | "rejected" | "unknown", now: Now): Version {
  const old = v.verification;
  const kept = result === "rejected" ? 0 : (old?.successes ?? 0);
  const successes = result === "accepted" ? kept + 1 : kept;
  const firstSuccessAt = successes === 0 ? null : kept === 0 ? now.doc : (old?.firstSuccessAt ?? now.doc);
  const verification = { firstTryAt: old?.firstTryAt ?? now.doc, lastTryAt: now.doc, firstSuccessAt, successes, last: result };
  return { ...v, verification };
}

/** The wanted version becomes the one the rotation came from; the new one is unwanted from now on. */
export function turnBack(state: SecretState, by: string, now: Now): SecretState {
  const { rotation } = state;
  if (rotation === null || rotation.rollback !== null) return state;
  let next = withRotation(state, { rollback: { at: now.doc, by }, overlapFrom: null, failures: [], remindedAt: null, escalatedAt: null });
  const to = versionOf(next, rotation.to);
  if (to?.status === "pending") next = to.exposed ? withVersion(next, to.id, (v) => move(v, "retiring")) : withVersion(next, to.id, (v) => move(v, "abandoned"));
  if (rotation.from !== null && to?.exposed) next = withVersion(next, rotation.from, (v) => ({ ...v, verification: null, expedite: false }));
  return emit(next, now, by, "rolling-back", { to: rotation.from });
}

function end(state: SecretState, now: Now): SecretState {
  const { rotation } = state;
  if (rotation === null) return state;
  const outcome = rotation.rollback === null ? "done" : "rolled-back";
  const last = { id: rotation.id, reason: rotation.reason, endedAt: now.doc, outcome } as const;
  const ended = emit({ ...state, rotation: null, last, incident: null }, now, rotation.actor, outcome, { rotation: rotation.id });
  return state.queued === null ? ended : begin(ended, { id: state.queued.id, reason: "manual", actor: state.queued.by, repair: state.queued.repair }, now);
}

function stand(state: SecretState, { reason, message, until }: Extract<Fact, { fact: "stood" }>, now: Now): SecretState {
  const stood: SecretState = { ...state, standing: { reason, message, until, at: now.doc } };
  // What stops a secret was told when it stopped; what merely stands in its way is told when it is found.
  const told = state.standing?.reason === reason || state.stopped?.reason === reason || outcomeOf(reason as ReasonCode) !== "blocked";
  return told ? stood : emit(stood, now, "keyturn", "blocked", { reason, message });
}

function bind(state: SecretState, fact: Extract<Fact, { fact: "bound" }>): SecretState {
  const known = new Map(state.deliveries.map((d) => [d.id, d]));
  const named = fact.deliveries.map((d): DeliveryState => {
    const old = known.get(d.id);
    known.delete(d.id);
    return old ? { ...old, use: d.use, name: d.name, binding: old.binding ?? d.binding } : { ...d, serves: null, ref: null, writtenAt: null, confirmedAt: null, lastError: null };
  });
  // Lines taken out of the policy stay known while they may serve a living key of ours.
  const inFlight = state.rotation !== null && state.rotation.to !== null;
  const alive = new Set(living(state).map((v) => v.id));
  const removed = [...known.values()].filter((d) => (d.serves === null ? inFlight : alive.has(d.serves)));
  return { ...state, issuerBinding: state.issuerBinding ?? fact.issuer, deliveries: [...named, ...removed] };
}

function adopt(state: SecretState, fact: Extract<Fact, { fact: "adopted" }>, now: Now): SecretState {
  const known = state.versions.find((v) => v.keyId === fact.keyId && v.status !== "destroyed");
  const version: Version = {
    ...(known ?? newVersion(fact.version, now)), keyId: fact.keyId, status: "current", origin: known?.origin ?? "adopted",
    createdAt: fact.createdAt, exposed: true,
  };
  const others = state.versions.filter((v) => v.id !== version.id).map((v) => (v.status === "current" ? move(v, "retiring") : v));
  let next: SecretState = { ...state, versions: [...others, version], minted: known ? state.minted : state.minted + 1, stopped: null };
  for (const { delivery, ref } of fact.serving) {
    next = withDelivery(next, delivery, (d) => ({ ...d, serves: version.id, ref, writtenAt: null, confirmedAt: now.doc, lastError: null }));
  }
  const superseded = living(next).some((v) => v.id !== version.id);
  // What it takes the place of ends by the rules of a rotation that has just promoted its version.
  if (superseded && next.rotation === null) next = begin(next, { id: fact.rotation, reason: "manual", actor: "keyturn", repair: false }, now);
  if (next.rotation !== null) next = withRotation(next, { to: version.id, rollback: null, overlapFrom: null });
  return acted(emit(next, now, "keyturn", "adopted", { version: version.id, keyId: fact.keyId }), now, "adopt", version.id, null);
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
