import type { SecretState, VersionId } from "./model.ts";

/** The version that stores shall serve: the rotation's new one, the old one after a rollback, else the current. */
export function wantedId(state: SecretState): VersionId | null {
  const { rotation } = state;
  if (rotation === null) return state.versions.find((v) => v.status === "current")?.id ?? null;
  return rotation.rollback === null ? rotation.to : rotation.from;
}

/** What an `ack` is about: the current version, which is what stores serve; never one that is still to come. */
export function ackedVersion(state: SecretState): VersionId | null {
  return state.versions.find((v) => v.status === "current")?.id ?? state.deliveries[0]?.serves ?? null;
}
