/** Milliseconds of a wall clock, as if it were UTC's. */
export type Wall = number;

/** A recurrence rule of RFC 5545, section 3.3.10, without UNTIL. */
export interface Rule {
  readonly frequency: "YEARLY" | "MONTHLY" | "WEEKLY" | "DAILY" | "HOURLY";
  readonly interval: number;
  readonly count: number | null;
  /** 0 is Sunday. */
  readonly weekStart: number;
  /** `nth`: counted within the month or year, from its end when below zero; 0: each. */
  readonly byDay?: readonly { readonly day: number; readonly nth: number }[];
  readonly byMonth?: readonly number[];
  readonly byWeekNo?: readonly number[];
  readonly byYearDay?: readonly number[];
  readonly byMonthDay?: readonly number[];
  readonly byHour?: readonly number[];
  readonly byMinute?: readonly number[];
  readonly bySecond?: readonly number[];
  readonly bySetPos?: readonly number[];
}

const HOUR = 3_600_000;
export const DAY = 24 * HOUR;
const WEEK = 7 * DAY;
/** The hours of 45 years. Only a rule with a COUNT can need as many, as it is counted from its start. */
const MOST_PERIODS = 400_000;

/**
 * When a rule comes, from `from` to `to` (both part of it), in order. It looks at one period (year, month … hour) of
 * the rule after the other, so that a rule that never comes ends as well; without a COUNT it begins at `from`,
 * however long ago the start is.
 * @param start of the event: nothing comes before it, and it says what the rule leaves open
 * @returns null where the COUNT reaches too far back to be followed.
 */
export function occurrences(rule: Rule, start: Wall, from: Wall, to: Wall): readonly Wall[] | null {
  const whole = completed(rule, start);
  const period = periodOf(rule);
  const first = period.at(start);
  const skipped = rule.count === null ? Math.max(0, Math.floor((period.at(from) - first) / rule.interval)) : 0;
  const found: Wall[] = [];
  let index = first + skipped * rule.interval;
  let left = rule.count ?? Infinity;
  for (let looked = 0; left > 0 && period.start(index) <= to; looked++, index += rule.interval) {
    if (looked === MOST_PERIODS) return null;
    const there = within(whole, period.start(index), period.start(index + 1)).filter((wall) => wall >= start);
    found.push(...there.slice(0, left).filter((wall) => wall >= from && wall <= to));
    left -= there.length;
  }
  return found;
}

/** What the rule leaves open is as in the event's start. */
function completed(rule: Rule, start: Wall): Rule {
  const at = new Date(start);
  const { frequency, byDay, byMonth, byYearDay, byMonthDay } = rule;
  const isOpen = (byDay ?? byYearDay ?? byMonthDay) === undefined;
  return {
    ...rule,
    ...(isOpen && frequency === "WEEKLY" && { byDay: [{ day: at.getUTCDay(), nth: 0 }] }),
    ...(isOpen && (frequency === "MONTHLY" || frequency === "YEARLY") && { byMonthDay: [at.getUTCDate()] }),
    ...(isOpen && frequency === "YEARLY" && { byMonth: byMonth ?? [at.getUTCMonth() + 1] }),
    ...(frequency !== "HOURLY" && { byHour: rule.byHour ?? [at.getUTCHours()] }),
    byMinute: rule.byMinute ?? [at.getUTCMinutes()],
    bySecond: rule.bySecond ?? [at.getUTCSeconds()],
  };
}

interface Period {
  /** The number of the period in which a moment lies. */
  at(wall: Wall): number;
  start(index: number): Wall;
}

function periodOf({ frequency, weekStart }: Rule): Period {
  const every = (length: number, origin = 0): Period => ({
    at: (wall) => Math.floor((wall - origin) / length),
    start: (index) => origin + index * length,
  });
  const year = (wall: Wall) => new Date(wall).getUTCFullYear();
  switch (frequency) {
    case "YEARLY":
      return { at: year, start: (index) => Date.UTC(index, 0) };
    case "MONTHLY":
      return {
        at: (wall) => year(wall) * 12 + new Date(wall).getUTCMonth(),
        start: (index) => Date.UTC(Math.floor(index / 12), index % 12),
      };
    case "WEEKLY":
      return every(WEEK, toWeekStart(0, weekStart));
    case "DAILY":
      return every(DAY);
    case "HOURLY":
      return every(HOUR);
  }
}

/** The first day of the week in which a day lies. */
function toWeekStart(day: Wall, weekStart: number): Wall {
  return day - ((new Date(day).getUTCDay() - weekStart + 7) % 7) * DAY;
}

function within(rule: Rule, from: Wall, to: Wall): readonly Wall[] {
  const { frequency, byHour, byMinute = [], bySecond = [], bySetPos } = rule;
  const found: Wall[] = [];
  for (let day = Math.floor(from / DAY) * DAY; day < to; day += DAY) {
    if (!isDay(rule, day)) continue;
    const now = (from - day) / HOUR;
    const hours = frequency !== "HOURLY" ? (byHour ?? []) : (byHour?.includes(now) ?? true) ? [now] : [];
    for (const hour of hours)
      for (const minute of byMinute)
        for (const second of bySecond) found.push(day + hour * HOUR + minute * 60_000 + second * 1000);
  }
  found.sort((a, b) => a - b);
  if (bySetPos === undefined) return found;
  return found.filter((_, index) => bySetPos.some((n) => n === index + 1 || n === index - found.length));
}

/** A place among `length`, counted from the front and from the end; and that of the week it is the nth of. */
const places = (place: number, length: number) => [place, place - length - 1];
const weeks = (place: number, length: number) => [Math.ceil(place / 7), -Math.ceil((length - place + 1) / 7)];

function isDay(rule: Rule, day: Wall): boolean {
  const { frequency, weekStart, byDay, byMonth, byWeekNo, byYearDay, byMonthDay } = rule;
  const is = (allowed: readonly number[] | undefined, of: () => readonly number[]) =>
    allowed === undefined || of().some((one) => allowed.includes(one));
  const [date, ofMonth] = [new Date(day), () => placeIn(day, "month")] as const;
  const ofYear = () => placeIn(day, "year");
  return (
    is(byMonth, () => [date.getUTCMonth() + 1]) &&
    is(byMonthDay, () => places(...ofMonth())) &&
    is(byYearDay, () => places(...ofYear())) &&
    // A week belongs to the year in which its fourth day lies.
    is(byWeekNo, () => weeks(...placeIn(toWeekStart(day, weekStart) + 3 * DAY, "year"))) &&
    (byDay?.some(
      ({ day: weekday, nth }) =>
        weekday === date.getUTCDay() &&
        (nth === 0 || weeks(...(frequency === "MONTHLY" || byMonth ? ofMonth() : ofYear())).includes(nth)),
    ) ??
      true)
  );
}

/** Which day of its month or year a day is, and how many there are. */
function placeIn(day: Wall, span: "month" | "year"): [place: number, length: number] {
  const date = new Date(day);
  const [year, month] = [date.getUTCFullYear(), span === "month" ? date.getUTCMonth() : 0];
  const first = Date.UTC(year, month);
  const next = span === "month" ? Date.UTC(year, month + 1) : Date.UTC(year + 1, 0);
  return [(day - first) / DAY + 1, (next - first) / DAY];
}
