import { ProviderError, UserError } from "../../core/errors.ts";
import { errno } from "../files.ts";
import type { StatePlace } from "../state-place.ts";

/** SQLite's primary result code; null where the error is not SQLite's. */
function sqliteCode(error: unknown): number | null {
  const { rawCode, message } = (error ?? {}) as { rawCode?: unknown; message?: unknown };
  if (typeof rawCode === "number") return rawCode & 0xff;
  const opening = /^ConnectionFailed\(.*: (\d+)"?\)$/s.exec(String(message));
  return opening ? Number(opening[1]) & 0xff : null;
}

/** What an error of SQLite or of the file system means for the state; others come back as they are. */
export function stateError(error: unknown, place: StatePlace): unknown {
  if (error instanceof UserError || error instanceof ProviderError) return error;
  const access = "check the rights on the file and its folder, or name another place with --state";
  switch (sqliteCode(error) ?? errno(error)) {
    case 5:
    case 6:
      return place.failure("unavailable", "locked by another process");
    case 8:
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return place.unwritable("it is read-only for this user", access);
    case 13:
    case "ENOSPC":
    case "EDQUOT":
      return place.unwritable("the disk is full", "free some space, then run again: the state is as it was before");
    case 14:
    case "ENOENT":
    case "ENOTDIR":
    case "EISDIR":
      return place.unwritable("it cannot be opened or made there", access);
    case 10:
    case "EIO":
      return place.unwritable("input/output error", "check the disk, then run again");
    case 11:
      return place.damaged("its pages contradict each other");
    case 26:
      return place.damaged("it is no database");
    default:
      return error;
  }
}
