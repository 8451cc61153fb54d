import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Slots } from "../../src/commands/slots.ts";
import { bench, build, policyOf, type Bench, type Json } from "./harness.ts";

let b: Bench;
beforeAll(build);
beforeEach(async () => {
  await b?.close();
  b = await bench();
});
afterAll(() => b.close());

const only = (document: Json): Json => document.secrets[0];
const policy = (top: string, minimum = "0s") => b.policy(`${top}\n${policyOf(b.authority.url, { minimum })}`);
const TODAY = new Date().toISOString().slice(0, 10);
const FREEZE = `blackouts: [{ from: ${TODAY}, to: "2090-01-01", reason: code freeze }]`;

describe("a blackout", () => {
  test("starts nothing and revokes nothing, and says until when; an emergency goes on", async () => {
    policy("", "1h");
    await b.run("rotate", "one");
    await b.run("rotate", "one");
    policy(FREEZE);
    const frozen = { outcome: "waiting", reason: "paused", message: "paused by the policy: code freeze" };
    const run = await b.json("run", "one");
    expect([run.code, only(run.document)]).toMatchObject([0, frozen]);
    expect(only((await b.json("status", "one")).document)).toMatchObject(frozen);
    expect(Math.abs(Date.parse(only(run.document).until) - Date.parse("2090-01-02T00:00Z"))).toBeLessThan(1000);
    expect((await b.authority.list("one")).map(({ status }) => status)).toEqual(["enabled", "enabled"]);
    const two = await b.json("rotate", "two");
    expect(only(two.document)).toMatchObject({ outcome: "waiting", reason: "paused" });
    expect(await b.authority.list("two")).toEqual([]);
    const examined = (await b.json("doctor", "two")).document.doctor;
    expect(examined.at(-1)).toMatchObject({ part: "rotation", verdict: "ok", message: frozen.message });
    expect((await b.json("emergency", "one", "--grace", "0s", "--yes")).code).toBe(0);
    const [key, ...others] = await b.authority.list("one");
    expect([key?.status, others]).toEqual(["enabled", []]);
    policy("");
    expect(only((await b.json("run", "two")).document).outcome).toBe("done");
  });
});

describe("plan --until", () => {
  test("lists what starts, for people, as JSON and as a calendar; needs no provider", async () => {
    policy("");
    await b.run("rotate", "one");
    b.policy(policyOf("http://127.0.0.1:1").replace("  one:\n", "  one:\n    schedule: 10d\n"));
    const { code, document } = await b.json("plan", "one", "--until", "29d");
    expect([code, document.calendar.map(({ secret }: Json) => secret)]).toEqual([0, ["one", "one"]]);
    expect(Date.parse(document.calendar[0].at) - Date.now()).toBeGreaterThan(9.9 * 86_400_000);
    const text = await b.run("plan", "--until", "15d");
    expect(text.stdout).toMatch(/^STARTS +IN +SECRET/);
    expect(text.stdout).toMatch(/in 10 d +one/);
    const shut = new Date(Date.now() + 2 * 86_400_000).toUTCString().slice(0, 3);
    const held = `schedule: { every: 10d, window: "${shut} 09:00-16:00 UTC" }`;
    b.policy(policyOf("http://127.0.0.1:1").replace("  two:\n", `  two:\n    ${held}\n`));
    const window = `window ${shut} 09:00-16:00 UTC`;
    expect((await b.run("plan", "two", "--until", "9d")).stdout).toMatch(
      new RegExp(`^STARTS +IN +SECRET +HELD BACK BY\n.* two +${window}$`, "m"),
    );
    const told = (await b.run("plan", "two", "--until", "9d", "--format", "ics")).stdout.replaceAll("\r\n ", "");
    expect(told).toContain("X-WR-CALNAME:keyturn");
    expect(told).toContain(`DESCRIPTION:due earlier\\, held back by ${window}`);
    b.policy(policyOf("http://127.0.0.1:1").replace("  one:\n", "  one:\n    schedule: 10d\n"));
    const ics = await b.run("plan", "--until", "29d", "--format", "ics");
    expect(ics.stdout.match(/SUMMARY:keyturn: one starts to rotate/g)).toHaveLength(2);
    for (const wrong of [
      ["--until", "soon"],
      ["--format", "ics"],
      ["--until", "1d", "--format", "pdf"],
    ])
      expect((await b.run("plan", ...wrong)).code).toBe(2);
  });

  test("a list that is cut short says where", async () => {
    b.policy(policyOf("http://127.0.0.1:1", { every: "1h" }).replace("  one:\n", "  one:\n    schedule: 15m\n"));
    const whole = await b.json("plan", "--until", "10d");
    expect([whole.document.calendar.length, whole.document.truncated]).toEqual([961 + 241, []]);
    const { code, document } = await b.json("plan", "--until", "30d");
    const of = (name: string) => document.calendar.filter(({ secret }: Json) => secret === name);
    expect([code, of("one").length, of("two").length]).toEqual([0, 1000, 721]);
    const after = of("one").at(-1).at;
    expect(document.truncated).toEqual([{ secret: "one", after }]);
    const { stdout, stderr } = await b.run("plan", "--until", "30d", "--format", "ics");
    expect(stdout.match(/BEGIN:VEVENT/g)).toHaveLength(1721);
    expect(stderr).toMatch(/^keyturn: one starts more often than can be listed: nothing of it is after 20\S+Z$/m);
    expect((await b.run("plan", "--until", "10d")).stderr).not.toContain("more often");
  });
});

test("a run with nothing due reads the state once: references stay unresolved, no provider is asked", async () => {
  policy("");
  await b.run("rotate", "one");
  await b.run("run", "one");
  const text = policyOf("http://127.0.0.1:1").replaceAll("${env:ADMIN}", "${env:NOT_THERE}");
  b.policy(text);
  const { code, document } = await b.json("run", "one");
  expect([code, only(document).outcome, only(document).reason]).toEqual([0, "done", "not-due"]);
  b.policy(text.replace("  one:\n", "  one:\n    schedule: 1ms\n"));
  expect((await b.run("run", "one")).stderr).toContain("NOT_THERE is not set");
});

test("slots: never more at work than there are, and who sleeps lets others in", async () => {
  const slots = new Slots(2);
  let [working, most, asleep, mostAsleep] = [0, 0, 0, 0];
  const step = async () => {
    most = Math.max(most, ++working);
    await sleep(1);
    working--;
  };
  await Promise.all(
    Array.from({ length: 12 }, () =>
      slots.hold(async () => {
        await step();
        await slots.aside(async () => {
          mostAsleep = Math.max(mostAsleep, ++asleep);
          await sleep(40);
          asleep--;
        });
        await step();
      }),
    ),
  );
  expect([most, mostAsleep]).toEqual([2, 12]);
});
