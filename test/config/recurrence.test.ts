import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readRule } from "../../src/config/calendar-rule.ts";
import { DAY, occurrences, type Rule } from "../../src/config/recurrence.ts";

const START = Date.UTC(1997, 8, 2, 9);

/** As the parser of calendars leaves it. */
function rule(text: string, start = START): Rule {
  const parts = text.split(";").map((part) => {
    const [name = "", value = ""] = part.split("=");
    if (name === "WKST") return ["wkst", ["SU", "MO", "TU", "WE", "TH", "FR", "SA"].indexOf(value) + 1];
    const values = value.split(",").map((one) => (/^[+-]?\d+$/.test(one) ? Number(one) : one));
    return [name.toLowerCase(), values.length === 1 ? values[0] : values];
  });
  return readRule(Object.fromEntries(parts), start);
}
const days = (text: string, start = START, years = 5) =>
  (occurrences(rule(text, start), start, start, start + years * 366 * DAY) ?? []).map((wall) =>
    new Date(wall).toISOString().slice(2, 10).replaceAll("-", ""),
  );

describe("the examples of RFC 5545, 3.8.5.3", () => {
  test.each([
    ["FREQ=DAILY;INTERVAL=10;COUNT=5", "970902 970912 970922 971002 971012"],
    ["FREQ=WEEKLY;INTERVAL=2;WKST=SU;COUNT=8;BYDAY=TU,TH", "970902 970904 970916 970918 970930 971002 971014 971016"],
    ["FREQ=MONTHLY;COUNT=4;BYDAY=1FR", "970905 971003 971107 971205"],
    ["FREQ=MONTHLY;INTERVAL=2;COUNT=6;BYDAY=1SU,-1SU", "970907 970928 971102 971130 980104 980125"],
    ["FREQ=MONTHLY;COUNT=4;BYDAY=-2MO", "970922 971020 971117 971222"],
    ["FREQ=MONTHLY;COUNT=4;BYMONTHDAY=-3", "970928 971029 971128 971229"],
    ["FREQ=MONTHLY;COUNT=6;BYMONTHDAY=1,-1", "970930 971001 971031 971101 971130 971201"],
    ["FREQ=YEARLY;COUNT=4;BYMONTH=6,7", "980602 980702 990602 990702"],
    ["FREQ=YEARLY;INTERVAL=3;COUNT=3;BYYEARDAY=1,100,200", "000101 000409 000718"],
    ["FREQ=YEARLY;COUNT=3;BYDAY=20MO", "980518 990517 000515"],
    ["FREQ=YEARLY;COUNT=3;BYWEEKNO=20;BYDAY=MO", "980511 990517 000515"],
    ["FREQ=MONTHLY;COUNT=4;BYDAY=FR;BYMONTHDAY=13", "980213 980313 981113 990813"],
    ["FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8;COUNT=2", "971104 011106"],
    ["FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "970904 971007 971106"],
    ["FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2;COUNT=4", "970929 971030 971127 971230"],
    ["FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;COUNT=1", "000229"],
  ])("%s", (text, expected) => {
    expect(days(text).join(" ")).toBe(expected);
  });

  test("a week begins where WKST says", () => {
    const start = Date.UTC(1997, 7, 5, 9);
    const fortnightly = "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=";
    expect(days(`${fortnightly}MO`, start).join(" ")).toBe("970805 970810 970819 970824");
    expect(days(`${fortnightly}SU`, start).join(" ")).toBe("970805 970817 970819 970831");
  });

  test("hours, in order however they are written", () => {
    const found = occurrences(rule("FREQ=DAILY;BYHOUR=16,9;COUNT=3"), START, START, START + 9 * DAY) ?? [];
    expect(found.map((wall) => (wall - START) / 3_600_000)).toEqual([0, 7, 24]);
  });
});

test("what is read from later on is what reading from the start finds there", () => {
  const some = (values: readonly (string | number)[]) =>
    fc.subarray([...values], { minLength: 1, maxLength: 3 }).map((chosen) => chosen.join(","));
  const part = (name: string, values: readonly (string | number)[]) =>
    fc.option(some(values)).map((text) => (text === null ? "" : `;${name}=${text}`));
  const rules = fc
    .tuple(
      fc.constantFrom("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"),
      fc.integer({ min: 1, max: 5 }),
      part("BYMONTH", [1, 2, 6, 11]),
      part("BYMONTHDAY", [1, 13, 29, 31, -1]),
      part("BYDAY", ["MO", "WE", "SU"]),
      part("BYHOUR", [0, 9, 23]),
    )
    .map(([frequency, interval, ...parts]) => `FREQ=${frequency};INTERVAL=${interval}${parts.join("")}`);
  fc.assert(
    fc.property(rules, fc.integer({ min: 0, max: 600 }), (text, after) => {
      let read: Rule;
      try {
        read = rule(text);
      } catch {
        return; // never comes
      }
      const [from, to] = [START + after * DAY, START + 700 * DAY];
      const whole = occurrences(read, START, START, to) ?? [];
      expect(occurrences(read, START, from, to)).toEqual(whole.filter((wall) => wall >= from));
    }),
    { numRuns: 150 },
  );
});
