import type { SecretState } from "../core/model.ts";
import type { ReasonCode } from "../core/reasons.ts";
import { refusalOf } from "../core/said.ts";
import type { Word } from "../core/words.ts";
import type { EngineDeps } from "./deps.ts";
import { Document } from "./document.ts";
import { audit } from "./outbox.ts";

export type Said =
  | { readonly ok: true; readonly state: SecretState; readonly note?: string }
  | { readonly ok: false; readonly reason: ReasonCode; readonly message: string; readonly state: SecretState | null };

/** Commits a person's word, whoever holds the lease. A refused word changes nothing. */
export async function say(deps: EngineDeps, name: string, word: Word): Promise<Said> {
  const document = await Document.open(deps, name);
  for (;;) {
    const refusal = refusalOf(document.state, word, document.now());
    if (refusal !== null) return { ok: false, ...refusal, state: document.exists ? document.state : null };
    if ((await document.commit([{ fact: "said", word, by: deps.runner.actor, id: `r-${deps.random(6)}` }])) === "stale")
      continue;
    // The log has it at once; the cursor moves with the next run's commit.
    await audit(deps, document.state);
    return { ok: true, state: document.state };
  }
}
