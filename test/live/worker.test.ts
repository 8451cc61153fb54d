import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine } from "../support/command-line.ts";
import { postgresPrograms, startPostgres, type Postgres } from "../support/postgres.ts";
import { hasPrometheus } from "../support/prometheus.ts";
import { onceIn, WorkerFleet, type Worker } from "../support/workers.ts";

const hasPostgres = postgresPrograms() !== null;
const hasPromtool = hasPrometheus();
const NONE: ReadonlyMap<string, string> = new Map();

let authority: TestAuthority;
let commands: CommandLine;
let postgres: Postgres;

beforeAll(async () => {
  if (!hasPostgres) return;
  authority = await startTestAuthority();
  commands = new CommandLine();
  postgres = await startPostgres();
}, 120_000);
afterAll(async () => {
  commands?.remove();
  await authority?.close();
  await postgres?.stop();
});

async function fleetOf(size: number, prefix: string): Promise<WorkerFleet> {
  const fleet = await WorkerFleet.of(size, prefix, authority, commands, postgres);
  // Its workers hold connections, of which the server has forty.
  onTestFinished(() => fleet.close());
  return fleet;
}

async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const began = Date.now(); !(await holds()); await sleep(50))
    if (Date.now() - began > 20_000) throw new Error(`not within 20 s: ${what}`);
}

describe.runIf(hasPostgres)("workers", () => {
  test(
    "two of them, killed at random and PostgreSQL restarted: everything ends, minted once",
    { timeout: 120_000 },
    async () => {
      const fleet = await fleetOf(24, "killed");
      fleet.policy("every: 1h");
      await Promise.all([fleet.start(), fleet.start()]);
      let kills = 0;
      const killOne = async (): Promise<void> => {
        if (kills === 4) return;
        kills += 1;
        const workers = [...fleet.workers];
        await fleet.end(workers[Math.floor(Math.random() * workers.length)] as Worker, "SIGKILL");
        if (kills === 2) await postgres.restart();
        await fleet.start();
      };
      const first = await fleet.allDone(NONE, 60_000, killOne);
      expect(kills).toBeGreaterThan(0);
      expect(await fleet.faults(first)).toEqual([]);
      // All of them due at once, of a policy that running workers take up.
      fleet.policy(onceIn(5));
      for (const { running } of fleet.workers) running.child.kill("SIGHUP");
      kills = 0;
      const second = await fleet.allDone(first, 60_000, async () => {
        if ((await fleet.jobsUnderWay()) > 0) await killOne();
      });
      expect(await fleet.faults(second)).toEqual([]);
    },
  );

  test("told to stop, it ends what it does and leaves no lease", async () => {
    const fleet = await fleetOf(8, "stopped");
    fleet.policy("every: 1h");
    const worker = await fleet.start();
    await until(async () => (await fleet.jobsUnderWay()) > 0, "something has begun");
    const { code, stderr } = await fleet.end(worker, "SIGTERM");
    expect(code, stderr).toBe(0);
    expect(stderr).not.toMatch(/bug in keyturn/);
    const { document } = await commands.json(fleet.place, "status");
    expect(document.secrets.filter(({ lease }: { lease: unknown }) => lease !== null)).toEqual([]);
    expect(await fleet.jobsUnderWay()).toBe(0);
    await fleet.start();
    expect(await fleet.faults(await fleet.allDone(NONE, 30_000))).toEqual([]);
  });

  test("SIGHUP: a policy that does not hold is told of, the old one stays; a better one is taken up", async () => {
    const fleet = await fleetOf(2, "reloaded");
    fleet.policy("every: 1h");
    const { running, url } = await fleet.start();
    const first = await fleet.allDone(NONE, 20_000);
    fleet.policy("every: sometimes");
    running.child.kill("SIGHUP");
    await until(() => running.said().includes("goes on with the policy that it has"), "it is told");
    expect(running.said()).toMatch(/rotation\.config\.yaml:\d+:\d+: .*every/);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    fleet.policy(onceIn(3));
    running.child.kill("SIGHUP");
    await until(() => running.said().includes("the policy is taken up: 2 secrets"), "it is taken up");
    expect(await fleet.faults(await fleet.allDone(first, 20_000))).toEqual([]);
  });

  test("a queue that is lost loses nothing, and a person's word comes through", async () => {
    const fleet = await fleetOf(2, "lost");
    fleet.policy("every: 1h");
    await fleet.start();
    const first = await fleet.allDone(NONE, 20_000);
    fleet.policy(onceIn(4));
    for (const { running } of fleet.workers) running.child.kill("SIGHUP");
    await sleep(1000);
    await fleet.sql("TRUNCATE keyturn_queue._private_jobs");
    const second = await fleet.allDone(first, 20_000);
    expect(await fleet.faults(second)).toEqual([]);
    // A run stopped at once only says the word.
    const told = commands.start(fleet.place, ["emergency", "s1", "--grace", "0s", "--yes"]);
    await until(async () => {
      const { document } = await commands.json(fleet.place, "status", "s1");
      return document.secrets[0].versions.some(({ compromised }: { compromised: boolean }) => compromised);
    }, "the word is committed");
    told.child.kill("SIGKILL");
    await until(async () => (await fleet.done(second)).has("s1"), "the leaked key is replaced");
  });

  test("its pages", async () => {
    const fleet = await fleetOf(2, "pages");
    fleet.policy("every: 1h");
    const worker = await fleet.start();
    await fleet.allDone(NONE, 20_000);
    await sleep(2500);
    expect(await (await fetch(`${worker.url}/healthz`)).text()).toBe("ok\n");
    expect((await fetch(`${worker.url}/readyz`)).status).toBe(200);
    expect((await fetch(`${worker.url}/`)).status).toBe(404);
    const page = await (await fetch(`${worker.url}/metrics`)).text();
    expect(page).toMatch(/^keyturn_rotations_total\{secret="s1",outcome="done"\} 1$/m);
    expect(page).toMatch(/^keyturn_secret_phase\{secret="s2",phase="idle"\} 1$/m);
    expect(page).toMatch(
      /^keyturn_provider_calls_total\{port="issuer",type="api-keys",operation="issue",result="ok"\} 2$/m,
    );
    if (hasPromtool) execFileSync("promtool", ["check", "metrics"], { input: page });
    expect((await fleet.end(worker, "SIGTERM")).code).toBe(0);
  });

  test("a state that workers cannot share is refused", async () => {
    const fleet = await fleetOf(1, "alone");
    fleet.policy("every: 1h", { state: "type: sqlite, path: .keyturn/state.db" });
    const { code, stderr } = await commands.run(fleet.place, "worker");
    expect(code).toBe(2);
    expect(stderr).toContain("workers share a state in PostgreSQL");
  });
});
