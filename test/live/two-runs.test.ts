import { readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, policyText, type Ended, type Running } from "../support/command-line.ts";
import { Lane } from "../support/lane.ts";
import { stopped } from "../support/races.ts";

let authority: TestAuthority;
let commands: CommandLine;
const open: Lane[] = [];
let opened = 0;

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
});
afterAll(async () => {
  await Promise.all(open.map((lane) => lane.close()));
  await authority?.close();
  commands?.remove();
});

async function laneWithKey(): Promise<Lane> {
  const lane = await freshLane();
  expect((await lane.run("rotate", "one", "--wait")).code).toBe(0);
  lane.proxy.reset();
  return lane;
}

async function freshLane(): Promise<Lane> {
  const lane = await Lane.open(`client-${++opened}`, authority, commands, 150);
  open.push(lane);
  return lane;
}

function sane({ code, stderr }: Ended, ...codes: number[]): void {
  expect(codes, stderr).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}

async function enabledKeys(lane: Lane): Promise<string[]> {
  const keys = await authority.list(lane.client);
  return keys.filter(({ id, status }) => id !== lane.stranger && status === "enabled").map(({ id }) => id);
}

describe("two runs started together", () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])("one mints, the other exits 4 and says who is at work (%i)", async (n) => {
    const lane = n % 2 === 0 ? await laneWithKey() : await freshLane();
    const before = lane.proxy.issued.size;
    lane.write({ every: n % 2 === 0 ? "1ms" : "1h", minimum: "1h" });
    const hold = lane.hold("POST keys", "before");
    const runs = [lane.start("run", "one", "--json"), lane.start("run", "one", "--json")];
    const loser = await Promise.race(runs.map(async (run) => ({ run, ended: await run.ended })));
    hold.release();
    const winner = runs.find((run) => run !== loser.run) as Running;
    sane(loser.ended, 4);
    const [secret] = JSON.parse(loser.ended.stdout).secrets;
    expect(secret).toMatchObject({ outcome: "locked", reason: "locked" });
    expect(secret.message).toContain(`(${hostname()}, process ${winner.pid}) works on it since `);
    expect(Math.abs(Date.now() - Date.parse(/since (\S+)$/.exec(secret.message)?.[1] ?? ""))).toBeLessThan(60_000);
    sane(await winner.ended, 0);
    expect(lane.proxy.issued.size - before).toBe(1);
    expect(await enabledKeys(lane)).toHaveLength(n % 2 === 0 ? 2 : 1);
    expect(lane.outages).toEqual([]);
  });

  test("the loser may wait for the lease", async () => {
    const lane = await laneWithKey();
    const hold = lane.hold("POST keys", "before");
    const first = lane.start("rotate", "one", "--wait");
    await hold.reached;
    const second = lane.start("run", "one", "--wait", "--lock-timeout", "30s");
    await sleep(600);
    hold.release();
    sane(await first.ended, 0);
    sane(await second.ended, 0);
    expect(lane.proxy.issued.size).toBe(2);
    expect(await lane.faults()).toEqual([]);
  });
});

/** Loaded into the process: stops it as the last thing before a request is begun, or before a file is written. */
const STOPPER = `
import http from "node:http";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
const { STOP_SEND, STOP_WRITE } = process.env;
let left = 1;
const stop = () => left-- > 0 && process.kill(process.pid, "SIGSTOP");
const { request } = http;
http.request = (url, options, ...rest) => {
  if (STOP_SEND && new RegExp(STOP_SEND).test(options.method + " " + url.pathname)) stop();
  return request(url, options, ...rest);
};
const { open } = fs;
fs.open = (path, ...rest) => {
  if (STOP_WRITE && new RegExp(STOP_WRITE).test(path)) stop();
  return open(path, ...rest);
};
syncBuiltinESMExports();
`;

describe.concurrent("a run stopped past its lease, while another takes over", () => {
  const MUTATING = ["POST keys", "POST disable", "DELETE key"];

  test.each(MUTATING)("its %s had been done, and the answer comes late", async (kind) => {
    const lane = await laneWithKey();
    const hold = lane.hold(kind, "between");
    const first = lane.start("rotate", "one", "--wait");
    await hold.reached;
    process.kill(first.pid, "SIGSTOP");
    await sleep(1200);
    lane.proxy.at = () => undefined;
    sane(await lane.run("run", "one", "--wait"), 0);
    const calls = lane.proxy.calls.length;
    hold.release();
    process.kill(first.pid, "SIGCONT");
    sane(await first.ended, 0, 1, 4);
    expect(lane.proxy.calls.slice(calls).filter(({ mutates }) => mutates)).toEqual([]);
    expect(await lane.settle()).toBeNull();
    expect(await lane.faults()).toEqual([]);
  });

  test.each(MUTATING)("its %s is lost on the way", async (kind) => {
    const lane = await laneWithKey();
    lane.proxy.instead = (call) => (call.kind === kind ? "hang" : null);
    const first = lane.start("rotate", "one", "--wait");
    while (!lane.proxy.calls.some((call) => call.kind === kind)) await sleep(20);
    process.kill(first.pid, "SIGSTOP");
    lane.proxy.instead = () => null;
    await sleep(1200);
    sane(await lane.run("run", "one", "--wait"), 0);
    const calls = lane.proxy.calls.length;
    process.kill(first.pid, "SIGCONT");
    sane(await first.ended, 0, 1, 4);
    expect(lane.proxy.calls.slice(calls).filter(({ mutates }) => mutates)).toEqual([]);
    expect(await lane.settle()).toBeNull();
    expect(await lane.faults()).toEqual([]);
  });

  test.each([
    ["POST keys", "^POST .*/keys$"],
    ["POST disable", "^POST .*/disable$"],
    ["DELETE key", "^DELETE "],
  ])("it was stopped right before it sent its %s, and then does not send it", async (kind, pattern) => {
    const lane = await laneWithKey();
    const [first] = startStopping(lane, { STOP_SEND: pattern });
    await stopped(first);
    expect(lane.proxy.calls.some((call) => call.kind === kind)).toBe(false);
    await sleep(1200);
    sane(await lane.run("run", "one", "--wait"), 0);
    // A whole rotation more: what the stopped one meant to do is about keys of long ago.
    sane(await lane.run("rotate", "one", "--wait"), 0);
    const calls = lane.proxy.calls.length;
    process.kill(first.pid, "SIGCONT");
    sane(await first.ended, 0, 1, 4);
    expect(lane.proxy.calls.slice(calls).filter(({ mutates }) => mutates)).toEqual([]);
    expect(await lane.settle()).toBeNull();
    expect(await lane.faults()).toEqual([]);
  });

  test.each([
    ["the .env file", "/\\.one\\.env\\."],
    ["the pointer of the local store", "/\\.current\\."],
    ["a version of the local store", "/\\.v2-.*\\.age\\."],
  ])("it was stopped while it wrote %s, and then does not write over what is newer", async (_, pattern) => {
    const lane = await laneWithKey();
    const [first] = startStopping(lane, { STOP_WRITE: pattern });
    await stopped(first);
    await sleep(1200);
    // The stopped one keeps the lock of the file, so whoever comes next waits there for it.
    const second = lane.start("run", "one", "--wait");
    await sleep(2000);
    process.kill(first.pid, "SIGCONT");
    sane(await first.ended, 0, 1, 4);
    sane(await second.ended, 0, 1, 4);
    expect(await lane.settle()).toBeNull();
    expect(await lane.faults()).toEqual([]);
  });
});

function startStopping(lane: Lane, wishes: Readonly<Record<string, string>>): [Running] {
  const preload = lane.place.path("stopper.mjs");
  writeFileSync(preload, STOPPER);
  const env = { ...lane.place.env, ...wishes, NODE_OPTIONS: `--import=${preload}` };
  return [commands.start({ folder: lane.place.folder, env }, ["rotate", "one", "--wait"])];
}

describe.concurrent("a word said by another process while a run is busy", { timeout: 120_000 }, () => {
  test.each([
    ["POST keys", "between", 1],
    ["GET usage", "before", 2],
    ["POST disable", "between", 1],
  ] as const)("rollback at %s (%s)", async (kind, point, nth) => {
    const lane = await laneWithKey();
    // Long enough for a rollback after the disable, and short enough to be sat through.
    lane.write({ soak: "3s" });
    const [old] = await enabledKeys(lane);
    const hold = lane.hold(kind, point, nth);
    const first = lane.start("rotate", "one", "--wait");
    await hold.reached;
    const rollback = lane.start("rollback", "one");
    // Begun, or with the help of a run that could be preempted already ended.
    await lane.says(
      ({ phase, current }) => phase === "rolling-back" || (phase !== "issuing" && current?.keyId === old),
    );
    hold.release();
    sane(await first.ended, 0, 3, 4);
    sane(await rollback.ended, 0);
    const after = await lane.json("run", "one", "--wait", "--wait-max", "40s", "--quiet");
    expect([after.code, after.document.secrets[0].reason, after.document.secrets[0].phase]).toEqual([
      3,
      "rolled-back",
      "idle",
    ]);
    expect(await enabledKeys(lane)).toEqual([old]);
    expect((await authority.whoami((await lane.local()) ?? "")).body["keyId"]).toBe(old);
    expect(await lane.faults()).toEqual([]);
    sane(await lane.run("rotate", "one", "--wait"), 0);
    expect(await lane.faults()).toEqual([]);
  });

  test("a rollback tells hooks the version that is served again", async () => {
    const lane = await laneWithKey();
    const hooks = '\n    hooks: { afterDistribute: [{ run: "cat >> told; echo >> told", passValue: true }] }';
    const secret = { name: "one", client: lane.client, maxKeys: 5, more: hooks };
    lane.place.policy(policyText(lane.proxy.url, [secret], { minimum: "1h" }));
    sane(await lane.run("rotate", "one"), 0);
    sane(await lane.run("rollback", "one"), 0);
    const told = readFileSync(lane.place.path("told"), "utf8").trim().split("\n");
    const values = told.map((line) => (JSON.parse(line) as { value: { apiKey: string } }).value.apiKey);
    expect(values).toEqual([...lane.proxy.issued].toReversed());
    expect(values[1]).toBe(await lane.local());
  });

  test.each([
    ["POST keys", "between", 1],
    ["POST disable", "between", 1],
  ] as const)("emergency at %s (%s)", async (kind, point, nth) => {
    const lane = await laneWithKey();
    const hold = lane.hold(kind, point, nth);
    const first = lane.start("rotate", "one", "--wait");
    await hold.reached;
    const leaked = (await authority.list(lane.client)).map(({ id }) => id).filter((id) => id !== lane.stranger);
    const emergency = lane.start("emergency", "one", "--yes", "--grace", "0s");
    await lane.says(({ versions }) => versions.some(({ compromised }) => compromised));
    hold.release();
    sane(await first.ended, 0, 4);
    sane(await emergency.ended, 0);
    const alive = await enabledKeys(lane);
    expect(alive).toHaveLength(1);
    expect(leaked).not.toContain(alive[0]);
    sane(await lane.run("run", "one", "--wait", "--wait-max", "40s"), 0);
    expect(await lane.faults()).toEqual([]);
  });

  test("a hold before the intent wins", async () => {
    const lane = await laneWithKey();
    const hold = lane.hold("GET usage", "before", 2);
    const first = lane.start("rotate", "one", "--wait", "--wait-max", "6s", "--json");
    await hold.reached;
    sane(await lane.run("hold", "one", "--reason", "audit"), 0);
    hold.release();
    const ended = await first.ended;
    sane(ended, 0);
    expect(JSON.parse(ended.stdout).secrets[0]).toMatchObject({ outcome: "waiting", reason: "held" });
    expect(await enabledKeys(lane)).toHaveLength(2);
    sane(await lane.run("unhold", "one"), 0);
    expect(await lane.settle()).toBeNull();
    expect(await lane.faults()).toEqual([]);
  });

  test.each(["POST disable", "DELETE key"])(
    "a hold after the intent of %s is too late, and says how to go back",
    async (kind) => {
      const lane = await laneWithKey();
      lane.write({ soak: kind === "POST disable" ? "1h" : "0s" });
      const held = lane.hold(kind, "before");
      const first = lane.start("rotate", "one", "--wait", "--wait-max", "6s");
      await held.reached;
      const hold = lane.start("hold", "one", "--reason", "stop", "--json");
      await vi.waitUntil(() => hold.said().includes("waiting for the outcome"), { timeout: 15_000 });
      held.release();
      const ended = await hold.ended;
      sane(ended, 3);
      expect(JSON.parse(ended.stdout).secrets[0]).toMatchObject({ outcome: "blocked", reason: "too-late" });
      expect(ended.stderr).toContain("hint: keyturn rollback one");
      sane(await first.ended, 0);
      expect(await enabledKeys(lane)).toHaveLength(1);
      // Disabled is not deleted: the way back that the hint names is still there.
      sane(await lane.run("rollback", "one"), kind === "POST disable" ? 0 : 3);
      expect(await enabledKeys(lane)).toHaveLength(kind === "POST disable" ? 2 : 1);
    },
  );
});
