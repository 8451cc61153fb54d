import { blackoutAt } from "../config/blackouts.ts";
import type { SecretPolicy } from "../config/model.ts";
import type { Instant } from "../core/duration.ts";
import type { PausedAll } from "../engine/result.ts";
import type { StateBackend } from "../ports/state.ts";
import { EVERYTHING } from "./choose.ts";

/** What keeps a secret at rest with nothing wrong about it: a person's pause of everything, else a blackout. */
export async function pauseOf(state: StateBackend, secret: SecretPolicy, wall: Instant): Promise<PausedAll | null> {
  return (await state.load(EVERYTHING))?.state.paused ?? blackoutOf(secret, wall);
}

export function blackoutOf({ blackouts }: Pick<SecretPolicy, "blackouts">, wall: Instant): Required<PausedAll> | null {
  const over = blackoutAt(blackouts, wall);
  return over === null ? null : { by: "the policy", reason: over.reason, until: over.to };
}
