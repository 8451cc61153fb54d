import { createInterface } from "node:readline";
import { UserError } from "../core/errors.ts";
import { hanging, plain } from "./text.ts";
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
 * @throws UserError `needs-answer` where nobody can be asked, `declined` when the answer is anything else,
 *   `interrupted` at Ctrl-C or a signal
 */
export async function confirm(
  { command, question, facts }: Question,
  yes: boolean,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  if (yes) return;
  for (const fact of facts) terminal.announce(hanging("", plain(fact), terminal.proseWidth, 2));
  if (!terminal.interactive) {
    throw new UserError("needs-answer", `${command} needs a yes, and nobody can be asked here`, {
      exit: 2,
      hints: ["--yes says yes"],
    });
  }
  terminal.clear();
  const answer = await ask(`${plain(question)}? [y/N] `, terminal, signal);
  if (/^y(es)?$/i.test(answer.trim())) return;
  throw new UserError("declined", "nothing was done: the answer was no", { exit: 1 });
}

/** At a question nothing has begun yet. */
export function interruption(signal: AbortSignal): UserError {
  const name = signal.aborted ? String(signal.reason) : "SIGINT";
  return new UserError("interrupted", `stopped by ${name}: nothing was done`);
}

/** The line that was typed; "" where the input ended instead. */
function ask(question: string, { stdin, stderr }: Terminal, signal: AbortSignal): Promise<string> {
  const reader = createInterface({ input: stdin, output: stderr });
  return new Promise<string>((resolve, reject) => {
    // On a terminal Ctrl-C is a key like any other while a line is read, and no signal.
    const stop = (): void => {
      stderr.write("\n");
      reject(interruption(signal));
    };
    reader.once("SIGINT", stop);
    signal.addEventListener("abort", stop, { once: true });
    reader.once("close", () => {
      signal.removeEventListener("abort", stop);
      resolve("");
    });
    reader.question(question, resolve);
  }).finally(() => reader.close());
}
