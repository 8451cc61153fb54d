import type { Instant } from "./duration.ts";
import { emit, stillOpen, withRotation, withVersion } from "./edit.ts";
import type { Intent, SecretState, Version, VersionId } from "./model.ts";
import { living, versionOf } from "./model.ts";
import type { ReasonCode } from "./reasons.ts";
import type { Now } from "./rules.ts";
import { abandon, begin, turnBack } from "./rotation.ts";
import { ackedVersion, wantedId } from "./wanted.ts";
import type { Word } from "./words.ts";

/** Why a word cannot be honoured; the document stays as it is. */
export interface Refusal {
  readonly reason: ReasonCode;
  readonly message: string;
}

/** What was committed and may yet take place. */
function underWay(state: SecretState, now: Now): readonly Pick<Intent, "effect" | "version">[] {
  return [...(state.intent === null ? [] : [state.intent]), ...stillOpen(state, now)];
}

/** null: the word is in order. */
export function refusalOf(state: SecretState, word: Word, now: Now): Refusal | null {
  switch (word.word) {
    case "hold": {
      const open = underWay(state, now).find(({ effect }) => effect === "disable" || effect === "delete");
      if (open === undefined) return null;
      return { reason: "too-late", message: `the ${open.effect} of ${open.version} was committed before this hold` };
    }
    case "rollback":
      return refuseRollback(state, now);
    case "revoke": {
      const version = versionOf(state, word.version);
      if (version === null || !living(state).includes(version))
        return { reason: "no-such-version", message: `no living version ${word.version}` };
      const isServed = version.status === "current" || state.deliveries.some((d) => d.serves === version.id);
      if (isServed || (version.id === wantedId(state) && version.status !== "minting")) {
        return { reason: "is-current", message: `${version.id} is the version that consumers get` };
      }
      return null;
    }
    case "emergency": {
      const alive = living(state).map((v) => v.id);
      const missing = word.versions?.find((id) => !alive.includes(id));
      if (missing !== undefined) return { reason: "no-such-version", message: `no living version ${missing}` };
      return alive.length === 0 ? { reason: "unmanaged", message: "no key of this secret is recorded" } : null;
    }
    case "ack":
      return refuseAck(state, word, now);
    case "release":
      return living(state).some((v) => v.keyId === word.keyId && v.origin !== "inferred")
        ? { reason: "is-current", message: `${word.keyId} is a key that this secret made` }
        : null;
    default:
      return null;
  }
}

/** Before every store serves the version, whoever uses it may still read the other one. */
function refuseAck(state: SecretState, word: Extract<Word, { word: "ack" }>, now: Now): Refusal | null {
  const { rotation } = state;
  if (ackedVersion(state) === null)
    return { reason: "unmanaged", message: "there is no current version to acknowledge" };
  if (word.kind === "store" || rotation === null) return null;
  if (rotation.overlapFrom !== null && rotation.overlapFrom <= now.doc) return null;
  return { reason: "too-early", message: `not every store serves ${wantedId(state) ?? "a new version"} yet` };
}

function refuseRollback(state: SecretState, now: Now): Refusal | null {
  const nowhere = (message: string): Refusal => ({ reason: "nothing-to-roll-back-to", message });
  const { rotation } = state;
  if (rotation === null) return nowhere("no rotation is in flight: the earlier key is gone, or there never was one");
  if (rotation.rollback !== null) return null;
  if (state.incident !== null)
    return { reason: "compromised", message: "an emergency is under way, and a leaked key never comes back" };
  const from = versionOf(state, rotation.from);
  const exposed = versionOf(state, rotation.to)?.exposed ?? false;
  if (from === null) return exposed ? nowhere("this is the first key of the secret") : null;
  if (from.compromised) return { reason: "compromised", message: `${from.id} has leaked and never comes back` };
  if (from.status === "destroyed" || from.deletedAt !== null) return nowhere(`the key of ${from.id} is deleted`);
  const sent = underWay(state, now).some(({ effect, version }) => effect === "delete" && version === from.id);
  return sent ? nowhere(`the delete of ${from.id} was already sent`) : null;
}

/** Applies a word that `refusalOf` let pass. */
export function applyWord(
  state: SecretState,
  word: Word,
  by: string,
  id: string,
  now: Now,
  stamps = true,
): SecretState {
  const tell = (next: SecretState, data: Record<string, string | number | boolean | null> = {}): SecretState =>
    emit(next, now, by, word.word, data);
  switch (word.word) {
    case "rotate":
      return rotate(state, word.repair, by, id, now);
    case "hold":
      return tell(
        {
          ...state,
          holds: [...state.holds, { reason: word.reason, by, at: now.doc, until: onDocument(word.until, now) }],
        },
        { reason: word.reason },
      );
    case "unhold":
      return tell({ ...state, holds: [] });
    case "ack": {
      const version = ackedVersion(state) as VersionId;
      const others = state.acks.filter((a) => !(a.kind === word.kind && a.name === word.name && a.version === version));
      return tell(
        { ...state, acks: [...others, { kind: word.kind, name: word.name, version, by, at: now.doc }] },
        { kind: word.kind, name: word.name, version },
      );
    }
    case "rollback":
      return tell({
        ...turnBack(preempt(state), by, now),
        stopped: { halts: false, reason: "rolled-back", message: `rolled back by ${by}`, at: now.doc },
        queued: null,
      });
    case "revoke":
      return tell(
        withVersion(unwish(state, word.version), word.version, (v) => ({
          ...v,
          expedite: true,
          compromised: v.compromised || word.compromised,
        })),
        { version: word.version, compromised: word.compromised },
      );
    case "emergency":
      return emergency(
        tell(preempt(state), { versions: word.versions?.join(", ") ?? "all" }),
        word,
        by,
        id,
        now,
        stamps,
      );
    case "pause":
      return tell({ ...state, paused: { reason: word.reason, by, at: now.doc } }, { reason: word.reason });
    case "resume":
      return tell({ ...state, paused: null });
    case "unlock":
      return tell(preempt(state));
    case "forget": {
      const alive = living(state).map(({ id, keyId }) => keyId ?? id);
      return tell(preempt(state), { leftAlive: alive.join(", "), rotation: state.rotation?.id ?? null });
    }
    case "release": {
      const inferred = living(state).find((v) => v.keyId === word.keyId && v.origin === "inferred");
      if (inferred === undefined)
        return tell({ ...state, strangers: [...new Set([...state.strangers, word.keyId])] }, { keyId: word.keyId });
      return tell(
        withVersion(state, inferred.id, (v) => ({ ...v, handBack: true })),
        { keyId: word.keyId },
      );
    }
  }
}

/** What a person said by the clock on the wall, on the clock that every machine measures by. */
function onDocument(wall: Instant | null, now: Now): Instant | null {
  return wall === null ? null : wall - now.wall + now.doc;
}

/** One that is still being made, or whose answer was lost, is no longer what the rotation leads to. */
function unwish(state: SecretState, id: VersionId): SecretState {
  const isMinting = versionOf(state, id)?.status === "minting";
  return isMinting && state.rotation?.to === id ? withRotation(state, { to: null }) : state;
}

/** Fences whoever holds the lease: its next commit is stale, and its open intent is waited out by the next holder. */
function preempt(state: SecretState): SecretState {
  return { ...state, lease: null, epoch: state.epoch + 1 };
}

function rotate(state: SecretState, repair: boolean, by: string, id: string, now: Now): SecretState {
  const { rotation } = state;
  if (rotation === null) return begin(state, { id, reason: "manual", actor: by, repair }, now);
  // A repair trusts no store: each is looked at, or written, once more, and the overlap counts from then.
  const deliveries = repair
    ? state.deliveries.map((d) => ({ ...d, writtenAt: null, confirmedAt: null }))
    : state.deliveries;
  const overlapFrom = repair ? null : rotation.overlapFrom;
  const again = emit(
    withRotation(
      { ...state, deliveries, stopped: null },
      { failures: [], overlapFrom, repair: rotation.repair || repair },
    ),
    now,
    by,
    "rotate",
    { repair },
  );
  return rotation.rollback === null ? again : { ...again, queued: { id, by, repair } };
}

/**
 * The versions that an emergency calls leaked; null: none was named, and then an inferred key is not meant, which may
 * be a stranger's. Said again while its incident lasts, it means the keys that it meant: not the answer to them.
 */
export function meantBy(state: SecretState, named: readonly VersionId[] | null): readonly Version[] {
  const since = state.incident?.at ?? Infinity;
  return living(state).filter(
    (v) => named?.includes(v.id) ?? (v.compromised || (v.since < since && v.origin !== "inferred")),
  );
}

function emergency(
  state: SecretState,
  word: Extract<Word, { word: "emergency" }>,
  by: string,
  id: string,
  now: Now,
  stamps: boolean,
): SecretState {
  const leaked = new Set(stamps ? meantBy(state, word.versions).map((v) => v.id) : []);
  let next: SecretState = {
    ...state,
    versions: state.versions.map((v) => (leaked.has(v.id) ? { ...v, compromised: true } : v)),
    incident: {
      id,
      // One incident from its first word on.
      at: state.incident?.at ?? now.doc,
      by,
      graceUntil: now.doc + word.grace,
      revokeFirst: word.revokeFirst,
      acceptOutage: word.acceptOutage,
      overrideHold: word.overrideHold,
    },
    stopped: null,
    queued: null,
  };
  for (const v of next.versions) {
    if (!leaked.has(v.id) || v.status !== "pending") continue;
    next = v.exposed ? withVersion(next, v.id, (p) => ({ ...p, status: "retiring" })) : abandon(next, v.id);
  }
  const wanted = wantedId(next);
  const replace = wanted === null || leaked.has(wanted);
  if (!replace && next.rotation !== null) return withRotation(next, { failures: [] });
  next = begin(next, { id, reason: "emergency", actor: by, repair: false }, now);
  if (!replace) return withRotation(next, { to: wanted, overlapFrom: now.doc });
  // The leaked one was still on its way: the current version is sound, and stays what is wanted.
  const current = next.versions.find((v) => v.status === "current");
  return current === undefined || current.compromised ? next : withRotation(next, { to: current.id });
}
