import { describe, expect, test } from "vitest";
import type { Blackout } from "../../src/config/blackouts.ts";
import type { Schedule } from "../../src/config/model.ts";
import { dueBy, startsFrom } from "../../src/config/schedule.ts";
import { opensAt, parseWindow, type Window } from "../../src/config/window.ts";
import { version } from "../core/support.ts";
import { ISSUER, load, policyWith, refusal, STORES } from "./support.ts";

const HOUR = 3_600_000;
const at = (text: string) => Date.parse(text);
const show = (instant: number) => new Date(instant).toISOString().slice(0, 16);

function window(text: string): Window {
  const parsed = parseWindow(text);
  if (typeof parsed === "string") throw new Error(parsed);
  return parsed;
}
const opens = (text: string, from: string) => show(opensAt(window(text), at(from)));

describe("what does not go together is told where the policy is checked", () => {
  const defaults = 'defaults: { schedule: { every: 90d, spread: 7d, window: "Mon-Fri 09:00-16:00 Europe/Berlin" } }\n';
  const told = async (schedule: string, top = defaults) =>
    (await load(policyWith(`${ISSUER}\n${STORES}\nschedule: ${schedule}`, top))).warnings.map(({ message }) => message);
  const APART = /^secrets\.payments\.schedule: no time of the cron expression lies in its window, Mon-Fri/;
  const LONG = /^secrets\.payments\.schedule: its spread is as long as the time from one moment/;

  test.each([
    [
      "a weekly time that the inherited window leaves out",
      '{ cron: "30 2 * * Sat", zone: Europe/Berlin, spread: 1h }',
      [APART],
    ],
    ["every minute of an hour outside of it", '{ cron: "* 2 * * *", spread: 0s }', [APART]],
    ["seconds, too", '{ cron: "* * 2 * * *", spread: 0s }', [APART]],
    ["a weekly one with the inherited spread of a week", '{ cron: "30 10 * * Mon" }', [LONG]],
    ["a daily one with the spread of a day", '{ cron: "0 2 * * *", spread: 1d, window: "Mon 09:00-09:30" }', [LONG]],
    ["a time in the window", '{ cron: "30 9 * * Mon", zone: Europe/Berlin, spread: 1d }', []],
    ["rarely in the window: the 29th of February", '{ cron: "0 12 29 2 *", spread: 0s, window: "00:00-24:00" }', []],
    ["in the window by its spread", '{ cron: "30 2 1 * *", zone: Europe/Berlin }', []],
    ["its own window", '{ cron: "30 2 * * Sat", spread: 1h, window: "Sat 02:00-04:00" }', []],
    ["an age", "100d", []],
  ])("%s", async (_, schedule, expected) => {
    expect(await told(schedule)).toEqual(expected.map((text) => expect.stringMatching(text)));
  });

  test("an inherited spread that is longer than the age would start again and again", async () => {
    const { message } = await refusal(policyWith(`${ISSUER}\n${STORES}\nschedule: 5d`, defaults));
    expect(message).toContain("secrets.payments.schedule: the spread that it inherits is not shorter than every");
  });
});

describe("windows", () => {
  test.each([
    ["open now", "Mon-Fri 09:00-16:00 Europe/Berlin", "2026-01-07T10:00Z", "2026-01-07T10:00"],
    ["later today", "Mon-Fri 09:00-16:00 Europe/Berlin", "2026-01-07T05:00Z", "2026-01-07T08:00"],
    ["its end is not in it", "Mon-Fri 09:00-16:00 Europe/Berlin", "2026-01-07T15:00Z", "2026-01-08T08:00"],
    ["over the week-end", "Mon-Fri 09:00-16:00 Europe/Berlin", "2026-01-09T15:00Z", "2026-01-12T08:00"],
    ["summer time", "Mon-Fri 09:00-16:00 Europe/Berlin", "2026-07-08T05:00Z", "2026-07-08T07:00"],
    ["over the change to summer time", "Mon 09:00-10:00 Europe/Berlin", "2026-03-28T12:00Z", "2026-03-30T07:00"],
    [
      "an hour that is skipped comes as much later",
      "02:15-02:45 Europe/Berlin",
      "2026-03-29T00:30Z",
      "2026-03-29T01:15",
    ],
    [
      "an hour that comes twice opens at the first",
      "02:15-02:45 Europe/Berlin",
      "2026-10-24T23:00Z",
      "2026-10-25T00:15",
    ],
    ["overnight, before midnight", "Fri 22:00-04:00", "2026-01-09T23:00Z", "2026-01-09T23:00"],
    ["overnight, after midnight", "Fri 22:00-04:00", "2026-01-10T03:59Z", "2026-01-10T03:59"],
    ["overnight, over", "Fri 22:00-04:00", "2026-01-10T04:00Z", "2026-01-16T22:00"],
    ["several ranges", "09:00-10:00,14:00-15:00", "2026-01-07T11:00Z", "2026-01-07T14:00"],
    ["days in a list, over the end of the week", "Tue,Sat-Mon 00:00-24:00", "2026-01-07T11:00Z", "2026-01-10T00:00"],
    ["once a week, just missed", "Wed 09:00-10:00", "2026-01-07T10:00Z", "2026-01-14T09:00"],
    ["half-hour zones", "09:00-10:00 Asia/Kolkata", "2026-01-07T00:00Z", "2026-01-07T03:30"],
    ["a day that is shorter by an hour", "00:00-24:00 Europe/Berlin", "2026-03-29T21:59Z", "2026-03-29T21:59"],
  ])("%s", (_, text, from, expected) => expect(opens(text, from)).toBe(expected));

  test.each([
    "",
    "Mon",
    "Mon-Foo 09:00-10:00",
    "9-10",
    "09:60-10:00",
    "25:00-26:00",
    "09:00-09:00",
    "09:00-10:00 Nowhere",
    "09:00-10:00 UTC UTC",
    "09:00-10:00,",
  ])("%j is none", (text) => {
    expect(parseWindow(text)).toBeTypeOf("string");
  });
});

describe("due", () => {
  const schedule = { every: null, cron: null, zone: "UTC", window: null, spread: 0 };
  const secret = (more: Partial<Schedule> | null, blackouts: readonly Blackout[] = [], name = "payments") => ({
    name,
    schedule: more === null ? null : { ...schedule, ...more },
    blackouts,
    overlap: { minimum: 24 * HOUR, quiet: 26 * HOUR, maximum: 0, onMaximum: "block" as const, remind: 0 },
    usage: [],
  });
  const made = (createdAt: number | null, since = 0) => ({
    versions: [version("v1", "current", { createdAt, since })],
  });

  test("by the age of the current key, and at once where there is none", async () => {
    const due = await dueBy(secret({ every: 86_400_000 }));
    expect(due(made(1000), 5000)).toEqual({ at: 86_401_000, due: false, opensAt: null });
    expect(due(made(1000), 86_401_000).due).toBe(true);
    expect(due(made(null, 7000), 8000).at).toBe(86_407_000);
    expect(due({ versions: [] }, 5000)).toEqual({ at: 5000, due: true, opensAt: null });
    expect((await dueBy(secret(null)))(made(1000), 99_999_999_999)).toEqual({ at: null, due: false, opensAt: null });
  });

  test("a key that ends by itself is replaced in time for an overlap, and never before half its life", async () => {
    const due = await dueBy(secret({ every: 90 * 24 * HOUR }));
    const ending = (expiresAt: number) => ({ versions: [version("v1", "current", { createdAt: 0, expiresAt })] });
    expect(due(ending(10 * 24 * HOUR), 0)).toMatchObject({ at: 190 * HOUR, due: false, expiresAt: 240 * HOUR });
    expect(due(ending(40 * HOUR), 20 * HOUR)).toMatchObject({ at: 20 * HOUR, due: true });
    expect(due(ending(900 * 24 * HOUR), 0)).toEqual({ at: 90 * 24 * HOUR, due: false, opensAt: null });
    expect((await dueBy(secret(null)))(ending(1), 5).at).toBeNull();
  });

  test("waits for its window", async () => {
    const due = await dueBy(secret({ every: 3_600_000, window: window("Mon 09:00-10:00") }));
    const weekly = due(made(at("2026-01-06T00:00Z")), at("2026-01-07T00:00Z"));
    expect([weekly.due, show(weekly.at ?? 0), show(weekly.opensAt ?? 0)]).toEqual([
      true,
      "2026-01-06T01:00",
      "2026-01-12T09:00",
    ]);
    expect(due(made(0), at("2026-01-12T09:30Z")).opensAt).toBeNull();
  });

  test("by cron in its zone, over both changes of the clock", async () => {
    const due = await dueBy(secret({ cron: "0 3 1 * *", zone: "Europe/Berlin" }));
    const next = (last: string) => show(due(made(at(last)), 0).at ?? 0);
    expect(next("2026-01-15T00:00Z")).toBe("2026-02-01T02:00");
    expect(next("2026-03-15T00:00Z")).toBe("2026-04-01T01:00");
    expect(next("2026-10-15T00:00Z")).toBe("2026-11-01T02:00");
  });

  const cron = async (expression: string, zone: string, from: string, times: number) => {
    const due = await dueBy(secret({ cron: expression, zone }));
    const seen: string[] = [];
    for (let last = at(from); seen.length < times;) {
      last = due(made(last), 0).at ?? Infinity;
      seen.push(show(last));
    }
    return seen;
  };
  test.each([
    ["Europe/Berlin, skipped", "Europe/Berlin", "2026-03-27T12:00Z", ["28T01:30", "29T01:00", "30T00:30"]],
    ["Europe/Berlin, twice", "Europe/Berlin", "2026-10-23T12:00Z", ["24T00:30", "25T00:30", "26T01:30"]],
    ["America/New_York, skipped", "America/New_York", "2026-03-06T12:00Z", ["07T07:30", "08T07:00", "09T06:30"]],
    ["America/New_York, an hour longer", "America/New_York", "2026-10-30T12:00Z", ["31T06:30", "01T07:30", "02T07:30"]],
  ])("02:30 each night, on the night that has it %s: once", async (_, zone, from, expected) => {
    expect((await cron("30 2 * * *", zone, from, 3)).map((one) => one.slice(8))).toEqual(expected);
  });

  test("500 secrets with `spread` start all over it, each at the same moment on every machine", async () => {
    const DAY = 86_400_000;
    const starts: number[] = [];
    for (let index = 0; index < 500; index++) {
      const due = await dueBy(secret({ every: 90 * DAY, spread: 7 * DAY }, [], `secret-${index}`));
      const { at: moment } = due(made(0), 0);
      expect(moment).toBeGreaterThan(83 * DAY);
      expect(moment).toBeLessThanOrEqual(90 * DAY);
      starts.push(moment ?? 0);
    }
    const days = Array.from(
      { length: 7 },
      (_, day) => starts.filter((start) => Math.ceil(start / DAY) === 84 + day).length,
    );
    expect(days.reduce((sum, count) => sum + count)).toBe(500);
    expect(Math.min(...days)).toBeGreaterThan(40);
    expect(Math.max(...days)).toBeLessThan(110);
    const late = await dueBy(secret({ cron: "0 3 * * *", spread: 3_600_000 }));
    expect(show(late(made(at("2026-01-01T12:00Z")), 0).at ?? 0)).toMatch(/^2026-01-02T03:/);
  });

  test("blackouts and windows together: the first moment that both allow", async () => {
    const blackout = (from: string, to: string) => ({ from: at(from), to: at(to), reason: "freeze", tags: null });
    const freeze = [
      blackout("2026-01-12T00:00Z", "2026-01-14T00:00Z"),
      blackout("2026-01-13T00:00Z", "2026-01-19T00:00Z"),
    ];
    const one = secret({ every: 3_600_000, window: window("Mon 09:00-10:00") }, freeze);
    expect(show(startsFrom(one, at("2026-01-07T00:00Z")))).toBe("2026-01-19T09:00");
    expect(
      startsFrom(
        secret({ every: 1 }, [{ ...blackout("2026-01-12T00:00Z", "2026-01-14T00:00Z"), to: Infinity }]),
        at("2026-01-13T00:00Z"),
      ),
    ).toBe(Infinity);
    const due = await dueBy(one);
    expect(show(due(made(0), at("2026-01-13T00:00Z")).opensAt ?? 0)).toBe("2026-01-19T09:00");
  });
});
