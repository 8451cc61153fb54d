import {
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { UserError } from "../core/errors.ts";

/**
 * Writes the policy whole or not at all. A new one never takes the place of a file; an old one is replaced, under its
 * own permissions and behind a link, only while it still says what was extended.
 *
 * @param before what stood there when it was read; null: nothing
 * @throws UserError `policy-changed`, `policy-unwritable`; nothing is written then
 */
export function writePolicy(file: string, before: string | null, text: string): void {
  try {
    const target = before === null ? file : realpathSync(file);
    const temp = join(dirname(target), `.${basename(target)}.${process.pid}.tmp`);
    try {
      writeWhole(temp, text, before === null ? 0o644 : statSync(target).mode & 0o777);
      if (before === null) linkSync(temp, target);
      else if (readFileSync(target, "utf8") === before) renameSync(temp, target);
      else throw changed(file);
    } finally {
      rmSync(temp, { force: true });
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") throw changed(file);
    throw new UserError("policy-unwritable", `${file} cannot be written (${code ?? "unknown reason"})`, { exit: 1 });
  }
}

function writeWhole(file: string, text: string, mode: number): void {
  const handle = openSync(file, "wx", mode);
  try {
    writeFileSync(handle, text);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function changed(file: string): UserError {
  return new UserError("policy-changed", `${file} has changed meanwhile: nothing was written`, {
    exit: 1,
    hints: ["run keyturn init again"],
  });
}
