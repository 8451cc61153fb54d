import { spawn } from "@lydell/node-pty";
import { BIN } from "./harness.ts";
import { draw } from "./screen.ts";

/** A command at a real terminal. */
export interface Pty {
  /** What is on the screen, and above it. */
  readonly screen: () => string;
  /** Lines that did not fit. */
  readonly tooLong: () => readonly string[];
  /** Everything that was written, as it came. */
  readonly raw: () => string;
  /** Waits until the text, or what follows the last answer, matches. */
  until(what: RegExp): Promise<void>;
  /** Waits for the question, then types. */
  answer(question: RegExp, keys: string): Promise<void>;
  readonly code: Promise<number>;
}

export const ENTER = "\r";
export const CTRL_C = "\u0003";
export const CTRL_D = "\u0004";

export function openPty(
  args: readonly string[],
  { cwd, env, cols = 80, rows = 24 }: { cwd: string; env: Record<string, string>; cols?: number; rows?: number },
): Pty {
  const pty = spawn(process.execPath, [BIN, ...args], { cwd, env, cols, rows });
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
    answer: async (question, keys) => {
      await until(question);
      seen = raw.length;
      pty.write(keys);
    },
    code,
  };
}

/** The text of what a terminal was sent. */
export function visible(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/\u001b\[[\d;?]*[A-Za-z]/g, "").replaceAll("\r\n", "\n");
}
