import type Libsql from "libsql";
import { UserError } from "../core/errors.ts";

/**
 * SQLite, loaded where it is first needed.
 *
 * @throws UserError `installation` where the part of it that is made for one platform is missing or does not fit
 */
export async function loadLibsql(): Promise<typeof Libsql> {
  try {
    return (await import("libsql")).default;
  } catch {
    const where = `${process.platform} ${process.arch}, node ${process.version}`;
    throw new UserError("installation", `SQLite (the package libsql) cannot be loaded here: ${where}`, {
      exit: 1,
      hints: [
        "install keyturn on this machine, by `npm ci`, with optional dependencies; do not copy node_modules here",
      ],
    });
  }
}
