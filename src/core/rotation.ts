import { emit, withRotation, withVersion } from "./edit.ts";
import type { Fact } from "./facts.ts";
import type { Rotation, SecretState, Version, VersionId } from "./model.ts";
import { versionOf } from "./model.ts";
import type { Now } from "./rules.ts";
import { mayMove, move } from "./status.ts";

export function newVersion(id: VersionId, now: Now): Version {
  return {
    id,
    keyId: null,
    status: "minting",
    origin: "issued",
    createdAt: null,
    since: now.doc,
    compromised: false,
    expedite: false,
    staged: false,
    exposed: false,
    leftOpen: [],
    mint: null,
    verification: null,
    disabledAt: null,
    deletedAt: null,
    usage: {},
    usageLookedAt: null,
    debt: null,
    handBack: false,
  };
}

export function begin(
  state: SecretState,
  start: Pick<Rotation, "id" | "reason" | "actor" | "repair">,
  now: Now,
): SecretState {
  const from = state.versions.find((v) => v.status === "current")?.id ?? null;
  const rotation: Rotation = {
    ...start,
    startedAt: now.doc,
    to: null,
    from,
    rollback: null,
    overlapFrom: null,
    hooks: [],
    failures: [],
    remindedAt: null,
    escalatedAt: null,
  };
  return emit({ ...state, rotation, stopped: null, queued: null }, now, start.actor, "started", {
    rotation: start.id,
    reason: start.reason,
  });
}

/** It will not be served: a key it may have is to be destroyed. */
export function abandon(state: SecretState, id: VersionId): SecretState {
  const dropped = withVersion(state, id, (v) =>
    mayMove(v, "abandoned") ? { ...move(v, "abandoned"), mint: v.keyId === null ? null : v.mint } : v,
  );
  return state.rotation?.to === id ? withRotation(dropped, { to: null }) : dropped;
}

/** The wanted version becomes the one the rotation came from; the new one is unwanted from now on. */
export function turnBack(state: SecretState, by: string, now: Now): SecretState {
  const { rotation } = state;
  if (rotation === null || rotation.rollback !== null) return state;
  let next = withRotation(state, {
    rollback: { at: now.doc, by },
    overlapFrom: null,
    failures: [],
    remindedAt: null,
    escalatedAt: null,
  });
  const to = versionOf(next, rotation.to);
  if (to?.status === "pending")
    next = to.exposed
      ? withVersion(next, to.id, (v) => move(v, "retiring"))
      : withVersion(next, to.id, (v) => move(v, "abandoned"));
  if (rotation.from !== null && to?.exposed)
    next = withVersion(next, rotation.from, (v) => ({ ...v, verification: null, expedite: false }));
  return emit(next, now, by, "rolling-back", { to: rotation.from });
}

type Refused = Extract<Fact, { readonly fact: "refused" }>;

/** Not where a person has begun something else before the refusal came. */
export function isStillAsked({ rotation }: SecretState, refused: Refused): boolean {
  if ((rotation?.id ?? null) !== refused.rotation) return false;
  return rotation?.rollback == null || refused.version === rotation.from;
}

/**
 * Rule 3.14: a store's refusal leads back to the old version where there is one to go back to, or where nothing was
 * asked of a store yet; any other ends in a person.
 */
export function giveUp(state: SecretState, { stopped, delivery }: Refused, now: Now): SecretState {
  const { rotation } = state;
  const from = versionOf(state, rotation?.from ?? null);
  const to = versionOf(state, rotation?.to ?? null);
  const leadsBack = from === null ? !(to?.exposed ?? false) : !from.compromised && from.deletedAt === null;
  const back = delivery !== null && rotation !== null && rotation.rollback === null && leadsBack;
  const next = { ...state, stopped: { ...stopped, halts: !back, at: now.doc } };
  return back ? turnBack(next, "keyturn", now) : next;
}
