import type { SecretState } from "./model.ts";
import { living } from "./model.ts";
import { AUDIT } from "./outbox.ts";

/**
 * Whether only its schedule can give a run anything to do: one current key and nothing else alive, nothing in
 * flight, stopped or owed, and every event handed over.
 * @param readers of the outbox, beside the audit log
 */
export function isAtRest(state: SecretState, readers: readonly string[]): boolean {
  const [only, ...others] = living(state);
  return (
    only?.status === "current" &&
    !only.compromised &&
    others.length === 0 &&
    state.rotation === null &&
    state.intent === null &&
    state.mayLand.length === 0 &&
    state.incident === null &&
    state.stopped === null &&
    state.queued === null &&
    state.lookAgainAt === null &&
    (state.standing === null || state.standing.reason === "not-due") &&
    [AUDIT, ...readers].every((reader) => (state.outbox.cursors[reader] ?? 0) >= state.outbox.seq)
  );
}
