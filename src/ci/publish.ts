import { randomUUID } from "node:crypto";
import { appendFileSync, fstatSync, writeFileSync } from "node:fs";
import { isatty } from "node:tty";
import type { Env, Runner } from "./runner.ts";
import type { Told } from "./told.ts";

/**
 * Tells the runner how a command ended.
 * @param line takes one line for stderr
 * @param warn takes what could not be told; nothing of it makes a command fail
 */
export function publish(
  runner: Runner,
  told: Told,
  env: Env,
  line: (text: string) => void,
  warn: (text: string) => void,
): void {
  if (runner.silence !== undefined) warn(runner.silence);
  const { files, lines } = runner.publish(told, env, randomUUID());
  for (const { path, text, append } of files) {
    try {
      (append ? appendFileSync : writeFileSync)(path, text, { mode: 0o600 });
    } catch (error) {
      warn(`${runner.name}: a file could not be written (${(error as NodeJS.ErrnoException).code ?? "unknown"})`);
    }
  }
  for (const text of lines) line(text);
}

/**
 * Whether stderr can be what a runner reads: it is never a terminal or a file, and a mask that no runner takes out is
 * the value itself, in clear.
 */
export function isReadByRunner(): boolean {
  try {
    return !isatty(2) && !fstatSync(2).isFile();
  } catch {
    return false;
  }
}
