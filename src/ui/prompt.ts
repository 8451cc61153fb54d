import { createInterface } from "node:readline/promises";
import { UserError } from "../core/errors.ts";
import { plain } from "./text.ts";
import type { Terminal } from "./terminal.ts";

/** What is asked, and for whom: `command` names itself where nobody can be asked. */
export interface Question {
  readonly command: string;
  readonly question: string;
  /** What a person should know before the answer, one a line. */
  readonly facts: readonly string[];
}

/**
 * Asks for a `yes`, after the facts. `--yes` has answered already.
 * @throws UserError `needs-answer` where nobody can be asked, `declined` when the answer is anything else.
 */
export async function confirm(
  { command, question, facts }: Question,
  yes: boolean,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  if (yes) return;
  for (const fact of facts) terminal.announce(plain(fact));
  if (!terminal.interactive) {
    throw new UserError("needs-answer", `${command} needs a yes, and nobody can be asked here`, {
      exit: 2,
      hints: ["--yes says yes"],
    });
  }
  terminal.clear();
  const reader = createInterface({ input: terminal.stdin, output: terminal.stderr });
  try {
    const answer = await reader.question(`${plain(question)}? [y/N] `, { signal });
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    reader.close();
  }
  throw new UserError("declined", "nothing was done: the answer was no", { exit: 1 });
}
