import { open, readdir, stat, type FileHandle } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { ProviderError } from "../../core/errors.ts";
import { matches } from "../../core/usage.ts";
import { errno, fileError } from "../files.ts";

/** One file of a log. */
export interface LogFile {
  readonly path: string;
  /** Device and inode: the same file under whatever name. */
  readonly id: string;
  readonly modified: number;
  readonly gzip: boolean;
  /** The file that is being written: its last line may be half there. */
  readonly live: boolean;
  /** By its number, a file that should stand before this one is not there. */
  readonly afterHole: boolean;
}

/** One log with what was rotated away from it, the oldest first. */
export interface Log {
  /** Path of the file being written, for people. */
  readonly path: string;
  readonly files: readonly LogFile[];
}

interface Name {
  /** Without number, date and `.gz`. */
  readonly base: string;
  readonly rank: { readonly number: number } | { readonly date: string } | null;
  readonly gzip: boolean;
}

const LONGEST_LINE = 64 * 1024;
const NUMBERED = /^(.+)\.(\d{1,4})$/;
const DATED = /^(.+?)[-._](\d{4}-?\d\d-?\d\d(?:[-_T.]?\d{2,6})?|\d{10})(\.[A-Za-z]\w*)?$/;

/** What a file of a log is called: `a.log.2.gz`, `a.log-20261120`, `a-2026-11-20.log` all belong to `a.log`. */
export function nameOf(file: string): Name {
  const gzip = file.endsWith(".gz");
  const plain = gzip ? file.slice(0, -3) : file;
  const [, numbered, number] = NUMBERED.exec(plain) ?? [];
  if (numbered !== undefined) return { base: numbered, rank: { number: Number(number) }, gzip };
  const [, head, date, tail = ""] = DATED.exec(plain) ?? [];
  if (head === undefined || date === undefined) return { base: plain, rank: null, gzip };
  return { base: head + tail, rank: { date: date.replaceAll(/\D/g, "") }, gzip };
}

/**
 * The logs that absolute paths and globs (`*` within one name) mean, each with all of its rotated files, also those
 * that the glob itself does not match.
 *
 * @throws ProviderError `not-found` for a path or glob that leads to no file, `denied` for a folder that cannot be read
 */
export async function findLogs(patterns: readonly string[]): Promise<readonly Log[]> {
  const bases = new Map<string, { folder: string; base: string }>();
  for (const pattern of patterns) {
    const found = await expand(pattern);
    if (found.length === 0) throw new ProviderError("not-found", "no", `${pattern}: no such log`);
    for (const path of found) {
      const [folder, { base }] = [dirname(path), nameOf(basename(path))];
      bases.set(join(folder, base), { folder, base });
    }
  }
  return Promise.all(
    [...bases].map(async ([path, { folder, base }]) => ({ path, files: await filesOf(folder, base) })),
  );
}

async function expand(pattern: string): Promise<string[]> {
  const [, ...steps] = pattern.split(sep);
  let places: string[] = [sep];
  for (const [index, step] of steps.entries()) {
    const isLast = index === steps.length - 1;
    if (!step.includes("*") && !isLast) places = places.map((place) => join(place, step));
    else {
      const below = places.map(async (place) => {
        const names = await namesIn(place);
        // A rotation may be between its two renames: a name stands for its log as long as any file of it is there.
        const fits = (name: string) => matches(step, name) || (isLast && matches(step, nameOf(name).base));
        return names.filter(fits).map((name) => join(place, name));
      });
      places = (await Promise.all(below)).flat();
    }
  }
  return places;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).toSorted();
  } catch (error) {
    if (errno(error) === "ENOENT" || errno(error) === "ENOTDIR") return [];
    throw fileError(error, folder);
  }
}

type Found = LogFile & { readonly name: Name };

async function filesOf(folder: string, base: string): Promise<LogFile[]> {
  const found: Found[] = [];
  for (const file of await namesIn(folder)) {
    const name = nameOf(file);
    if (name.base !== base) continue;
    const path = join(folder, file);
    const stats = await stat(path).catch((error: unknown) => {
      if (errno(error) === "ENOENT") return null;
      throw fileError(error, path);
    });
    if (stats?.isFile() !== true) continue;
    const id = `${stats.dev}:${stats.ino}`;
    found.push({ path, id, modified: stats.mtimeMs, gzip: name.gzip, live: false, afterHole: false, name });
  }
  // While one is being compressed both are there, and the compressed one is not whole yet.
  const plain = new Set(found.filter(({ gzip }) => !gzip).map(({ path }) => `${path}.gz`));
  const ordered = found.filter(({ path }) => !plain.has(path)).toSorted(byAge);
  return ordered.map(({ name, ...file }, index) => {
    const before = ordered[index - 1]?.name.rank;
    const next = name.rank === null ? 0 : "number" in name.rank ? name.rank.number : null;
    const skipped = before && "number" in before && next !== null && before.number - next > 1;
    return { ...file, live: index === ordered.length - 1, afterHole: skipped === true };
  });
}

/** Dates first, then numbers downwards, then the file that has neither. */
function byAge({ name: a }: Found, { name: b }: Found): number {
  const group = ({ rank }: Name) => (rank === null ? 2 : "number" in rank ? 1 : 0);
  if (group(a) !== group(b)) return group(a) - group(b);
  if (a.rank === null || b.rank === null) return 0;
  if ("number" in a.rank) return (b.rank as { number: number }).number - a.rank.number;
  return a.rank.date < (b.rank as { date: string }).date ? -1 : 1;
}

/**
 * Hands on every whole line of one file; memory is bounded whatever its size. An unfinished last line of the live
 * file is left out; of a line longer than 64 KiB only the beginning comes.
 *
 * @returns `whole`; `damaged` when a compressed file ends too early; `moved` when the file is no longer the one that
 *   was found, or shrank while it was read
 * @throws ProviderError `denied` and others that a file system has
 */
export async function readLines(
  file: LogFile,
  signal: AbortSignal,
  each: (line: string) => void,
): Promise<"whole" | "damaged" | "moved"> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file.path);
    const stats = await handle.stat();
    if (`${stats.dev}:${stats.ino}` !== file.id) return "moved";
    const raw = handle.createReadStream({ autoClose: false, highWaterMark: 256 * 1024 });
    const source = file.gzip ? raw.pipe(createGunzip()) : raw;
    if (file.gzip) raw.on("error", (error) => source.destroy(error));
    await split(source, !file.live, signal, each);
    return (await handle.stat()).size < stats.size ? "moved" : "whole";
  } catch (error) {
    if (error instanceof ProviderError) throw error;
    const code = errno(error);
    if (code === "ENOENT") return "moved";
    if (code?.startsWith("Z_") === true) return "damaged";
    throw fileError(error, file.path);
  } finally {
    await handle?.close();
  }
}

async function split(
  source: Readable,
  endsWhole: boolean,
  signal: AbortSignal,
  each: (line: string) => void,
): Promise<void> {
  let held: Buffer[] = [];
  let size = 0;
  const keep = (part: Buffer): void => {
    if (size < LONGEST_LINE && part.length > 0) held.push(Buffer.from(part.subarray(0, LONGEST_LINE - size)));
    size += part.length;
  };
  const flush = (): void => {
    each(Buffer.concat(held).toString("utf8"));
    held = [];
    size = 0;
  };
  for await (const chunk of source as AsyncIterable<Buffer>) {
    if (signal.aborted) throw new ProviderError("unavailable", "no", "reading a log was interrupted");
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      if (size === 0 && at - from <= LONGEST_LINE) each(chunk.toString("utf8", from, at));
      else {
        keep(chunk.subarray(from, at));
        flush();
      }
      from = at + 1;
    }
    keep(chunk.subarray(from));
  }
  if (endsWhole && size > 0) flush();
}
