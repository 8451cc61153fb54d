import { acted, emit, withDelivery, withRotation, withVersion } from "./edit.ts";
import type { Closing } from "./facts.ts";
import { failureOf, stepOf } from "./failures.ts";
import type { DeliveryState, Intent, SecretState, Version, VersionId } from "./model.ts";
import { versionOf } from "./model.ts";
import { abandon, newVersion } from "./rotation.ts";
import type { KeyDates } from "./observed.ts";
import type { Now } from "./rules.ts";
import { mayMove, move } from "./status.ts";
import { wantedId } from "./wanted.ts";

/** Test-only: see safeguards.ts. */
export interface TransitionOptions {
  readonly guardLeaked: boolean;
  readonly mayLand: boolean;
}

export function intend(
  state: SecretState,
  intent: Intent,
  mint: Omit<Version["mint"] & {}, "absences" | "again"> | null,
  now: Now,
): SecretState {
  let next: SecretState = { ...state, intent };
  if (intent.effect === "issue") {
    const known = versionOf(state, intent.version);
    const version: Version = {
      ...(known ?? newVersion(intent.version, now)),
      mint: mint === null ? null : { ...mint, absences: 0, again: known !== null },
    };
    next = {
      ...next,
      versions: [...state.versions.filter((v) => v.id !== version.id), version],
      minted: state.minted + 1,
    };
    next = withRotation(next, { to: version.id });
  }
  // Revoked before its successor is there: an accepted outage.
  const kills = intent.effect === "disable" || intent.effect === "delete";
  if (kills) next = withVersion(next, intent.version, (v) => (v.status === "current" ? move(v, "retiring") : v));
  if (intent.effect === "promote" || intent.effect === "put")
    next = withVersion(next, intent.version, (v) => ({ ...v, exposed: true }));
  const keyId = versionOf(next, intent.version)?.keyId ?? null;
  return emit(next, now, state.lease?.actor ?? "keyturn", "intent", {
    effect: intent.effect,
    version: intent.version,
    delivery: intent.delivery,
    keyId,
  });
}

export function close(
  state: SecretState,
  intent: Intent,
  closing: Closing,
  now: Now,
  options: TransitionOptions,
): SecretState {
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
      // The document was forgotten meanwhile: the key is ours all the same, and debt.
      if (versionOf(next, version) === null) next = { ...next, versions: [...next.versions, newVersion(version, now)] };
      next = foundKey(next, version, closing.keyId as string, closing.dates, false);
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
        : serve(
            next,
            delivery as string,
            version,
            closing.ref ?? null,
            now,
            { confirmed: closing.confirmed ?? false, written: true },
            options,
          );
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
export function cleared(state: SecretState, effect: string, delivery: string | null): SecretState {
  const step = stepOf(effect, delivery);
  return failureOf(state, step) === null
    ? state
    : withRotation(state, { failures: state.rotation?.failures.filter((f) => f.step !== step) ?? [] });
}

function afterKeyCall(v: Version, effect: Intent["effect"], now: Now, options: TransitionOptions): Version {
  if (effect === "delete") return { ...v, deletedAt: now.doc, debt: null };
  return { ...seenState(v, effect === "enable" ? "enabled" : "disabled", now, options), debt: null };
}

export function seenState(
  v: Version,
  seen: "enabled" | "disabled" | "gone",
  now: Now,
  options: TransitionOptions,
): Version {
  if (seen === "gone") return { ...v, deletedAt: v.deletedAt ?? now.doc };
  if (seen === "disabled") {
    const disabled = { ...v, disabledAt: v.disabledAt ?? now.doc, deletedAt: null };
    if (v.status === "current" && v.compromised) return move(move(disabled, "retiring"), "disabled");
    return v.status === "retiring" ? move(disabled, "disabled") : disabled;
  }
  const enabled = { ...v, disabledAt: null, deletedAt: null };
  return v.status === "disabled" && mayMove(v, "retiring", options.guardLeaked)
    ? move(enabled, "retiring", options.guardLeaked)
    : enabled;
}

function abandonUnissued(state: SecretState, intent: Intent, now: Now): SecretState {
  if (intent.effect !== "issue") return state;
  const version = versionOf(state, intent.version);
  if (version?.status !== "minting" || version.keyId !== null || version.mint?.again) return state;
  return emit(abandon(state, intent.version), now, "keyturn", "abandoned", {
    version: intent.version,
    why: "not issued",
  });
}

export function foundKey(
  state: SecretState,
  id: VersionId,
  keyId: string,
  dates: KeyDates | undefined,
  inferred: boolean,
): SecretState {
  const found = withVersion(state, id, (v) => {
    const known: Version = { ...v, ...dates, keyId, mint: null, origin: inferred ? "inferred" : v.origin };
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

export function serve(
  state: SecretState,
  deliveryId: string,
  id: VersionId,
  ref: string | null,
  now: Now,
  proof: { readonly confirmed: boolean; readonly written: boolean },
  options: TransitionOptions,
): SecretState {
  const isAuthority = state.deliveries[0]?.id === deliveryId;
  let next = withDelivery(state, deliveryId, (d): DeliveryState => ({
    ...d,
    serves: id,
    ref,
    lastError: null,
    writtenAt: proof.written || d.serves !== id || d.writtenAt === null ? now.doc : d.writtenAt,
    confirmedAt: proof.confirmed ? (d.serves === id && !proof.written ? (d.confirmedAt ?? now.doc) : now.doc) : null,
  }));
  if (proof.written) {
    const open = new Set(next.mayLand.filter((e) => e.delivery === deliveryId).map((e) => e.version));
    // A write that succeeded after an older one can no longer land has overtaken it.
    const overtaken = (v: Version): boolean => v.id !== id && !open.has(v.id) && v.leftOpen.includes(deliveryId);
    // Until now readers may have got any of those: both keys overlap from here on.
    if (next.versions.some(overtaken)) next = withRotation(next, { overlapFrom: null });
    next = {
      ...next,
      versions: next.versions.map((v) =>
        overtaken(v) ? { ...v, leftOpen: v.leftOpen.filter((d) => d !== deliveryId) } : v,
      ),
    };
  }
  // A store that serves it only now: both keys have to overlap from here on.
  const before = state.deliveries.find((d) => d.id === deliveryId);
  if (before?.serves !== id && next.rotation?.overlapFrom != null && wantedId(next) === id)
    next = withRotation(next, { overlapFrom: null });
  if (!isAuthority) return next;
  const versions = next.versions.map((v) => {
    if (v.id === id)
      return mayMove(v, "current", options.guardLeaked)
        ? move({ ...v, exposed: true }, "current", options.guardLeaked)
        : v.status === "pending"
          ? move({ ...v, exposed: true }, "retiring")
          : v;
    return v.status === "current" ? move(v, "retiring") : v;
  });
  return { ...next, versions };
}
