import type { Instant } from "../core/duration.ts";
import { isZone, instantOf } from "./window.ts";

/** What lies in an iCalendar file. */
export interface Entry {
  readonly from: Instant;
  readonly to: Instant;
  readonly reason: string;
}

const YEAR = 366 * 86_400_000;
/** More occurrences of one event than any freeze calendar has. */
const MOST = 2000;

/**
 * The events of an iCalendar file (RFC 5545), recurring ones from a year before `now` to two years after it.
 * Cancelled and transparent (`TRANSP`) ones block nothing.
 * @param zone of times that name none
 * @throws Error when it is no calendar.
 */
export async function readCalendar(text: string, zone: string, now: Instant): Promise<readonly Entry[]> {
  const { default: ical } = await import("ical.js");
  const calendar = new ical.Component(ical.parse(text) as unknown[]);
  const zones = new Map(
    calendar.getAllSubcomponents("vtimezone").map((one) => {
      const made = new ical.Timezone(one);
      return [made.tzid, made];
    }),
  );
  type Time = InstanceType<typeof ical.Time>;
  const at = (time: Time, tzid: string | undefined): Instant => {
    const wall = Date.UTC(time.year, time.month - 1, time.day, time.hour, time.minute, time.second);
    if (time.zone === ical.Timezone.utcTimezone) return wall;
    const name = tzid ?? zone;
    if (isZone(name)) return instantOf(wall, name);
    const known = zones.get(name);
    if (known === undefined) throw new Error("names a time zone that nobody knows");
    return time.convertToZone(known).toUnixTime() * 1000;
  };
  const entries: Entry[] = [];
  for (const component of calendar.getAllSubcomponents("vevent")) {
    const event = new ical.Event(component);
    const status = component.getFirstPropertyValue("status");
    if (status === "CANCELLED" || component.getFirstPropertyValue("transp") === "TRANSPARENT") continue;
    if (event.isRecurrenceException()) continue;
    const tzid = component.getFirstProperty("dtstart")?.getFirstParameter("tzid");
    const add = (start: Time, end: Time): boolean => {
      const [from, to] = [at(start, tzid), at(end, tzid)];
      if (from > now + 2 * YEAR) return false;
      if (to > now - YEAR && to > from) entries.push({ from, to, reason: event.summary || "blackout" });
      return true;
    };
    if (!event.isRecurring()) {
      add(event.startDate, event.endDate);
      continue;
    }
    const times = event.iterator();
    for (let count = 0, next = times.next(); next && count < MOST; next = times.next(), count++) {
      const { startDate, endDate } = event.getOccurrenceDetails(next);
      if (!add(startDate, endDate)) break;
    }
  }
  return entries;
}
