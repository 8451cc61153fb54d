import { UserError } from "../core/errors.ts";
import { interruption } from "./prompt.ts";
import type { Terminal } from "./terminal.ts";
import { plain } from "./text.ts";

export interface Choice<T> {
  readonly name: string;
  readonly value: T;
}

/** Questions to a person at a terminal, one after the other. */
export interface Asker {
  /** One of a list, which typing narrows down. */
  choose<T>(question: string, choices: readonly Choice<T>[]): Promise<T>;
  /** @param problem what is wrong with an answer; null: nothing */
  input(question: string, usual: string | null, problem: (answer: string) => string | null): Promise<string>;
  confirm(question: string): Promise<boolean>;
}

const PAGE = 12;
const theme = { style: { keysHelpTip: () => "type to narrow it down, ↑↓ to move, ⏎ to take" } };

/**
 * Loads the prompts; they are drawn on stderr.
 * @throws UserError of every question: `interrupted` at Ctrl-C or a signal, `declined` where the input ends
 */
export async function askerOf(terminal: Terminal, signal: AbortSignal): Promise<Asker> {
  const { default: inquirer } = await import("inquirer");
  const output = terminal.isColoured ? terminal.stderr : uncoloured(terminal.stderr);
  const prompt = inquirer.createPromptModule({ input: terminal.stdin, output, signal });
  const ask = async <T>(question: object): Promise<T> => {
    terminal.clear();
    try {
      const asked = prompt([{ ...question, name: "answer" } as never]) as Promise<{ answer: T }>;
      return (await Promise.race([asked, ended(terminal)])).answer;
    } catch (error) {
      // The prompts' own errors for Ctrl-C and for the signal.
      if (error instanceof Error && /^(Exit|Abort)PromptError$/.test(error.name)) throw interruption(signal);
      terminal.stderr.write("\n");
      throw error;
    }
  };
  return {
    choose: (message, choices) => {
      const named = choices.map(({ name, value }) => ({ name: plain(name), value }));
      const source = (typed: string | undefined) =>
        named.filter(({ name }) => name.toLowerCase().includes((typed ?? "").toLowerCase()));
      return ask({ type: "search", message, source, pageSize: PAGE, theme });
    },
    input: async (message, usual, problem) => {
      const validate = (text: string) => problem(text.trim()) ?? true;
      const answer = await ask<string>({ type: "input", message, validate, ...(usual !== null && { default: usual }) });
      return answer.trim();
    },
    confirm: (message) => ask({ type: "confirm", message, default: true }),
  };
}

/** A prompt whose input ends (Ctrl-D) stays silent for ever: it only lets go of the input. */
function ended({ stdin }: Terminal): Promise<never> {
  return new Promise((_, reject) => {
    const error = new UserError("declined", "nothing was done: there was no answer", { exit: 1 });
    // It also lets go of it when it has its answer: then this comes too late to matter.
    stdin.once("pause", () => setImmediate(() => reject(error)));
  });
}

/** The same stream, for those who want no colours on a terminal that has some. */
function uncoloured<S extends NodeJS.WritableStream>(stream: S): S {
  // oxlint-disable-next-line no-control-regex
  const write = (text: string) => stream.write(String(text).replace(/\u001b\[[\d;]*m/g, ""));
  return Object.assign(Object.create(stream), { write }) as S;
}
