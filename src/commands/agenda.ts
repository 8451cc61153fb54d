import { blackoutAt } from "../config/blackouts.ts";
import type { SecretPolicy } from "../config/model.ts";
import { dueAfter, dueBy, startsFrom } from "../config/schedule.ts";
import type { Instant } from "../core/duration.ts";
import type { SecretState } from "../core/model.ts";

/** One start that the schedule has ahead. */
export interface Start {
  readonly secret: string;
  readonly at: Instant;
  /** What it had to wait for since it was due; null: it starts when due. */
  readonly delayedBy: string | null;
}

export interface Agenda {
  /** In their order in time. */
  readonly starts: readonly Start[];
  /** Secrets that start more often than is listed: the last start that is. */
  readonly truncated: readonly Pick<Start, "secret" | "at">[];
}

/** More than anybody reads of one secret. */
const MOST = 1000;

/**
 * Every start of these secrets before `until`, of each secret a thousand at most. Each later one counts from the start before
 * it, as if no rotation began by hand, and none failed.
 */
export async function agendaOf(
  secrets: readonly { readonly policy: SecretPolicy; readonly state: SecretState | null }[],
  now: Instant,
  until: Instant,
): Promise<Agenda> {
  const starts: Start[] = [];
  const truncated: Pick<Start, "secret" | "at">[] = [];
  for (const { policy, state } of secrets) {
    if (policy.schedule === null || !policy.enabled) continue;
    const after = await dueAfter(policy);
    let due = (await dueBy(policy))(state ?? { versions: [] }, now).at ?? now;
    for (let [count, last] = [0, now]; ; count++) {
      const ready = Math.max(due, now);
      const at = startsFrom(policy, ready);
      if (at > until) break;
      if (count === MOST) {
        truncated.push({ secret: policy.name, at: last });
        break;
      }
      last = at;
      starts.push({ secret: policy.name, at, delayedBy: at === ready ? null : whyNot(policy, ready) });
      due = after(at);
      if (due <= at) break;
    }
  }
  starts.sort((a, b) => a.at - b.at || (a.secret < b.secret ? -1 : 1));
  return { starts, truncated };
}

function whyNot({ schedule, blackouts }: SecretPolicy, at: Instant): string {
  return blackoutAt(blackouts, at)?.reason ?? `window ${schedule?.window?.text ?? ""}`;
}

/** As an iCalendar file (RFC 5545). */
export async function calendarOf(starts: readonly Start[], now: Instant): Promise<string> {
  const { default: ical } = await import("ical.js");
  const calendar = new ical.Component("vcalendar");
  calendar.addPropertyWithValue("version", "2.0");
  calendar.addPropertyWithValue("prodid", "-//keyturn//plan//EN");
  calendar.addPropertyWithValue("x-wr-calname", "keyturn");
  for (const { secret, at, delayedBy } of starts) {
    const event = new ical.Component("vevent");
    const time = (instant: Instant) => ical.Time.fromJSDate(new Date(Math.floor(instant / 1000) * 1000), true);
    event.addPropertyWithValue("uid", `${secret}-${Math.floor(at / 1000)}@keyturn`);
    event.addPropertyWithValue("dtstamp", time(now));
    event.addPropertyWithValue("dtstart", time(at));
    event.addPropertyWithValue("summary", `keyturn: ${secret} starts to rotate`);
    if (delayedBy !== null) event.addPropertyWithValue("description", `due earlier, held back by ${delayedBy}`);
    event.addPropertyWithValue("transp", "TRANSPARENT");
    calendar.addSubcomponent(event);
  }
  return `${calendar.toString()}\r\n`;
}
