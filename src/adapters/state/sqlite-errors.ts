import { ProviderError, UserError } from "../../core/errors.ts";
import { errno } from "../files.ts";

export function newer(file: string): UserError {
  return new UserError("state-newer", `the state in ${file} was written by a newer version`, {
    exit: 3,
    hints: ["upgrade keyturn"],
  });
}

export function damaged(file: string, why: string): UserError {
  const hints = ["keep the file and put a backup in its place; keyturn never deletes or repairs it"];
  return new UserError("state-damaged", `the state in ${file} is damaged: ${why}`, { exit: 3, hints });
}

function unwritable(file: string, why: string, hint: string): UserError {
  return new UserError("state-unwritable", `the state in ${file} cannot be written: ${why}`, {
    exit: 1,
    hints: [hint],
  });
}

/** SQLite's primary result code; null where the error is not SQLite's. */
function sqliteCode(error: unknown): number | null {
  const { rawCode, message } = (error ?? {}) as { rawCode?: unknown; message?: unknown };
  if (typeof rawCode === "number") return rawCode & 0xff;
  const opening = /^ConnectionFailed\(.*: (\d+)"?\)$/s.exec(String(message));
  return opening ? Number(opening[1]) & 0xff : null;
}

/** What an error of SQLite or of the file system means for the state; others come back as they are. */
export function stateError(error: unknown, file: string): unknown {
  if (error instanceof UserError || error instanceof ProviderError) return error;
  const access = "check the rights on the file and its folder, or name another place with --state";
  switch (sqliteCode(error) ?? errno(error)) {
    case 5:
    case 6:
      return new ProviderError("unavailable", "no", `the state in ${file} is locked by another process`);
    case 8:
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return unwritable(file, "it is read-only for this user", access);
    case 13:
    case "ENOSPC":
    case "EDQUOT":
      return unwritable(file, "the disk is full", "free some space, then run again: the state is as it was before");
    case 14:
    case "ENOENT":
    case "ENOTDIR":
    case "EISDIR":
      return unwritable(file, "it cannot be opened or made there", access);
    case 10:
    case "EIO":
      return unwritable(file, "input/output error", "check the disk, then run again");
    case 11:
      return damaged(file, "its pages contradict each other");
    case 26:
      return damaged(file, "it is no database");
    default:
      return error;
  }
}
