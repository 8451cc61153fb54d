import type { Instant } from "../core/duration.ts";

/** When a rotation may start: `Mon-Fri 09:00-16:00 Europe/Berlin`. */
export interface Window {
  /** As written. */
  readonly text: string;
  /** IANA name. */
  readonly zone: string;
  /** 0 is Sunday. */
  readonly days: readonly number[];
  /** Minutes since midnight by the zone's wall clock. An end not after its start lies on the next day. */
  readonly ranges: readonly { readonly from: number; readonly to: number }[];
}

const DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;

/**
 * Reads `[DAYS] HH:MM-HH:MM[,HH:MM-HH:MM…] [ZONE]`. Days are `Mon-Fri` or `Mon,Wed,Sat-Sun`, by default all; a
 * range that ends before it starts runs into the next day; `24:00` may end one. Without a zone: UTC.
 * @returns the window, or what is wrong with the text (without quoting it).
 */
export function parseWindow(text: string): Window | string {
  const words = text
    .replace(/\s*([,-])\s*(?=[\dA-Za-z])/g, "$1")
    .trim()
    .split(/\s+/);
  let days: readonly number[] = [0, 1, 2, 3, 4, 5, 6];
  if (/^[a-z]{3}([,-]|$)/i.test(words[0] ?? "")) {
    const named = parseDays(words.shift() as string);
    if (named === null) return "has days other than Mon Tue Wed Thu Fri Sat Sun";
    days = named;
  }
  const ranges = (words.shift() ?? "").split(",").map(parseRange);
  if (!ranges.every((range) => range !== null)) return "has no times such as 09:00-16:00";
  if (ranges.some((range) => range.from === range.to))
    return "never opens: a range starts when it ends (all day is 00:00-24:00)";
  const zone = words.shift() ?? "UTC";
  if (words.length > 0 || !isZone(zone)) return "ends in something that is no time zone such as Europe/Berlin";
  return { text, zone, days, ranges };
}

function parseDays(text: string): number[] | null {
  const days = new Set<number>();
  for (const part of text.toLowerCase().split(",")) {
    const [first = "", last = first, ...rest] = part.split("-");
    const [from, to] = [DAYS.indexOf(first), DAYS.indexOf(last)];
    if (from < 0 || to < 0 || rest.length > 0) return null;
    for (let day = from; ; day = (day + 1) % 7) {
      days.add(day);
      if (day === to) break;
    }
  }
  return [...days].sort((a, b) => a - b);
}

function parseRange(text: string): { from: number; to: number } | null {
  const [, ...parts] = /^(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)$/.exec(text) ?? [];
  if (parts.length === 0) return null;
  const [h1, m1, h2, m2] = parts.map(Number) as [number, number, number, number];
  const [from, to] = [h1 * 60 + m1, h2 * 60 + m2];
  return m1 < 60 && m2 < 60 && from < 1440 && to <= 1440 ? { from, to } : null;
}

const formats = new Map<string, Intl.DateTimeFormat | null>();

/** Formats are slow to make and asked for by every secret. */
function formatFor(zone: string): Intl.DateTimeFormat | null {
  let format = formats.get(zone);
  if (format === undefined) {
    try {
      format = new Intl.DateTimeFormat("en-US", {
        timeZone: zone,
        hourCycle: "h23",
        year: "numeric",
        month: "numeric",
        day: "numeric",
        hour: "numeric",
        minute: "numeric",
        second: "numeric",
      });
    } catch {
      format = null;
    }
    formats.set(zone, format);
  }
  return format;
}

export function isZone(zone: string): boolean {
  return formatFor(zone) !== null;
}

const QUARTER = 15 * MINUTE_MS;
const offsets = new Map<string, number>();

/** The zone's wall clock at an instant, as if it were UTC. */
function wallClock(at: Instant, zone: string): number {
  // Clocks change on quarter hours only; formatting is slow, and all secrets ask for the same few days.
  const quarter = Math.floor(at / QUARTER) * QUARTER;
  const key = `${zone} ${quarter}`;
  let offset = offsets.get(key);
  if (offset === undefined) {
    if (offsets.size > 10_000) offsets.clear();
    offsets.set(key, (offset = formatted(quarter, zone) - quarter));
  }
  return at + offset;
}

function formatted(at: Instant, zone: string): number {
  const parts: Record<string, number> = {};
  for (const { type, value } of (formatFor(zone) as Intl.DateTimeFormat).formatToParts(at)) parts[type] = Number(value);
  const { year, month, day, hour, minute, second } = parts as Record<
    "year" | "month" | "day" | "hour" | "minute" | "second",
    number
  >;
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

/** The first instant with this wall time; a time that the clocks skip stands for the one as much later. */
export function instantOf(wall: number, zone: string): Instant {
  const offsets = [wall - DAY_MS, wall + DAY_MS].map((near) => wallClock(near, zone) - near);
  const found = offsets.map((offset) => wall - offset).filter((at) => wallClock(at, zone) === wall);
  return found.length > 0 ? Math.min(...found) : wall - (offsets[0] as number);
}

/** The first instant from `at` on that lies in the window: `at` itself when it is open. */
export function opensAt(window: Window, at: Instant): Instant {
  const { zone } = window;
  const today = Math.floor(wallClock(at, zone) / DAY_MS) * DAY_MS;
  let best = Infinity;
  // From yesterday, whose range may run into today; the first day with an opening has the first opening.
  for (let date = today - DAY_MS; best === Infinity && date <= today + 9 * DAY_MS; date += DAY_MS) {
    if (!window.days.includes(new Date(date).getUTCDay())) continue;
    for (const { from, to } of window.ranges) {
      const start = instantOf(date + from * MINUTE_MS, zone);
      const end = instantOf(date + (to > from ? 0 : DAY_MS) + to * MINUTE_MS, zone);
      if (end > at && end > start) best = Math.min(best, Math.max(start, at));
    }
  }
  return best;
}
