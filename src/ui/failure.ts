import { ProviderError, UserError } from "../core/errors.ts";
import type { ErrorMember } from "./document.ts";
import { plain } from "./text.ts";

/** An exception as people and documents are told of it. Only texts of our own classes are passed on. */
export interface Failure {
  readonly code: string;
  /** One for each thing that is wrong. */
  readonly lines: readonly string[];
  readonly hints: readonly string[];
  readonly at: string | null;
  readonly exit: 1 | 2 | 3 | 4;
  /** Stack frames without the message, which may be a third party's. */
  readonly frames: readonly string[];
}

export function failureOf(error: unknown): Failure {
  const frames = framesOf(error);
  if (error instanceof UserError) {
    const { hints = [], exit = 2, at = null } = error.options;
    return { code: error.code, lines: error.message.split("\n"), hints, at, exit, frames };
  }
  if (error instanceof ProviderError) {
    const hints = error.detail.hint === undefined ? [] : [error.detail.hint];
    return { code: error.kind, lines: [`a provider failed: ${error.message}`], hints, at: null, exit: 1, frames };
  }
  const kind = error instanceof Error ? error.constructor.name : typeof error;
  return {
    code: "bug",
    lines: [`this is a bug in keyturn: unexpected ${kind}`],
    hints: [
      "the state is consistent; report it with the command, `keyturn --version` and what --verbose adds (no values are in it)",
    ],
    at: null,
    exit: 1,
    frames,
  };
}

export function errorMember({ code, lines, hints, at }: Failure): ErrorMember {
  return { code, message: lines.join("\n"), hint: hints.length === 0 ? null : hints.join("\n"), at };
}

/** `keyturn: what failed: why`, `hint: …`, and with `verbose` where in the code. */
export function failureText({ lines, hints, frames }: Failure, verbose: boolean): string {
  const all = [...lines.map((line) => `keyturn: ${plain(line)}`), ...hints.map((hint) => `hint: ${plain(hint)}`)];
  return [...all, ...(verbose ? frames : [])].join("\n");
}

function framesOf(error: unknown): string[] {
  const stack = error instanceof Error && typeof error.stack === "string" ? error.stack : "";
  return stack.split("\n").filter((line) => /^ {4}at [^\n]+$/.test(line) && /(:\d+:\d+\)?|<anonymous>\)?)$/.test(line));
}
