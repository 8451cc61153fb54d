import { describe, expect, test } from "vitest";
import { blackoutAt, parseMoment } from "../../src/config/blackouts.ts";
import { ISSUER, load, policyWith, refusal, STORES } from "./support.ts";

const SECRET = `${ISSUER}\n${STORES}\ntags: [prod]`;
const show = (instant: number | undefined) => new Date(instant ?? Number.NaN).toISOString().slice(0, 16);

async function spans(top: string, files: Record<string, string> = {}) {
  const { policy } = await load({ "rotation.config.yaml": policyWith(SECRET, top), ...files });
  const { blackouts } = policy.secrets.get("payments") ?? { blackouts: [] };
  return blackouts.map(({ from, to, reason }) => `${show(from)} ${show(to)} ${reason}`);
}

const calendar = (...events: string[]) =>
  ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//x//EN", ...events, "END:VCALENDAR", ""].join("\r\n");
const event = (...lines: string[]) =>
  ["BEGIN:VEVENT", "UID:1@x", "DTSTAMP:20260101T000000Z", ...lines, "END:VEVENT"].join("\r\n");
const YEAR = new Date().getUTCFullYear();

describe("blackouts", () => {
  test("days are whole, the last one too, by the clock of their zone", async () => {
    expect(
      await spans(`blackouts: [{ from: 2026-12-20, to: 2027-01-03, reason: year end, zone: Europe/Berlin }]\n`),
    ).toEqual(["2026-12-19T23:00 2027-01-03T23:00 year end"]);
  });

  test("moments, with and without an offset; by tag", async () => {
    const top = `blackouts:
  - { from: "2026-11-27T18:00", to: "2026-11-30T06:00Z", zone: America/New_York, tags: [prod, other] }
  - { from: 2026-01-01, to: 2026-01-02, tags: [other] }
`;
    expect(await spans(top)).toEqual(["2026-11-27T23:00 2026-11-30T06:00 blackout"]);
  });

  test.each([
    "2026-02-30",
    "2026-1-1",
    "tomorrow",
    "2026-01-01T25:00",
    "2026-01-01T10:61Z",
    "2026-01-01T10:00+30:00",
    "2026-01-01T10:00-24:00",
    "2026-01-01T10:00+99:99",
  ])("%s is no moment", (text) => {
    expect(parseMoment(text, "UTC", false)).toBeNull();
  });

  test("of several the longest counts, and its end is not part of it", () => {
    const one = { from: 0, to: 10, reason: "a", tags: null };
    const two = { from: 5, to: 20, reason: "b", tags: null };
    expect(blackoutAt([one, two], 7)?.reason).toBe("b");
    expect(blackoutAt([one, two], 4)?.reason).toBe("a");
    expect(blackoutAt([one, two], 20)).toBeNull();
  });

  test("a calendar: days, zones, recurrences with exceptions; cancelled and free events block nothing", async () => {
    const ics = calendar(
      event(`DTSTART;VALUE=DATE:${YEAR}1220`, `DTEND;VALUE=DATE:${YEAR}1224`, "SUMMARY:holidays"),
      event(
        `DTSTART;TZID=Europe/Berlin:${YEAR}0701T180000`,
        `DTEND;TZID=Europe/Berlin:${YEAR}0701T200000`,
        "SUMMARY:release",
      ),
      event(
        `DTSTART:${YEAR}0105T000000Z`,
        "DURATION:P1D",
        "RRULE:FREQ=MONTHLY;COUNT=4",
        `EXDATE:${YEAR}0205T000000Z`,
        "SUMMARY:closing of the books",
      ),
      event(`DTSTART:${YEAR}0801T000000Z`, `DTEND:${YEAR}0802T000000Z`, "STATUS:CANCELLED"),
      event(`DTSTART:${YEAR}0803T000000Z`, `DTEND:${YEAR}0804T000000Z`, "TRANSP:TRANSPARENT"),
    );
    expect(await spans("blackouts: [{ ics: freeze.ics }]\n", { "freeze.ics": ics })).toEqual([
      `${YEAR}-12-20T00:00 ${YEAR}-12-24T00:00 holidays`,
      `${YEAR}-07-01T16:00 ${YEAR}-07-01T18:00 release`,
      `${YEAR}-01-05T00:00 ${YEAR}-01-06T00:00 closing of the books`,
      `${YEAR}-03-05T00:00 ${YEAR}-03-06T00:00 closing of the books`,
      `${YEAR}-04-05T00:00 ${YEAR}-04-06T00:00 closing of the books`,
    ]);
  });

  test("a calendar that cannot be read surely is told by its event, with a way out", async () => {
    const days = ["DTSTART;VALUE=DATE:20250130", "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"];
    const policy = policyWith(SECRET, "blackouts: [{ ics: freeze.ics }]\n");
    const error = await refusal({ "rotation.config.yaml": policy, "freeze.ics": calendar(event(...days)) });
    expect(error.message).toContain("blackouts[0].ics: event 1 has a recurrence rule that never comes");
    expect(error.options.hints?.join()).toContain("name the days of the freeze");
    expect(error.options.exit).toBe(2);
  });

  test.each([
    ["neither dates nor a file", "{ reason: x }", "blackouts[0]: needs `from` and `to`, or `ics`"],
    [
      "both",
      "{ ics: a.ics, from: 2026-01-01 }",
      "blackouts[0]: ics stands alone: its events have their times and names",
    ],
    ["an end before its start", "{ from: 2026-02-02, to: 2026-02-01 }", "blackouts[0].to: is not after `from`"],
    [
      "a date that is none",
      "{ from: soon, to: 2026-02-01 }",
      "blackouts[0].from: is no moment: write 2026-12-20 or 2026-12-20T18:00",
    ],
    [
      "an offset that no clock has, of its start",
      '{ from: "2026-12-20T18:00+30:00", to: 2027-01-04 }',
      "blackouts[0].from: is no moment: write 2026-12-20 or 2026-12-20T18:00",
    ],
    [
      "an offset that no clock has, of its end",
      '{ from: 2026-12-20, to: "2027-01-04T08:00+24:00" }',
      "blackouts[0].to: is no moment: write 2026-12-20 or 2026-12-20T18:00",
    ],
    ["a file that is not there", "{ ics: gone.ics }", "/gone.ics is not there"],
    ["a file that is no calendar", "{ ics: rotation.config.yaml }", "blackouts[0].ics: is no calendar"],
    ["a zone that is none", "{ from: 2026-01-01, to: 2026-01-02, zone: Mars }", "blackouts[0].zone: is no time zone"],
  ])("%s", async (_, entry, message) => {
    const error = await refusal(policyWith(SECRET, `blackouts: [${entry}]\n`));
    expect(error.message).toContain(message);
    expect(error.options.exit).toBe(2);
  });

  test("blackouts that cover everything are warned of, at the secret they stop", async () => {
    const { warnings } = await load(
      policyWith(`${SECRET}\nschedule: 30d`, "blackouts: [{ from: 2020-01-01, to: 2090-01-01 }]\n"),
    );
    expect(warnings.map(({ at, message }) => `${at} ${message}`)).toEqual([
      expect.stringMatching(
        /secrets\.payments\.schedule: window and blackouts leave no moment to start in within a year/,
      ),
    ]);
  });
});

test("maxConcurrent: a number, or by issuer type; an unknown type is told", async () => {
  const of = async (top: string) => (await load(policyWith(SECRET, top))).policy.maxConcurrent;
  expect(await of("")).toEqual({ overall: 16, issuers: new Map() });
  expect(await of("maxConcurrent: 4\n")).toEqual({ overall: 4, issuers: new Map() });
  expect(await of("maxConcurrent: { overall: 8, api-keys: 2 }\n")).toEqual({
    overall: 8,
    issuers: new Map([["api-keys", 2]]),
  });
  const { message } = await refusal(policyWith(SECRET, "maxConcurrent: { api-key: 2 }\n"));
  expect(message).toMatch(/unknown key.*did you mean "api-keys"|api-keys/);
});
