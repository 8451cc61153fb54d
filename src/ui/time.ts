import type { Duration, Instant } from "../core/duration.ts";

const UNITS: readonly (readonly [string, Duration])[] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1000],
];

/** `3 min ago`, `in 2 h`, `now`: the largest unit that fits, rounded to the nearest whole. */
export function relative(instant: Instant, now: Instant): string {
  const distance = Math.abs(instant - now);
  if (distance < 1000) return "now";
  // 59.6 s are a minute, 23.7 h are a day.
  const [unit, size] = UNITS.find(([, one]) => Math.round(distance / one) >= 1) as readonly [string, Duration];
  const text = `${Math.round(distance / size)} ${unit}`;
  return instant < now ? `${text} ago` : `in ${text}`;
}

/** ISO 8601 in UTC, without empty milliseconds; null for null and for what no calendar holds. */
export function iso(instant: Instant | null): string | null {
  if (instant === null || !(Math.abs(instant) <= 8.64e15)) return null;
  return new Date(instant).toISOString().replace(".000Z", "Z");
}

/** Two readings of the same moment, off two clocks, differ by less; and a process takes as long to start. */
const JITTER: Duration = 100;

/** The same of a moment from which on something can happen: the first whole second that is not too early. */
export function isoFrom(instant: Instant | null): string | null {
  return iso(instant === null ? null : Math.ceil((instant - JITTER) / 1000) * 1000);
}
