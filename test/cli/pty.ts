import { spawn } from "@lydell/node-pty";
import { BIN } from "./harness.ts";
import { draw } from "./screen.ts";

/** A program at a real terminal. */
export interface Pty {
  /** What is on the screen, and above it. */
  readonly screen: () => string;
  /** Lines that did not fit. */
  readonly tooLong: () => readonly string[];
  /** Everything that was written, as it came. */
  readonly raw: () => string;
  /** Waits until the text, or what follows the last answer, matches. */
  until(what: RegExp): Promise<void>;
  /** The newest text, behind the last answer, that matches. */
  last(what: RegExp): string | undefined;
  /** Waits for the question, then types. */
  answer(question: RegExp, keys: string): Promise<void>;
  type(keys: string): void;
  readonly code: Promise<number>;
}

export const ENTER = "\r";
export const CTRL_C = "\u0003";
export const CTRL_D = "\u0004";

interface Place {
  readonly cwd: string;
  readonly env: Record<string, string>;
  readonly cols?: number;
  readonly rows?: number;
  /** Default: ours. */
  readonly program?: readonly [string, ...string[]];
}

export function openPty(args: readonly string[], place: Place): Pty {
  const { cwd, env, cols = 80, rows = 24, program = [process.execPath, BIN] } = place;
  const [file, ...before] = program;
  const pty = spawn(file, [...before, ...args], { cwd, env, cols, rows });
  let raw = "";
  let seen = 0;
  const waiting = new Set<() => void>();
  const wake = () => [...waiting].forEach((check) => check());
  pty.onData((text) => {
    raw += text;
    wake();
  });
  let ended = false;
  const code = new Promise<number>((resolve) =>
    pty.onExit(({ exitCode }) => {
      ended = true;
      resolve(exitCode);
      wake();
    }),
  );
  const until: Pty["until"] = (what) =>
    new Promise((resolve, reject) => {
      const check = () => {
        const found = what.test(visible(raw.slice(seen)));
        if (!found && !ended) return;
        waiting.delete(check);
        if (found) resolve();
        else reject(new Error(`the command ended without ${String(what)}:\n${visible(raw)}`));
      };
      waiting.add(check);
      check();
    });
  return {
    screen: () => draw(raw, cols).text,
    tooLong: () => draw(raw, cols).tooLong,
    raw: () => raw,
    until,
    last: (what) => visible(raw.slice(seen)).match(new RegExp(what, "g"))?.at(-1),
    answer: async (question, keys) => {
      await until(question);
      seen = raw.length;
      pty.write(keys);
    },
    type: (keys) => pty.write(keys),
    code,
  };
}

/** The text of what a terminal was sent. */
export function visible(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/\u001b\[[\d;?]*[A-Za-z]/g, "").replaceAll("\r\n", "\n");
}
