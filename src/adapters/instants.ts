import type { Instant } from "../core/duration.ts";

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const ISO =
  /^(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?(Z|UTC|GMT|[+-]\d\d:?\d\d|[+-]\d\d)?$/i;
const COMMON_LOG = /^(\d\d)\/([A-Z][a-z][a-z])\/(\d{4}):(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))? ([+-]\d{4})$/;
const HTTP = /^[A-Z][a-z][a-z], (\d\d) ([A-Z][a-z][a-z]) (\d{4}) (\d\d):(\d\d):(\d\d) GMT$/;
const OFFSET = /^([+-])(\d\d):?(\d\d)?$/;

/**
 * Reads a time as logs and APIs write it: ISO 8601, `10/Oct/2026:13:55:36 -0700`, an HTTP date, or a number since
 * 1970 in seconds, milliseconds, microseconds or nanoseconds (told apart by its size).
 *
 * @param zone minutes east of UTC for a time that names no zone; null: such a time is not understood. A named zone
 *   is not taken on purpose: an hour of each autumn would have two meanings.
 * @returns null for anything else.
 */
export function parseInstant(time: unknown, zone: number | null = null): Instant | null {
  if (typeof time === "number") return fromNumber(time);
  if (typeof time !== "string") return null;
  const text = time.trim();
  if (/^\d{9,19}(\.\d{1,9})?$/.test(text)) return fromNumber(Number(text));
  const iso = ISO.exec(text);
  if (iso !== null) {
    const [, year, month, day, hour, minute, second = "0", fraction = "0", offset] = iso;
    const east = offset === undefined ? zone : parseOffset(offset);
    return east === null ? null : instant(year, Number(month), day, hour, minute, second, fraction, east);
  }
  const common = COMMON_LOG.exec(text);
  if (common !== null) {
    const [, day, month = "", year, hour, minute, second, fraction = "0", offset = ""] = common;
    return instant(year, MONTHS.indexOf(month) + 1, day, hour, minute, second, fraction, parseOffset(offset) ?? NaN);
  }
  const http = HTTP.exec(text);
  if (http === null) return null;
  const [, day, month = "", year, hour, minute, second] = http;
  return instant(year, MONTHS.indexOf(month) + 1, day, hour, minute, second, "0", 0);
}

/** Minutes east of UTC of `Z`, `+02:00`, `-0700`, `+01`; null when it is none of them. */
export function parseOffset(text: string): number | null {
  if (/^(Z|UTC|GMT)$/i.test(text)) return 0;
  const [, sign, hours, minutes = "0"] = OFFSET.exec(text) ?? [];
  if (hours === undefined || Number(hours) > 14 || Number(minutes) > 59) return null;
  return (sign === "-" ? -1 : 1) * (Number(hours) * 60 + Number(minutes));
}

type Part = string | undefined;

function instant(
  year: Part,
  month: number,
  day: Part,
  hour: Part,
  minute: Part,
  second: Part,
  fraction: string,
  east: number,
): Instant | null {
  // A leap second is the last instant of its minute.
  const seconds = Math.min(Number(second), 59);
  const at = Date.UTC(Number(year), month - 1, Number(day), Number(hour), Number(minute), seconds);
  const real = new Date(at);
  const isDate = real.getUTCMonth() === month - 1 && real.getUTCDate() === Number(day) && Number(hour) < 24;
  if (!isDate || Number(minute) > 59 || Number(second) > 60) return null;
  const exact = at + Math.floor(Number(`0.${fraction}`) * 1000) - east * 60_000;
  return Number.isFinite(exact) ? exact : null;
}

function fromNumber(number: number): Instant | null {
  if (!Number.isFinite(number) || number < 1e8) return null;
  const unit = number < 1e11 ? 1000 : number < 1e14 ? 1 : number < 1e17 ? 1e-3 : 1e-6;
  return Math.floor(number * unit);
}
