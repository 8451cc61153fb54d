import type ICAL from "ical.js";
import type { Instant } from "../core/duration.ts";
import { CalendarError } from "./calendar-error.ts";
import { expand, readRule, type WrittenRule } from "./calendar-rule.ts";
import { DAY, type Wall } from "./recurrence.ts";
import { instantOf, isZone } from "./window.ts";

/** What lies in an iCalendar file. */
export interface Entry {
  readonly from: Instant;
  readonly to: Instant;
  readonly reason: string;
}

type Component = InstanceType<typeof ICAL.Component>;
type Duration = InstanceType<typeof ICAL.Duration>;
type Period = InstanceType<typeof ICAL.Period>;
type Property = InstanceType<typeof ICAL.Property>;
type Time = InstanceType<typeof ICAL.Time>;
type Timezone = InstanceType<typeof ICAL.Timezone>;

const YEAR = 366 * DAY;
/** More around now than any freeze calendar has: each day of three years is 1,098. Every secret looks through them. */
const MOST = 5000;

/**
 * The events of an iCalendar file (RFC 5545) that touch the time from a year before `now` to two years after it,
 * however long ago a recurring one began. Cancelled and transparent (`TRANSP`) ones block nothing.
 * @param zone of times that name none
 * @throws CalendarError for what cannot be read surely: a freeze is never left out silently. Any other Error: the
 *   file is no calendar.
 */
export async function readCalendar(text: string, zone: string, now: Instant): Promise<readonly Entry[]> {
  const { default: ical } = await import("ical.js");
  const parsed = ical.parse(text) as unknown[];
  const calendars = (typeof parsed[0] === "string" ? [parsed] : (parsed as unknown[][])).map(
    (one) => new ical.Component(one),
  );
  if (calendars.length === 0 || calendars.some(({ name }) => name !== "vcalendar")) throw new Error("no calendar");
  const entries = calendars.flatMap((calendar) => {
    const events = calendar.getAllSubcomponents("vevent");
    const reader = new Reader(ical, calendar, zone, { from: now - YEAR, to: now + 2 * YEAR });
    return events.flatMap((event, index) => named(index + 1, () => reader.entries(event)));
  });
  if (entries.length > MOST)
    throw new CalendarError(
      `has more than ${MOST} freezes from a year ago to two years from now`,
      "write those that follow one another as one long event",
    );
  return entries;
}

function named<T>(number: number, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CalendarError)) throw error;
    throw new CalendarError(`event ${number} ${error.message}`, error.hint);
  }
}

interface Span {
  readonly from: Instant;
  readonly to: Instant;
}

/** A time as written. */
interface Written {
  readonly wall: Wall;
  readonly zone: string;
  readonly isDay: boolean;
}

class Reader {
  readonly #ical: typeof ICAL;
  readonly #zone: string;
  readonly #around: Span;
  /** Those that the calendar describes itself. */
  readonly #zones: ReadonlyMap<string, Timezone>;
  /** By the UID of their series: events that stand for one of its occurrences. */
  readonly #overrides = new Map<string, Property[]>();

  constructor(ical: typeof ICAL, calendar: Component, zone: string, around: Span) {
    this.#ical = ical;
    this.#zone = zone;
    this.#around = around;
    const zones = calendar
      .getAllSubcomponents("vtimezone")
      .filter(changesYearly)
      .map((one) => new ical.Timezone(one));
    this.#zones = new Map(zones.map((one) => [one.tzid, one]));
    for (const event of calendar.getAllSubcomponents("vevent")) {
      const replaced = event.getFirstProperty("recurrence-id");
      const uid = uidOf(event);
      if (replaced === null || uid === null) continue;
      this.#overrides.set(uid, [...(this.#overrides.get(uid) ?? []), replaced]);
    }
  }

  entries(event: Component): readonly Entry[] {
    const value = (name: string) => event.getFirstPropertyValue(name);
    if (value("status") === "CANCELLED" || value("transp") === "TRANSPARENT") return [];
    if (event.getFirstProperty("recurrence-id")?.getFirstParameter("range"))
      throw new CalendarError("changes all that follow (RANGE=THISANDFUTURE)", "end the series, and begin another");
    const reason = String(value("summary") || "blackout");
    const { from, to } = this.#around;
    const spans = this.#spans(event).filter((span) => span.to > from && span.from <= to && span.to !== span.from);
    if (spans.some((span) => span.to < span.from)) throw new CalendarError("ends before it starts");
    return joined(spans).map((span) => ({ ...span, reason }));
  }

  #spans(event: Component): readonly Span[] {
    const property = event.getFirstProperty("dtstart");
    if (property === null) throw new CalendarError("has no start");
    const start = this.#first(property, this.#zone);
    const spanAt = this.#spanner(event, start);
    const first = spanAt(start.wall);
    if (event.hasProperty("recurrence-id")) return [first];
    const length = Math.max(0, first.to - first.from);
    const walls = event.getAllProperties("rrule").flatMap((rrule) => this.#recurs(rrule, start, length));
    const others = this.#all(event, "rdate", start.zone);
    const isReplaced = this.#replaced(event, start.zone);
    const sameZone = others.filter(({ zone }) => zone === start.zone).map(({ wall }) => wall);
    return [
      // The start is the first occurrence, whatever the rule says.
      ...[...new Set([start.wall, ...walls, ...sameZone])]
        .filter((wall) => !isReplaced({ ...start, wall }))
        .map(spanAt),
      ...others
        .filter((other) => other.zone !== start.zone && !isReplaced(other))
        .map((other) => ({ from: this.#instant(other), to: this.#instant(other) + length })),
      ...this.#periods(event, start.zone),
    ];
  }

  /** The span of the occurrence with this start: its end is as far on by the wall clock, each in its own zone. */
  #spanner(event: Component, start: Written): (wall: Wall) => Span {
    const property = event.getFirstProperty("dtend");
    const duration = event.getFirstPropertyValue("duration") as Duration | null;
    const end = property && this.#first(property, start.zone);
    // Some write a day's event with the same day as its end.
    const isWholeDay = start.isDay && (end === null || end.wall <= start.wall) && duration === null;
    // Days of a duration are days of the calendar, its hours are hours.
    const days = isWholeDay ? 1 : duration ? duration.weeks * 7 + duration.days : 0;
    const exact = duration ? ((duration.hours * 60 + duration.minutes) * 60 + duration.seconds) * 1000 : 0;
    const sign = duration?.isNegative ? -1 : 1;
    return (wall) => ({
      from: this.#instant({ ...start, wall }),
      to:
        end !== null && !isWholeDay
          ? this.#instant({ ...end, wall: end.wall + wall - start.wall })
          : this.#instant({ ...start, wall: wall + sign * days * DAY }) + sign * exact,
    });
  }

  /** The starts of a rule's occurrences that may touch the time around now. */
  #recurs(rrule: Property, start: Written, length: number): readonly Wall[] {
    const written = rrule.toJSON()[3] as WrittenRule;
    const until = (rrule.getFirstValue() as unknown as { until: Time | null }).until;
    const last = until && this.#written(until, undefined, start.zone);
    const { from, to } = this.#around;
    const walls = expand(
      readRule(written, start.wall),
      start.wall,
      from - length - 2 * DAY,
      Math.min(to, last?.wall ?? Infinity) + 2 * DAY,
    );
    if (walls.length > MOST)
      throw new CalendarError(
        `comes more than ${MOST} times from a year ago to two years from now`,
        "write it as one long event",
      );
    if (last === null) return walls;
    if (last.isDay) return walls.filter((wall) => wall < last.wall + DAY);
    return walls.filter((wall) => this.#instant({ ...start, wall }) <= this.#instant(last));
  }

  #periods(event: Component, zone: string): readonly Span[] {
    const rdates = event.getAllProperties("rdate").filter(({ type }) => type === "period");
    return rdates.flatMap((rdate) =>
      (rdate.getValues() as Period[]).map((period) => {
        const [from, to] = [period.start, period.getEnd()].map((time) =>
          this.#instant(this.#written(time, rdate.getFirstParameter("tzid"), zone)),
        ) as [Instant, Instant];
        return { from, to };
      }),
    );
  }

  /** Whether an occurrence is taken out (EXDATE), or another event stands for it. */
  #replaced(event: Component, zone: string): (occurrence: Written) => boolean {
    const overrides = this.#overrides.get(uidOf(event) ?? "") ?? [];
    const out = [...this.#all(event, "exdate", zone), ...overrides.map((one) => this.#first(one, zone))];
    const days = new Set(out.filter(({ isDay }) => isDay).map(({ wall }) => wall));
    const instants = new Set(out.filter(({ isDay }) => !isDay).map((one) => this.#instant(one)));
    return (one) => days.has(Math.floor(one.wall / DAY) * DAY) || instants.has(this.#instant(one));
  }

  #all(event: Component, name: string, zone: string): readonly Written[] {
    const properties = event.getAllProperties(name).filter(({ type }) => type !== "period");
    return properties.flatMap((one) =>
      (one.getValues() as Time[]).map((time) => this.#written(time, one.getFirstParameter("tzid"), zone)),
    );
  }

  #first(property: Property, zone: string): Written {
    return this.#written(property.getFirstValue() as Time, property.getFirstParameter("tzid"), zone);
  }

  #written(time: Time, tzid: string | undefined, zone: string): Written {
    const isUtc = time.zone === this.#ical.Timezone.utcTimezone;
    return {
      wall: Date.UTC(time.year, time.month - 1, time.day, time.hour, time.minute, time.second),
      zone: isUtc ? "UTC" : (tzid ?? zone),
      isDay: time.isDate,
    };
  }

  #instant({ wall, zone }: Written): Instant {
    if (isZone(zone)) return instantOf(wall, zone);
    const described = this.#zones.get(zone);
    if (described === undefined)
      throw new CalendarError("names a time zone that nobody knows", "use one such as Europe/Berlin");
    const at = new Date(wall);
    const fields = {
      year: at.getUTCFullYear(),
      month: at.getUTCMonth() + 1,
      day: at.getUTCDate(),
      hour: at.getUTCHours(),
      minute: at.getUTCMinutes(),
      second: at.getUTCSeconds(),
    };
    return new this.#ical.Time(fields, described).toUnixTime() * 1000;
  }
}

/** The parser expands the rules of a zone by itself, and may never end at others than yearly ones. */
function changesYearly(zone: Component): boolean {
  const rules = zone.getAllSubcomponents().flatMap((one) => one.getAllProperties("rrule"));
  return rules.every((rule) => (rule.toJSON()[3] as WrittenRule)["freq"] === "YEARLY");
}

/** What touches is one: a freeze of each day has one end, and nobody steps through its days. */
function joined(spans: readonly Span[]): readonly Span[] {
  const all: Span[] = [];
  for (const span of spans.toSorted((a, b) => a.from - b.from)) {
    const last = all.at(-1);
    if (last === undefined || span.from > last.to) all.push(span);
    else all[all.length - 1] = { from: last.from, to: Math.max(last.to, span.to) };
  }
  return all;
}

function uidOf(event: Component): string | null {
  return event.getFirstPropertyValue("uid") as string | null;
}
