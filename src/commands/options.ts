import type { Duration, Instant } from "../core/duration.ts";
import { parseDuration } from "../core/duration.ts";
import { UserError } from "../core/errors.ts";
import type { Options } from "./verb.ts";

/** `--wait-max` → `waitMax`. */
function camel(flag: string): string {
  return flag.replace(/^--/, "").replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

export function usageError(message: string, ...hints: string[]): UserError {
  return new UserError("usage", message, { exit: 2, hints });
}

export function flag(options: Options, name: string): boolean {
  return options[camel(name)] === true;
}

export function text(options: Options, name: string): string | null {
  const value = options[camel(name)];
  return typeof value === "string" ? value : null;
}

export function required(options: Options, name: string, example?: string): string {
  const value = text(options, name);
  if (value === null || value.trim() === "")
    throw usageError(
      `${name} is missing`,
      ...(example === undefined ? [] : [`write for example ${name} ${JSON.stringify(example)}`]),
    );
  return value;
}

/** Given several times, or with commas. */
export function list(options: Options, name: string): readonly string[] {
  const value = options[camel(name)];
  return Array.isArray(value) ? value.flatMap((part: string) => part.split(",")).filter((part) => part !== "") : [];
}

export function duration(options: Options, name: string): Duration | null {
  const value = text(options, name);
  if (value === null) return null;
  const parsed = parseDuration(value);
  if (parsed === null)
    throw usageError(`${name}: ${JSON.stringify(value)} is no duration`, "write for example 90d, 1h30m, 0s");
  return parsed;
}

export function wholeNumber(options: Options, name: string): number | null {
  const value = text(options, name);
  if (value === null) return null;
  if (!/^[1-9]\d{0,8}$/.test(value)) throw usageError(`${name}: ${JSON.stringify(value)} is no whole number above 0`);
  return Number(value);
}

/** A moment: an ISO date, with a time zone where it has a time, or a duration from `now`. */
export function moment(options: Options, name: string): ((now: Instant) => Instant) | null {
  const value = text(options, name);
  if (value === null) return null;
  const ahead = parseDuration(value);
  if (ahead !== null) return (now) => now + ahead;
  const isDate = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d))?$/.test(value);
  const at = isDate ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(at)) {
    throw usageError(
      `${name}: ${JSON.stringify(value)} is no time`,
      "write for example 2h, 2026-01-31 or 2026-01-31T09:00:00Z",
    );
  }
  return () => at;
}
