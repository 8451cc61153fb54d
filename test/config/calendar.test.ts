import { describe, expect, test } from "vitest";
import { CalendarError } from "../../src/config/calendar-error.ts";
import { readCalendar } from "../../src/config/calendar.ts";

const NOW = Date.parse("2026-07-15T12:00:00Z");
const event = (...lines: string[]) => ["BEGIN:VEVENT", "UID:a", ...lines, "END:VEVENT"].join("\r\n");
const calendar = (...parts: string[]) =>
  ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", ...parts, "END:VCALENDAR", ""].join("\r\n");
const show = (instant: number) => new Date(instant).toISOString().slice(0, 16);

async function read(parts: readonly string[], zone = "UTC") {
  const entries = await readCalendar(calendar(...parts), zone, NOW);
  return entries.toSorted((a, b) => a.from - b.from);
}
/** What begins in July 2026. */
async function july(parts: readonly string[], zone?: string) {
  const entries = (await read(parts, zone)).filter(({ from }) => show(from).startsWith("2026-07"));
  return entries.map(({ from, to }) => `${show(from)} ${show(to)}`);
}
async function refused(...parts: string[]): Promise<CalendarError> {
  const outcome = await read(parts).catch((error: unknown) => error);
  expect(outcome).toBeInstanceOf(CalendarError);
  return outcome as CalendarError;
}

/** Describes a zone as Outlook does: by a name that only the file knows. */
const zoneNamed = (name: string, rule = "FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU") =>
  [
    "BEGIN:VTIMEZONE",
    `TZID:${name}`,
    "BEGIN:STANDARD",
    "DTSTART:16010101T030000",
    "TZOFFSETFROM:+0200",
    "TZOFFSETTO:+0100",
    "RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU",
    "END:STANDARD",
    "BEGIN:DAYLIGHT",
    "DTSTART:16010101T020000",
    "TZOFFSETFROM:+0100",
    "TZOFFSETTO:+0200",
    `RRULE:${rule}`,
    "END:DAYLIGHT",
    "END:VTIMEZONE",
  ].join("\r\n");

describe("a recurring event freezes now, however long ago it began", () => {
  test.each([
    ["daily since 2018", ["DTSTART;VALUE=DATE:20180101", "RRULE:FREQ=DAILY"]],
    ["daily since 1970", ["DTSTART;VALUE=DATE:19700101", "DTEND;VALUE=DATE:19700102", "RRULE:FREQ=DAILY"]],
    ["daily since 2021", ["DTSTART:20210501T000000Z", "DTEND:20210502T000000Z", "RRULE:FREQ=DAILY"]],
    [
      "each day of the week since 1985",
      ["DTSTART;VALUE=DATE:19850101", "RRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU"],
    ],
    [
      "three hours of each day since 1990",
      ["DTSTART:19900101T110000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY;BYHOUR=11,12,13"],
    ],
    [
      "the hours of working days since 1995",
      ["DTSTART:19950102T090000Z", "DURATION:PT1H", "RRULE:FREQ=HOURLY;BYDAY=WE;BYHOUR=9,12,15"],
    ],
    [
      "each July since 1604, a month long",
      ["DTSTART;VALUE=DATE:16040701", "DTEND;VALUE=DATE:16040801", "RRULE:FREQ=YEARLY"],
    ],
    [
      "the week 29 of each year",
      ["DTSTART;VALUE=DATE:20100719", "DURATION:P7D", "RRULE:FREQ=YEARLY;BYWEEKNO=29;BYDAY=MO"],
    ],
    ["a COUNT that ends after now", ["DTSTART;VALUE=DATE:20000101", "RRULE:FREQ=DAILY;COUNT=10000"]],
    ["an UNTIL that ends after now", ["DTSTART;VALUE=DATE:20000101", "RRULE:FREQ=DAILY;UNTIL=20260715"]],
    [
      "an occurrence that began two years ago",
      ["DTSTART;VALUE=DATE:20140101", "DURATION:P1000D", "RRULE:FREQ=YEARLY;INTERVAL=5"],
    ],
  ])("%s", async (_, lines) => {
    const entries = await read([event(...lines)]);
    expect(entries.some(({ from, to }) => from <= NOW && NOW < to)).toBe(true);
  });

  test.each([
    ["a COUNT that was over", ["DTSTART;VALUE=DATE:20000101", "RRULE:FREQ=DAILY;COUNT=9000"]],
    ["an UNTIL that was over", ["DTSTART;VALUE=DATE:20000101", "RRULE:FREQ=DAILY;UNTIL=20240715"]],
  ])("but not with %s", async (_, lines) => {
    expect(await read([event(...lines)])).toEqual([]);
  });

  test("from a year ago to two years from now; what touches is one", async () => {
    const daily = "RRULE:FREQ=DAILY";
    const noons = await read([event("DTSTART:20000101T120000Z", "DURATION:PT1H", daily)]);
    expect(noons).toHaveLength(3 * 366 + 1);
    const days = await read([event("DTSTART;VALUE=DATE:20000101", daily)]);
    expect(days.map(({ from, to }) => `${show(from)} ${show(to)}`)).toEqual(["2025-07-14T00:00 2028-07-17T00:00"]);
  });
});

describe("what an event says", () => {
  const daily = "RRULE:FREQ=DAILY;UNTIL=20260703T235959Z";
  const from = "DTSTART:20260701T100000Z";
  test.each<[string, string[], string[], string?]>([
    [
      "an all-day event lasts its days by the zone of the policy",
      ["DTSTART;VALUE=DATE:20260702", "DTEND;VALUE=DATE:20260704"],
      ["2026-07-01T22:00 2026-07-03T22:00"],
      "Europe/Berlin",
    ],
    [
      "an all-day event without an end, or with its own day as its end, is a day",
      ["DTSTART;VALUE=DATE:20260701", "DTEND;VALUE=DATE:20260701"],
      ["2026-07-01T00:00 2026-07-02T00:00"],
    ],
    [
      "COUNT counts what EXDATE takes out",
      [from, "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=3", "EXDATE:20260702T100000Z"],
      ["2026-07-01T10:00 2026-07-01T11:00", "2026-07-03T10:00 2026-07-03T11:00"],
    ],
    [
      "UNTIL is part of it",
      [from, "DURATION:PT1H", "RRULE:FREQ=DAILY;UNTIL=20260702T100000Z"],
      ["2026-07-01T10:00 2026-07-01T11:00", "2026-07-02T10:00 2026-07-02T11:00"],
    ],
    [
      "UNTIL is an instant where the event has a zone",
      ["DTSTART;TZID=Asia/Tokyo:20260702T080000", "DURATION:PT1H", "RRULE:FREQ=DAILY;UNTIL=20260702T230000Z"],
      ["2026-07-01T23:00 2026-07-02T00:00", "2026-07-02T23:00 2026-07-03T00:00"],
    ],
    [
      "EXDATE in another zone, and as a whole day",
      [from, "DURATION:PT1H", daily, "EXDATE;TZID=Europe/Berlin:20260701T120000", "EXDATE;VALUE=DATE:20260703"],
      ["2026-07-02T10:00 2026-07-02T11:00"],
    ],
    [
      "RDATE adds days, in zones of its own too",
      [from, "DURATION:PT1H", "RDATE:20260705T100000Z", "RDATE;TZID=Europe/Berlin:20260706T100000"],
      ["2026-07-01T10:00 2026-07-01T11:00", "2026-07-05T10:00 2026-07-05T11:00", "2026-07-06T08:00 2026-07-06T09:00"],
    ],
    [
      "RDATE now on an event of long ago",
      ["DTSTART;VALUE=DATE:20190101", "RDATE;VALUE=DATE:20260715,20260717"],
      ["2026-07-15T00:00 2026-07-16T00:00", "2026-07-17T00:00 2026-07-18T00:00"],
    ],
    [
      "RDATE as a period",
      [from, "DURATION:PT1H", "RDATE;VALUE=PERIOD:20260705T100000Z/PT3H"],
      ["2026-07-01T10:00 2026-07-01T11:00", "2026-07-05T10:00 2026-07-05T13:00"],
    ],
    [
      "each end has its own zone",
      ["DTSTART;TZID=Europe/Berlin:20260701T100000", "DTEND;TZID=America/New_York:20260701T100000"],
      ["2026-07-01T08:00 2026-07-01T14:00"],
    ],
    [
      "an end with a zone after a start in UTC",
      ["DTSTART:20260701T100000Z", "DTEND;TZID=America/New_York:20260701T100000"],
      ["2026-07-01T10:00 2026-07-01T14:00"],
      "Asia/Tokyo",
    ],
    [
      "an end in UTC after a start with a zone",
      ["DTSTART;TZID=America/New_York:20260701T100000", "DTEND:20260701T200000Z"],
      ["2026-07-01T14:00 2026-07-01T20:00"],
    ],
    [
      "a start the rule does not hit is an occurrence as well",
      ["DTSTART;VALUE=DATE:20260701", "RRULE:FREQ=WEEKLY;BYDAY=MO;UNTIL=20260706"],
      ["2026-07-01T00:00 2026-07-02T00:00", "2026-07-06T00:00 2026-07-07T00:00"],
    ],
    [
      "the last working day of each month",
      ["DTSTART;VALUE=DATE:20100129", "RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"],
      ["2026-07-31T00:00 2026-08-01T00:00"],
    ],
  ])("%s", async (_, lines, expected, zone) => {
    expect(await july([event(...lines)], zone)).toEqual(expected);
  });

  test("by the wall clock, hours of a DURATION aside: clocks change on March 29, 2026 in Berlin", async () => {
    const from = "DTSTART;TZID=Europe/Berlin:20260327T220000";
    const nights = async (end: string) =>
      (await read([event(from, end, "RRULE:FREQ=DAILY;COUNT=3")])).map((one) => `${show(one.from)} ${show(one.to)}`);
    const [friday, saturday] = ["2026-03-27T21:00 2026-03-28T05:00", "2026-03-28T21:00 2026-03-29T04:00"];
    expect(await nights("DTEND;TZID=Europe/Berlin:20260328T060000")).toEqual([
      friday,
      saturday,
      "2026-03-29T20:00 2026-03-30T04:00",
    ]);
    expect((await nights("DURATION:PT8H"))[1]).toBe("2026-03-28T21:00 2026-03-29T05:00");
    expect(await nights("DURATION:P1D")).toEqual(["2026-03-27T21:00 2026-03-30T20:00"]);
  });

  test("zones that the file describes", async () => {
    const lines = [
      "DTSTART;TZID=W. Europe Standard Time:20260701T100000",
      "DTEND;TZID=W. Europe Standard Time:20260701T120000",
    ];
    expect(await july([zoneNamed("W. Europe Standard Time"), event(...lines)])).toEqual([
      "2026-07-01T08:00 2026-07-01T10:00",
    ]);
  });
});

describe("events that stand for one occurrence", () => {
  const series = event("DTSTART;TZID=Europe/Berlin:20260701T100000", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=2");
  test.each([
    ["in the zone of the series", "RECURRENCE-ID;TZID=Europe/Berlin:20260702T100000"],
    ["in another zone", "RECURRENCE-ID;TZID=America/New_York:20260702T040000"],
    ["in UTC", "RECURRENCE-ID:20260702T080000Z"],
  ])("named %s: moved, each of its ends in a zone of its own", async (_, id) => {
    const moved = event(id, "DTSTART;TZID=America/New_York:20260709T100000", "DTEND:20260709T200000Z");
    expect(await july([moved, series])).toEqual([
      "2026-07-01T08:00 2026-07-01T09:00",
      "2026-07-09T14:00 2026-07-09T20:00",
    ]);
  });

  test("a cancelled one takes its occurrence out; one of another series takes out nothing", async () => {
    const id = "RECURRENCE-ID:20260702T080000Z";
    const at = ["DTSTART:20260702T080000Z", "DURATION:PT1H"];
    expect(await july([series, event(id, ...at, "STATUS:CANCELLED")])).toHaveLength(1);
    expect(await july([series, event(id, ...at, "STATUS:CANCELLED").replace("UID:a", "UID:b")])).toHaveLength(2);
  });
});

test("several calendars in one file are all read", async () => {
  const text = [1, 2, 3].map((day) => calendar(event(`DTSTART;VALUE=DATE:2026070${day}`))).join("");
  expect(await readCalendar(text, "UTC", NOW)).toHaveLength(3);
});

describe("what cannot be read surely is refused, and soon", () => {
  const day = "DTSTART;VALUE=DATE:20250130";
  test.each([
    ...["YEARLY", "MONTHLY", "DAILY", "HOURLY"].map((freq) => [
      `FREQ=${freq};BYMONTH=2;BYMONTHDAY=30`,
      "has a recurrence rule that never comes",
    ]),
    ["FREQ=WEEKLY;BYDAY=MO;BYMONTH=2;BYMONTHDAY=30", "has a recurrence rule that never comes"],
    ["FREQ=WEEKLY;BYSETPOS=9;BYDAY=MO", "has a recurrence rule that never comes"],
    ["FREQ=DAILY;INTERVAL=14;BYDAY=MO", "has a recurrence rule that never comes"],
    ["FREQ=DAILY;COUNT=3;BYMONTH=2;BYMONTHDAY=30", "has a recurrence rule that never comes"],
    ["FREQ=DAILY;BYDAY=2MO", "counts weekdays (BYDAY=2MO) without a month or year to count them in"],
    ["FREQ=WEEKLY;BYDAY=-1FR", "counts weekdays (BYDAY=2MO) without a month or year to count them in"],
    ["FREQ=YEARLY;BYWEEKNO=52", "names weeks (BYWEEKNO) without their days (BYDAY)"],
    ["FREQ=SECONDLY", "recurs each second or minute, or in no way that is known"],
    ["FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30", "recurs each second or minute, or in no way that is known"],
    ["COUNT=3", "recurs each second or minute, or in no way that is known"],
    ["FREQ=HOURLY", "comes more than 5000 times from a year ago to two years from now"],
    ["FREQ=YEARLY;RSCALE=CHINESE", "has a rule with a part that is not known"],
  ])("%s", async (rule, problem) => {
    const error = await refused(event(day), event(day, `RRULE:${rule}`));
    expect(error.message).toBe(`event 2 ${problem}`);
    expect(error.hint).toBeDefined();
  });

  test.each<[string, string[], string]>([
    ["no start", ["SUMMARY:x"], "has no start"],
    ["an end before its start", ["DTSTART:20260702T000000Z", "DTEND:20260701T000000Z"], "ends before it starts"],
    ["a zone nobody knows", ["DTSTART;TZID=Mars:20260702T000000"], "names a time zone that nobody knows"],
    [
      "a COUNT from long ago",
      ["DTSTART:17000101T000000Z", "RRULE:FREQ=HOURLY;BYHOUR=3;COUNT=900000"],
      "has a COUNT that reaches too far back",
    ],
    [
      "a change of all that follow",
      [day, "RECURRENCE-ID;RANGE=THISANDFUTURE;VALUE=DATE:20260130"],
      "changes all that follow (RANGE=THISANDFUTURE)",
    ],
  ])("an event with %s", async (_, lines, problem) => {
    expect((await refused(event(...lines))).message).toBe(`event 1 ${problem}`);
  });

  test("a zone with a rule that never comes", async () => {
    const at = event("DTSTART;TZID=Elsewhere:20260702T000000", "DURATION:PT1H");
    for (const freq of ["DAILY", "WEEKLY", "HOURLY"])
      expect((await refused(zoneNamed("Elsewhere", `FREQ=${freq};BYMONTH=2;BYMONTHDAY=30`), at)).message).toContain(
        "names a time zone that nobody knows",
      );
    expect(await july([zoneNamed("Elsewhere", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), at])).toHaveLength(1);
  });

  test("more freezes than anybody looks through", async () => {
    const daily = event("DTSTART:20180101T000000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY");
    expect((await refused(...Array.from({ length: 5 }, () => daily))).message).toBe(
      "has more than 5000 freezes from a year ago to two years from now",
    );
  });

  test.each([
    ["nothing", ""],
    ["an event outside a calendar", `${event("DTSTART;VALUE=DATE:20260701")}\r\n`],
    ["a calendar that was cut off", calendar(event("DTSTART;VALUE=DATE:20260701")).slice(0, -16)],
    ["a calendar cut off within an event", calendar(event("DTSTART;VALUE=DATE:20260701")).slice(0, -32)],
  ])("a file with %s", async (_, text) => {
    await expect(readCalendar(text, "UTC", NOW)).rejects.toThrow();
  });
});
