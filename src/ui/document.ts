import type { Instant } from "../core/duration.ts";
import type { Outcome } from "../core/reasons.ts";
import { iso } from "./time.ts";

/** A failure of the whole command. */
export interface ErrorMember {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  /** `file:line:col`, where there is one. */
  readonly at: string | null;
}

export interface DocumentParts {
  /** null: it was not understood which. */
  readonly command: string | null;
  readonly at: Instant;
  readonly outcome: Outcome | "found";
  /** One object for each, as `commands/members.ts` makes them. */
  readonly secrets: readonly object[];
  readonly error: ErrorMember | null;
  /** The command's own named member. */
  readonly member?: Readonly<Record<string, unknown>>;
}

/** The one document that a command prints with `--json`. */
export function document({ command, at, outcome, secrets, error, member }: DocumentParts): string {
  return `${JSON.stringify({ keyturn: 1, command, at: iso(at), outcome, secrets, ...member, error }, null, 2)}\n`;
}
