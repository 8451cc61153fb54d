import type { SecretState } from "./model.ts";
import { versionOf } from "./model.ts";
import { wantedId } from "./wanted.ts";

export const PHASES = [
  "idle",
  "issuing",
  "staging",
  "verifying",
  "promoting",
  "distributing",
  "overlap",
  "soaking",
  "deleting",
  "rolling-back",
] as const;
export type Phase = (typeof PHASES)[number];

/** Where a rotation stands, derived from the document: nothing stores it. */
export function phaseOf(state: SecretState): Phase {
  const { rotation } = state;
  if (rotation === null) return "idle";
  const wanted = versionOf(state, wantedId(state));
  if (rotation.rollback !== null)
    return wanted?.status === "current" && rotation.overlapFrom !== null ? ending(state) : "rolling-back";
  if (wanted === null || wanted.status === "minting") return "issuing";
  if (!wanted.staged && wanted.status === "pending") return "staging";
  if (wanted.status === "pending") return wanted.exposed ? "promoting" : "verifying";
  return rotation.overlapFrom === null ? "distributing" : ending(state);
}

function ending(state: SecretState): Phase {
  const old = state.versions.filter((v) => v.status !== "destroyed" && v.keyId !== null && v.id !== wantedId(state));
  if (old.some((v) => v.status === "retiring" && v.deletedAt === null)) return "overlap";
  if (old.some((v) => v.status === "disabled" && v.deletedAt === null)) return "soaking";
  return "deleting";
}
