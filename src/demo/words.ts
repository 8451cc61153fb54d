import { versionOf } from "../core/model.ts";
import type { Phase } from "../core/phase.ts";
import type { Progress } from "../engine/result.ts";

/** The way of a rotation in the words of its spectators. */
export const STEPS = ["issue", "verify", "serve", "overlap", "soak", "delete"] as const;

const STEP_OF: Readonly<Record<Phase, number>> = {
  idle: -1,
  issuing: 0,
  staging: 0,
  verifying: 1,
  promoting: 2,
  distributing: 2,
  "rolling-back": 2,
  overlap: 3,
  soaking: 4,
  deleting: 5,
};

/** Which of {@link STEPS} is under way; -1: none. */
export function stepOf(phase: Phase): number {
  return STEP_OF[phase];
}

/** `…9f2c`: enough to tell keys apart, and no more than the public id. */
export function tail(keyId: string | null): string {
  return keyId === null ? "-" : `…${keyId.slice(-4)}`;
}

/** What has just happened, for people; null: nothing that they would miss. */
export function happened({ event, state }: Progress): string | null {
  if (event === undefined) return null;
  const { keyId, version, who } = event.data;
  const known = typeof version === "string" ? (versionOf(state, version)?.keyId ?? null) : null;
  const key = tail(typeof keyId === "string" ? keyId : known);
  switch (event.type) {
    case "issue":
      return `the authority issued a new key, ${key}; nobody uses it yet`;
    case "stage":
      return `${key} is in the store, encrypted; readers still get the old key`;
    case "promote":
      return `${key} works: the store serves it, clients find it when they look`;
    case "overlap-started":
      return "overlap: both keys work until nobody needs the old one";
    case "straggler":
      return `reminder to ${String(who)}: re-read your key, the old one is going`;
    case "disable":
      return `${key} is used by nobody: disabled; rollback would be one call`;
    case "delete":
      return `${key} stayed unused: deleted`;
    case "destroyed":
      return `${key} is proven dead: not listed, and refused`;
    case "done":
      return "the rotation is done";
    default:
      return null;
  }
}
