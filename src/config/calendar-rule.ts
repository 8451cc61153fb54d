import { CalendarError } from "./calendar-error.ts";
import { occurrences, type Rule, type Wall } from "./recurrence.ts";

/** An RRULE as the parser leaves it: one value stands alone, several in a list. */
export type WrittenRule = Readonly<Record<string, unknown>>;

const FREQUENCIES: readonly unknown[] = [
  "YEARLY",
  "MONTHLY",
  "WEEKLY",
  "DAILY",
  "HOURLY",
] satisfies Rule["frequency"][];
const WEEKDAYS = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];
const NUMBERS = {
  bymonth: "byMonth",
  byweekno: "byWeekNo",
  byyearday: "byYearDay",
  bymonthday: "byMonthDay",
  byhour: "byHour",
  byminute: "byMinute",
  bysecond: "bySecond",
  bysetpos: "bySetPos",
} as const;
const FIFTY_YEARS = 50 * 366 * 86_400_000;
const HINT = "name the days of the freeze in the calendar as single events, or as `from` and `to` in `blackouts`";

/**
 * @param start of the event
 * @throws CalendarError for what would freeze nothing, or something else than its author meant.
 */
export function readRule(written: WrittenRule, start: Wall): Rule {
  const { freq, interval = 1, count = null, wkst = 2, until: _, byday, ...others } = written;
  if (!FREQUENCIES.includes(freq))
    throw new CalendarError("recurs each second or minute, or in no way that is known", HINT);
  const frequency = freq as Rule["frequency"];
  const byDay = list(byday).map((text) => ({
    day: WEEKDAYS.indexOf(String(text).slice(-2)),
    nth: Number.parseInt(String(text), 10) || 0,
  }));
  if (frequency !== "MONTHLY" && frequency !== "YEARLY" && byDay.some(({ nth }) => nth !== 0))
    throw new CalendarError("counts weekdays (BYDAY=2MO) without a month or year to count them in", HINT);
  if (others["byweekno"] !== undefined && byDay.length === 0)
    throw new CalendarError("names weeks (BYWEEKNO) without their days (BYDAY)", HINT);
  const numbers = Object.entries(others).map(([name, value]) => {
    if (!Object.hasOwn(NUMBERS, name)) throw new CalendarError("has a rule with a part that is not known", HINT);
    return [NUMBERS[name as keyof typeof NUMBERS], list(value).map(Number)];
  });
  const rule: Rule = {
    frequency,
    interval: Number(interval),
    count: count === null ? null : Number(count),
    weekStart: Number(wkst) - 1,
    ...(byDay.length > 0 && { byDay }),
    ...(Object.fromEntries(numbers) as Partial<Rule>),
  };
  if (!comes(rule, start)) throw new CalendarError("has a recurrence rule that never comes", HINT);
  return rule;
}

/** Whether it comes at all; the rarest, a 29th of February on a given weekday, does within forty years. */
function comes(rule: Rule, start: Wall): boolean {
  return occurrences({ ...rule, count: 1 }, start, start, start + FIFTY_YEARS)?.length === 1;
}

/** @throws CalendarError where it is too much to follow. */
export function expand(rule: Rule, start: Wall, from: Wall, to: Wall): readonly Wall[] {
  const found = occurrences(rule, start, from, to);
  if (found === null) throw new CalendarError("has a COUNT that reaches too far back", HINT);
  return found;
}

function list(value: unknown): readonly unknown[] {
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}
