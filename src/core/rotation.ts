import { emit, withRotation, withVersion } from "./edit.ts";
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
