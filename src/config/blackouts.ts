import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Duration, Instant } from "../core/duration.ts";
import { CalendarError } from "./calendar-error.ts";
import { valueIssue } from "./issues.ts";
import type { Gathered } from "./parts.ts";
import { instantOf } from "./window.ts";

/** A span in which the schedule starts nothing and nothing is revoked. */
export interface Blackout {
  readonly from: Instant;
  /** Not part of it. */
  readonly to: Instant;
  /** For people. */
  readonly reason: string;
  /** For secrets with one of these; null: for all. */
  readonly tags: readonly string[] | null;
}

const DAY: Duration = 86_400_000;
const FORM = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?)?$/;

/**
 * An instant from `2026-12-20`, `2026-12-20T18:00` (wall clock of `zone`) or `2026-12-20T18:00Z`; null: it is none.
 * @param end a day stands for its end
 */
export function parseMoment(text: string, zone: string, end: boolean): Instant | null {
  const [, year, month, day, hour, minute, second = "00", offset] = FORM.exec(text) ?? [];
  if (year === undefined) return null;
  const date = `${year}-${month}-${day}`;
  const wall = Date.parse(`${date}T${hour ?? "00"}:${minute ?? "00"}:${second}Z`);
  if (Number.isNaN(wall) || !new Date(wall).toISOString().startsWith(date)) return null;
  if (hour === undefined) return instantOf(wall + (end ? DAY : 0), zone);
  const at = offset === undefined ? instantOf(wall, zone) : Date.parse(`${date}T${hour}:${minute}:${second}${offset}`);
  return Number.isNaN(at) ? null : at;
}

/** Those that hold for a secret with these tags. */
export function blackoutsFor(all: readonly Blackout[], tags: readonly string[]): readonly Blackout[] {
  return all.filter((one) => one.tags === null || one.tags.some((tag) => tags.includes(tag)));
}

/** The one that lasts longest of those that hold at an instant. */
export function blackoutAt(blackouts: readonly Blackout[], at: Instant): Blackout | null {
  let longest: Blackout | null = null;
  // A plain loop: a thousand secrets ask for each day of a year.
  for (const one of blackouts)
    if (one.from <= at && at < one.to && (longest === null || one.to > longest.to)) longest = one;
  return longest;
}

/** One entry of `blackouts`, as the policy's schema lets it pass. */
interface Entry {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly reason?: string | undefined;
  readonly ics?: string | undefined;
  readonly zone?: string | undefined;
  readonly tags?: readonly string[] | undefined;
}

/** @param now what recurs in a calendar is known from a year before it to two years after */
export async function buildBlackouts(entries: readonly Entry[], now: Instant, gathered: Gathered): Promise<Blackout[]> {
  const all: Blackout[] = [];
  for (const [
    index,
    { from = "", to = "", reason = "blackout", ics, zone = "UTC", tags = null },
  ] of entries.entries()) {
    const at = ["blackouts", index];
    if (ics === undefined) {
      const span = { from: parseMoment(from, zone, false) ?? 0, to: parseMoment(to, zone, true) ?? 0 };
      if (span.from >= span.to) gathered.issues.push(valueIssue([...at, "to"], "is not after `from`"));
      all.push({ ...span, reason, tags });
      continue;
    }
    try {
      const { readCalendar } = await import("./calendar.ts");
      const text = readFileSync(resolve(gathered.folder, ics), "utf8");
      all.push(...(await readCalendar(text, zone, now)).map((one) => ({ ...one, tags })));
    } catch (error) {
      const hint = error instanceof CalendarError ? error.hint : undefined;
      gathered.issues.push(valueIssue([...at, "ics"], problemOf(error, resolve(gathered.folder, ics)), hint));
    }
  }
  return all;
}

function problemOf(error: unknown, file: string): string {
  if (error instanceof CalendarError) return error.message;
  if (!(error instanceof Error && "syscall" in error))
    return "is no calendar (iCalendar, RFC 5545) that can be understood";
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" ? `${file} is not there` : `${file} cannot be read (${code ?? "unknown reason"})`;
}
