import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, type Ended, type PolicyText, type Running } from "../support/command-line.ts";
import { Lane } from "../support/lane.ts";
import type { Call } from "../support/proxy.ts";
import { SHARED, startShared, stopShared, type Shared } from "../support/shared-state.ts";

let authority: TestAuthority;
let commands: CommandLine;
const open: Lane[] = [];
let opened = 0;

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
  await startShared();
}, 120_000);
afterAll(async () => {
  await Promise.all(open.map((lane) => lane.close()));
  await authority?.close();
  commands?.remove();
  await stopShared();
});

/** Of each backend, two at once and side by side with the others'. */
const RACES = 3;

async function laneOn({ make }: Shared, text: PolicyText = {}): Promise<Lane> {
  const lane = await Lane.open(`client-${++opened}`, authority, commands, 200);
  open.push(lane);
  const { url, env } = await make();
  Object.assign(lane.place.env, env, { STATE_URL: url });
  lane.write({ state: 'url: "${env:STATE_URL}"', ...text });
  return lane;
}

/** Holds the first call of a kind before it is forwarded. */
function hold(lane: Lane, kind: string): { readonly reached: Promise<Call>; readonly release: () => void } {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const reached = new Promise<Call>((resolve) => {
    lane.proxy.at = (call, at) => {
      if (call.kind !== kind || at !== "before") return undefined;
      resolve(call);
      return held;
    };
  });
  return { reached, release };
}

function sane({ code, stderr }: Ended, ...codes: number[]): void {
  expect(codes, stderr).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}

async function stopped({ pid }: Running): Promise<void> {
  while (readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "")[0] !== "T") await sleep(20);
}

describe.concurrent.each(SHARED.filter(({ there }) => there))("state in $name", { timeout: 90_000 }, (backend) => {
  test("of two runs started together one mints, the other exits 4 and says who is at work since when", async () => {
    for (let race = 0; race < RACES; race++) {
      const lane = await laneOn(backend, { every: "1h", minimum: "1h" });
      const { release } = hold(lane, "POST keys");
      const runs = [lane.start("rotate", "one", "--json"), lane.start("rotate", "one", "--json")];
      const loser = await Promise.race(runs.map(async (run) => ({ run, ended: await run.ended })));
      release();
      const winner = runs.find((run) => run !== loser.run) as Running;
      sane(loser.ended, 4);
      const [secret] = JSON.parse(loser.ended.stdout).secrets;
      expect(secret).toMatchObject({ outcome: "locked", reason: "locked" });
      expect(secret.message).toContain(`(${hostname()}, process ${winner.pid}) works on it since `);
      expect(Math.abs(Date.now() - Date.parse(/since (\S+)$/.exec(secret.message)?.[1] ?? ""))).toBeLessThan(60_000);
      sane(await winner.ended, 0);
      expect(lane.proxy.issued.size).toBe(1);
      expect(lane.outages).toEqual([]);
    }
  });

  test("a run that is stopped past its lease and woken does nothing wrong", async () => {
    const lane = await laneOn(backend);
    sane(await lane.run("rotate", "one", "--wait"), 0);
    lane.proxy.reset();
    const { reached, release } = hold(lane, "POST disable");
    const first = lane.start("rotate", "one", "--wait");
    await reached;
    process.kill(first.pid, "SIGSTOP");
    await stopped(first);
    await sleep(1200);
    lane.proxy.at = () => undefined;
    sane(await lane.run("run", "one", "--wait", "--lock-timeout", "20s"), 0);
    const calls = lane.proxy.calls.length;
    release();
    process.kill(first.pid, "SIGCONT");
    sane(await first.ended, 0, 1, 4);
    // What it had sent before counts as answered late; it sends nothing more.
    expect(lane.proxy.calls.slice(calls).filter(({ mutates }) => mutates)).toEqual([]);
    expect(await lane.settle()).toBeNull();
    expect(await lane.faults()).toEqual([]);
    expect(lane.proxy.issued.size).toBe(2);
  });
});
