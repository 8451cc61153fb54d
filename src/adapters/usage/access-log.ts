import { resolve } from "node:path";
import * as z from "zod";
import { formatDuration, type Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import type { UsageTraits } from "../../core/rules.ts";
import { matches } from "../../core/usage.ts";
import { credential, path, type AdapterDeps, type UsageAdapter } from "../../ports/adapter.ts";
import type { Ctx } from "../../ports/context.ts";
import type { KeyId } from "../../ports/issuer.ts";
import type { KeyUsage, UsageMonitor } from "../../ports/usage.ts";
import { parseOffset } from "../instants.ts";
import { duration, ms } from "../settings.ts";
import { answers, Sightings, Stretch, type Covered } from "../sightings.ts";
import { findLogs, readLines, type Log } from "./access-log-files.ts";
import { COMBINED_PLACES, groupsOf, KeyNames, PLACES, reader, type Places, type Reader } from "./access-log-lines.ts";

const TRAITS: UsageTraits = { granularity: 1000, lag: 60_000, names: "consumer", history: "events", seesDenied: true };
/** So far ahead of our clock may a log's clock be. */
const SKEW = 60_000;
const ROTATED_MEANWHILE = 3;

const place = (what: string) =>
  z
    .string()
    .min(1)
    .optional()
    .describe(`Where a line says ${what}: a path in JSON (\`request.id\`, \`/a/b\`), else a group's name.`);

const settings = z.strictObject({
  files: z
    .array(path())
    .min(1)
    .describe("The logs: paths or globs (* within a name), relative to the policy's folder; rotated files are found."),
  format: z
    .union([
      z.enum(["json", "combined"]),
      z.strictObject({
        pattern: z
          .string()
          .refine(isPattern, { error: "is no regular expression with named groups" })
          .describe("Regular expression with named groups that a line matches."),
      }),
    ])
    .describe("`json` (one object a line), `combined` (Apache, nginx), or `{ pattern: … }` with named groups."),
  fields: z
    .strictObject({
      time: place("when"),
      key: place("which key id"),
      who: place("who"),
      status: place("how it ended"),
    })
    .default({})
    .describe("Default: time, key, who, status; of `combined`: time, user, agent, status."),
  hash: z
    .strictObject({
      algorithm: z.enum(["sha256", "sha512", "sha1", "hmac-sha256"]).describe("How the log digests a key id."),
      salt: credential().optional().describe("Put before the key id, or the key of the HMAC. Default: none."),
    })
    .optional()
    .describe("Where the log writes a digest of the key id (hexadecimal or base64) instead of the key id."),
  denied: z
    .array(z.union([z.string().min(1), z.int()]))
    .default(["401"])
    .describe("What the status says of a use that was refused because of the key. Default: 401."),
  own: z
    .array(z.string().min(1))
    .default(["keyturn", "keyturn/*"])
    .describe("What keyturn itself is called in the log. Default: keyturn and keyturn/*."),
  offset: z
    .string()
    .refine((text) => parseOffset(text) !== null, { error: "is no offset: write +02:00 or Z" })
    .optional()
    .describe("Offset of times that name no zone: +02:00. Default: such a line cannot be read."),
  pause: duration(1)
    .default("1h")
    .describe("A log without any line for longer is taken for broken, not for silent. Default: 1h."),
  history: duration(1).default("15d").describe("How far back rotated files are read. Default: 15d."),
  junk: z
    .number()
    .min(0)
    .max(100)
    .default(1)
    .describe("Percent of lines that may be unreadable before nothing is concluded. Default: 1."),
});

type Settings = z.output<typeof settings>;

/**
 * Uses of a key in the access logs of whatever checks it: a gateway, a proxy, an audit log.
 *
 * A log proves silence only while it lives. Its watermark is its newest line, not the clock; a hole of more than
 * `pause` between two lines, a missing number among rotated files or a damaged one ends what was covered before it;
 * a newest line older than `pause`, times ahead of our clock, too many unreadable lines or one unreadable line that
 * names the key make it `unknown`; so does a log in which none of the living keys ever shows up, for then its field or
 * digest is not what the policy says. Of several logs the least covered counts.
 *
 * Lines that a `copytruncate` rotation loses between its copy and its truncation are not seen by anybody.
 */
export const adapter: UsageAdapter<typeof settings> = {
  type: "access-log",
  settings,
  published: { granularity: TRAITS.granularity, lag: TRAITS.lag },
  create: (options, _secret, deps) => new AccessLog(options, deps),
};

/** What one log has shown. */
interface Watched {
  readonly path: string;
  readonly stretch: Stretch;
  lines: number;
  unreadable: number;
  /** An unreadable line names a key; a line names a time that has not come yet. */
  hides: boolean;
  ahead: boolean;
}

class AccessLog implements UsageMonitor {
  readonly traits = TRAITS;
  readonly #read: Reader;
  readonly #files: readonly string[];
  readonly #denied: ReadonlySet<string>;
  readonly #places: Places;

  constructor(
    private readonly options: Settings,
    private readonly deps: AdapterDeps,
  ) {
    const { format, fields, offset, files, denied } = options;
    const said = Object.fromEntries(Object.entries(fields).filter(([, text]) => text !== undefined));
    this.#places = { ...(format === "combined" ? COMBINED_PLACES : PLACES), ...said };
    this.#read = reader(format, this.#places, offset === undefined ? null : parseOffset(offset));
    this.#files = files.map((file) => resolve(deps.folder, file));
    this.#denied = new Set(denied.map(String));
  }

  async usageOf(keyIds: readonly KeyId[], since: Instant, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>> {
    const now = this.deps.now();
    const oldest = Math.max(since, now - ms(this.options.history));
    for (let attempt = 1; attempt <= ROTATED_MEANWHILE; attempt++) {
      const sightings = new Sightings();
      const covered = await this.#look(keyIds, oldest, now, sightings, ctx);
      const isOwn = (who: string) => this.options.own.some((glob) => matches(glob, who));
      if (covered !== "moved") return answers(keyIds, sightings, covered, now, isOwn);
    }
    throw new ProviderError("unavailable", "no", "the logs were rotated again and again while they were read");
  }

  async #look(
    keyIds: readonly KeyId[],
    oldest: Instant,
    now: Instant,
    sightings: Sightings,
    ctx: Ctx,
  ): Promise<Covered | "moved"> {
    const logs = await findLogs(this.#files);
    const names = new KeyNames(keyIds, this.options.hash ?? null);
    const watched: Watched[] = [];
    for (const log of logs) {
      const seen = await this.#readLog(log, oldest, now, names, sightings, ctx);
      if (seen === "moved") return seen;
      watched.push(seen);
    }
    if (fingerprint(await findLogs(this.#files)) !== fingerprint(logs)) return "moved";
    return this.#judge(watched, now, sightings);
  }

  async #readLog(
    { path, files }: Log,
    oldest: Instant,
    now: Instant,
    names: KeyNames,
    sightings: Sightings,
    ctx: Ctx,
  ): Promise<Watched | "moved"> {
    const seen: Watched = {
      path,
      stretch: new Stretch(ms(this.options.pause)),
      lines: 0,
      unreadable: 0,
      hides: false,
      ahead: false,
    };
    for (const file of files) {
      if (file.afterHole) seen.stretch.broken();
      if (!file.live && file.modified < oldest) continue;
      const end = await readLines(file, ctx.signal, (line) => this.#line(line, now, names, sightings, seen));
      if (end === "moved") return end;
      if (end === "damaged") seen.stretch.broken();
      this.deps.debug(`access-log: ${file.path}: ${seen.lines} lines so far, ${seen.unreadable} unreadable`);
    }
    return seen;
  }

  #line(line: string, now: Instant, names: KeyNames, sightings: Sightings, seen: Watched): void {
    // Headers of W3C logs, and what a rotation leaves behind.
    if (line.startsWith("#") || line.trim() === "") return;
    seen.lines += 1;
    const entry = this.#read(line.endsWith("\r") ? line.slice(0, -1) : line);
    if (entry === null) {
      seen.unreadable += 1;
      seen.hides ||= names.standsIn(line);
      return;
    }
    const { at, key, who, status } = entry;
    if (at > now + SKEW) seen.ahead = true;
    const stretch = seen.stretch.alive(at);
    const keyId = key === null ? undefined : names.keyOf(key);
    if (keyId === undefined) return;
    sightings.add(keyId, who, status !== null && this.#denied.has(status) ? "denied" : "ok", at, stretch);
  }

  #judge(watched: readonly Watched[], now: Instant, sightings: Sightings): Covered {
    let from = -Infinity;
    let until = Infinity;
    for (const { path, stretch, lines, unreadable, hides, ahead } of watched) {
      if (stretch.from === null || stretch.until === null) {
        return { why: lines > 0 ? `${path} has no line that can be read: check \`format\`` : `${path} has no lines` };
      }
      if (hides) return { why: `${path} has an unreadable line that names a key` };
      if (unreadable * 100 > lines * this.options.junk)
        return { why: `${path} has ${unreadable} unreadable lines among ${lines}` };
      if (ahead) return { why: `${path} has times ahead of this machine's clock` };
      const age = now - stretch.until;
      if (age > ms(this.options.pause)) return { why: `${path} has not grown for ${formatDuration(age)}` };
      from = Math.max(from, stretch.from);
      until = Math.min(until, stretch.until);
    }
    if (!sightings.any)
      return { why: `none of this secret's keys was ever seen in it, so \`${this.#places.key}\` may not name them` };
    // Two logs that overlap nowhere cover nothing together.
    return from <= until ? { from, until } : { why: "the logs have no common time yet" };
  }
}

/** Which file has which name. */
function fingerprint(logs: readonly Log[]): string {
  return JSON.stringify(logs.map(({ files }) => files.map(({ path, id }) => [path, id])));
}

function isPattern(text: string): boolean {
  try {
    return new RegExp(text).test("") !== null && groupsOf(text).length > 0;
  } catch {
    return false;
  }
}
