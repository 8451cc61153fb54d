import { randomBytes } from "node:crypto";
import {
  accessSync,
  constants,
  linkSync,
  lstatSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { chmod, chown, mkdir, open, readdir, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { ProviderError, type Applied } from "../core/errors.ts";
import { loadLibsql } from "./libsql.ts";

/** What a new file takes over from the one it replaces. Without `owner` it belongs to this process. */
export interface FileLike {
  /** Permission bits, for example 0o600. */
  readonly mode: number;
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Its time of modification, ms; otherwise now. */
  readonly modified?: number;
}

export interface LockOptions {
  readonly signal: AbortSignal;
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** How long to wait for another holder, ms. 10 s. */
  readonly timeout?: number;
}

const LOCK_POLL = 20;
const TEMP_SUFFIX = ".keyturn-tmp";

/** The `errno` word of a file system error; null for anything else. */
export function errno(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : null;
}

/** What a file system error means. The text names the file, never what is in it. */
export function fileError(error: unknown, path: string, applied: Applied = "no"): ProviderError {
  const code = errno(error);
  switch (code) {
    case "EACCES":
    case "EPERM":
      return new ProviderError("denied", applied, `${path}: permission denied`);
    case "EROFS":
      return new ProviderError("denied", applied, `${path}: the file system is read-only`);
    case "ENOSPC":
    case "EDQUOT":
      return new ProviderError("quota", applied, `${path}: no space left`, { hint: "free some space, then run again" });
    case "ENOENT":
      return new ProviderError("not-found", applied, `${path}: no such file or folder`);
    case "EISDIR":
    case "ENOTDIR":
    case "ELOOP":
    case "ENAMETOOLONG":
    case "EXDEV":
    case "EBUSY":
      return new ProviderError("invalid", applied, `${path}: cannot be used here (${code})`);
    case "EIO":
      return new ProviderError("unavailable", "maybe", `${path}: input/output error`);
    default:
      return code === null ? ProviderError.from(error) : new ProviderError("unavailable", applied, `${path}: ${code}`);
  }
}

/** Runs `body`; whatever it throws comes out as a `ProviderError` about `path`, applied `no` unless it says more itself. */
export async function atFile<T>(path: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw error instanceof ProviderError ? error : fileError(error, path);
  }
}

/**
 * Replaces `target`, or makes it: readers see the old content or the new, never a part, and after a power cut too.
 * `commit` runs as the last thing before the rename: it throws where the write must not happen.
 */
export async function replaceFile(
  target: string,
  data: string | Uint8Array,
  like: FileLike,
  commit: () => void,
): Promise<void> {
  const temp = await writeTemp(target, data, like);
  try {
    commit();
    renameSync(temp, target);
  } catch (error) {
    rmSync(temp, { force: true });
    throw error;
  }
  await committed(target);
}

/** Makes `target` whole or not at all. @returns false, with nothing changed, when it is there already. */
export async function createFile(
  target: string,
  data: string | Uint8Array,
  mode: number,
  commit: () => void,
): Promise<boolean> {
  const temp = await writeTemp(target, data, { mode });
  let made: boolean;
  try {
    commit();
    made = linkNew(temp, target);
  } finally {
    rmSync(temp, { force: true });
  }
  if (made) await committed(target);
  return made;
}

/** Removes `target`; absent is success. */
export async function removeFile(target: string, commit: () => void): Promise<void> {
  commit();
  rmSync(target, { force: true });
  await committed(target);
}

/** Gives a finished file its name unless the name is taken. @returns false when it is. */
export function linkNew(from: string, target: string): boolean {
  try {
    linkSync(from, target);
    return true;
  } catch (error) {
    if (errno(error) === "EEXIST") return false;
    throw error;
  }
}

/** A name beside `target` that {@link sweepTemps} knows. */
export function tempName(target: string): string {
  return join(dirname(target), `.${basename(target)}.${randomBytes(8).toString("hex")}${TEMP_SUFFIX}`);
}

/** Removes what killed writers of `target` (without it: of any file in the folder) left. Only under the writers' lock. */
export async function sweepTemps(folder: string, target?: string): Promise<void> {
  const prefix = target === undefined ? "." : `.${basename(target)}.`;
  for (const name of await readdir(folder)) {
    if (name.startsWith(prefix) && name.endsWith(TEMP_SUFFIX)) await rm(join(folder, name), { force: true });
  }
}

/** Makes a change of names in the folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes a folder and its parents for our eyes only; a part named `.keyturn` is kept out of version control. */
export async function privateFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const parts = path.split(sep);
  const own = parts.lastIndexOf(".keyturn");
  if (own < 0) return;
  const ignore = join(parts.slice(0, own + 1).join(sep), ".gitignore");
  await writeFile(ignore, "*\n", { flag: "wx" }).catch((error: unknown) => {
    if (errno(error) !== "EEXIST") throw error;
  });
}

/** Where a path leads once every symbolic link is followed, whether or not anything is there yet. */
export function realPath(path: string, hops = 40): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (errno(error) !== "ENOENT" || hops === 0 || dirname(path) === path) return resolve(path);
  }
  const link = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  if (link) return realPath(resolve(realPath(dirname(path), hops - 1), readlinkSync(path)), hops - 1);
  return join(realPath(dirname(path), hops - 1), basename(path));
}

/** Whether the nearest folder that exists on the way to `path` can be written. */
export function canCreate(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return true;
  } catch (error) {
    return errno(error) === "ENOENT" && dirname(path) !== path && canCreate(dirname(path));
  }
}

/**
 * Runs `body` as the only one, in this process and among others, to hold the lock file at `path`.
 *
 * The lock is SQLite's own on an empty database, which is the kernel's: it ends with the process that holds it,
 * however that ends, so nothing here guesses whether a lock is stale. A holder that is merely stopped keeps it.
 * @throws ProviderError `unavailable`, applied `no`, when somebody else keeps it for longer than the timeout.
 */
export async function withLock<T>(path: string, options: LockOptions, body: () => Promise<T>): Promise<T> {
  const Database = await loadLibsql();
  // The file is removed on release, so a lock counts only on the file that the name still stands for.
  const attempt = (): (() => void) | null => {
    const before = inode(path);
    let lock: InstanceType<typeof Database> | null = null;
    try {
      lock = new Database(path, { timeout: 0 });
      lock.exec("PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE");
    } catch {
      lock?.close();
      accessSync(dirname(path), constants.W_OK);
      return null;
    }
    const held = lock;
    if (before !== null && before === inode(path)) {
      return () => {
        rmSync(path, { force: true });
        held.close();
      };
    }
    held.close();
    return before === null ? attempt() : null;
  };
  let release = attempt();
  for (let waited = 0; release === null; waited += LOCK_POLL) {
    if (waited >= (options.timeout ?? 10_000)) {
      throw new ProviderError("unavailable", "no", `${path}: another process holds the lock`, { contended: true });
    }
    await options.sleep(LOCK_POLL, options.signal).catch(() => {});
    if (options.signal.aborted) throw new ProviderError("unavailable", "no", `${path}: given up waiting for the lock`);
    release = attempt();
  }
  try {
    return await body();
  } finally {
    release();
  }
}

function inode(path: string): bigint | null {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.ino ?? null;
}

async function writeTemp(target: string, data: string | Uint8Array, like: FileLike): Promise<string> {
  const temp = tempName(target);
  try {
    const handle = await open(temp, "wx", 0o600);
    try {
      await handle.writeFile(data);
      if (like.modified !== undefined) await handle.utimes(like.modified / 1000, like.modified / 1000);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (like.owner !== undefined && !owns(temp, like.owner)) await chown(temp, like.owner.uid, like.owner.gid);
    await chmod(temp, like.mode);
    return temp;
  } catch (error) {
    await rm(temp, { force: true });
    throw error;
  }
}

function owns(path: string, owner: { uid: number; gid: number }): boolean {
  const is = statSync(path);
  return is.uid === owner.uid && is.gid === owner.gid;
}

/** The new name is in force already: a failure from here on may have taken effect. */
async function committed(target: string): Promise<void> {
  try {
    await syncFolder(dirname(target));
  } catch {
    throw new ProviderError("unavailable", "maybe", `${target}: written, but the folder could not be synced`);
  }
}
