import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { startGate, type Gate } from "../support/gate.ts";
import { startListener } from "../support/listener.ts";
import { fleetOf, hasPostgres, NONE, until, useGround } from "../support/worker-tests.ts";
import { onceIn, type WorkerFleet } from "../support/workers.ts";

const ground = useGround();
const DAMAGED = /^keyturn: the state in \S+ is damaged: the document of "s2" cannot be read$/gm;

/** A fleet whose workers reach the server through a gate of their own. */
async function gated(size: number, prefix: string): Promise<{ fleet: WorkerFleet; gate: Gate }> {
  const fleet = await fleetOf(size, prefix, ground);
  const gate = await startGate(ground.postgres.port);
  onTestFinished(() => gate.close());
  const { database } = fleet;
  fleet.place.env["STATE_URL"] = ground.postgres.url({ database, port: gate.port, query: "sslmode=disable" });
  return { fleet, gate };
}

describe.runIf(hasPostgres)("a worker, and one document among many that cannot be read", () => {
  test("it says so at each sweep, and goes on with all the others, new ones too", { timeout: 90_000 }, async () => {
    const fleet = await fleetOf(5, "damaged", ground);
    const listener = await startListener();
    const more = `notifiers: { alive: { type: heartbeat, url: "${listener.url}/ping" } }\n`;
    const known = fleet.names.slice(0, 4);
    fleet.policy("every: 1h", { names: known, more });
    const worker = await fleet.start();
    await until(async () => (await fleet.done()).size === 4, "first keys");
    const first = await fleet.done();
    const [{ body } = {}] = await fleet.sql("SELECT body FROM keyturn.keyturn_documents WHERE name = 's2'");
    await fleet.sql("UPDATE keyturn.keyturn_documents SET body = left(body, 100) WHERE name = 's2'");
    fleet.policy(onceIn(3), { more });
    worker.running.child.kill("SIGHUP");
    const rows = async (): Promise<string[]> =>
      (
        await fleet.sql(
          "SELECT secret FROM keyturn.keyturn_audit WHERE type = 'done' GROUP BY secret, type HAVING count(*) > 1",
        )
      )
        .map(({ secret }) => secret as string)
        .toSorted();
    // The last of them has no document before.
    await until(async () => (await rows()).join() === "s1,s3,s4,s5", "the others rotate");

    const [from, lines] = [Date.now(), worker.running.said().match(DAMAGED)?.length ?? 0];
    await sleep(6000);
    const said = (worker.running.said().match(DAMAGED)?.length ?? 0) - lines;
    expect(said).toBeGreaterThanOrEqual(2);
    expect(said).toBeLessThanOrEqual((Date.now() - from) / 2000 + 1);
    const ready = await fetch(`${worker.url}/readyz`);
    expect(ready.status).toBe(200);
    expect(await ready.text()).toMatch(/^ok\nthe state in .* is damaged: the document of "s2" cannot be read\n$/);
    const outcomes = await fleet.metric(worker, "keyturn_secret_outcome");
    expect(outcomes.get('secret="s2",outcome="blocked",reason="state-damaged"')).toBe(1);
    expect([...outcomes.keys()].filter((labels) => labels.includes('"s2"'))).toHaveLength(1);
    expect([...(await fleet.metric(worker, "keyturn_secret_phase")).keys()].join()).not.toContain("s2");
    const [swept = 0] = (await fleet.metric(worker, "keyturn_last_sweep_timestamp_seconds")).values();
    expect(Date.now() / 1000 - swept).toBeLessThan(10);
    expect(listener.calls.at(-1)).toMatch(/^POST \/ping\/fail worker: .*1 blocked/);

    // One that starts now starts as well.
    const other = await fleet.start();
    expect(other.running.said().match(DAMAGED)).toHaveLength(1);
    expect((await fleet.end(other, "SIGTERM")).code).toBe(0);
    await fleet.sql(
      `UPDATE keyturn.keyturn_documents SET body = '${String(body).replaceAll("'", "''")}' WHERE name = 's2'`,
    );
    await until(async () => (await rows()).includes("s2"), "a backup put in its place goes on");
    const current = await fleet.allDone(NONE, 10_000);
    expect(first.get("s2")).not.toBe(current.get("s2"));
    expect(await fleet.faults(current)).toEqual([]);
    await until(async () => (await (await fetch(`${worker.url}/readyz`)).text()) === "ok\n", "nothing is left to say");
    const { code, stderr } = await fleet.end(worker, "SIGTERM");
    expect(code).toBe(0);
    expect(stderr).not.toMatch(/bug in keyturn/);
  });
});

describe.runIf(hasPostgres)("what a worker says of what fails", () => {
  test("each thing once: while one goes on failing, another is said as well", { timeout: 90_000 }, async () => {
    const { fleet, gate } = await gated(2, "twofold");
    fleet.policy("every: 1h");
    const { running, url } = await fleet.start();
    await fleet.allDone(NONE, 30_000);
    expect((await ground.commands.run(fleet.place, "pause", "--all", "--reason", "freeze")).code).toBe(0);
    const [{ body } = {}] = await fleet.sql("SELECT body FROM keyturn.keyturn_documents WHERE name = '@all'");
    const damage = (): Promise<unknown> =>
      fleet.sql("UPDATE keyturn.keyturn_documents SET body = left(body, 100) WHERE name = '@all'");
    const said = (words: RegExp): number => running.said().match(words)?.length ?? 0;
    const damaged = /^keyturn: the state in \S+ is damaged: /gm;
    const gone = /^keyturn: a provider failed: the state in /gm;
    await damage();
    await until(() => said(damaged) === 1, "it is said");
    // Its other works go on meanwhile, and three more sweeps fail.
    await sleep(7000);
    expect([said(damaged), said(gone)]).toEqual([1, 0]);
    await gate.set("shut");
    await until(() => said(gone) > 0, "that the server is gone is said, too");
    await sleep(3000);
    await gate.set("open");
    await until(async () => !/answer/.test(await (await fetch(`${url}/readyz`)).text()), "the server is back");
    expect([said(damaged), said(gone)]).toEqual([1, 1]);
    await fleet.sql(
      `UPDATE keyturn.keyturn_documents SET body = '${String(body).replaceAll("'", "''")}' WHERE name = '@all'`,
    );
    await until(async () => (await (await fetch(`${url}/readyz`)).text()) === "ok\n", "all is well");
    await sleep(3000);
    await damage();
    await until(() => said(damaged) === 2, "what is damaged anew is said anew");
  });
});

describe.runIf(hasPostgres)("a worker whose PostgreSQL is gone", () => {
  test.for([
    ["shut", /^keyturn: a provider failed: the state in \S+: connection refused$/gm],
    ["silent", /^keyturn: a provider failed: the state in \S+: the server does not answer in time$/gm],
  ] as const)("from the start (%s): one clear error", { timeout: 60_000 }, async ([state, words]) => {
    const { fleet, gate } = await gated(1, `start-${state}`);
    await gate.set(state);
    fleet.policy("every: 1h");
    const { code, stderr } = await ground.commands.run(fleet.place, "worker", "--listen", "127.0.0.1:0");
    expect(stderr.match(words), stderr).toHaveLength(1);
    expect(stderr.match(/^keyturn: /gm)).toHaveLength(1);
    expect(code).toBe(1);
  });

  test.for(["shut", "silent"] as const)(
    "when it is told to stop (%s): it ends within its time",
    { timeout: 90_000 },
    async (state) => {
      const { fleet, gate } = await gated(8, `stop-${state}`);
      fleet.policy("every: 1h");
      const worker = await fleet.start();
      await until(async () => (await fleet.jobsUnderWay()) > 0, "something has begun");
      await gate.set(state);
      await sleep(500);
      const told = Date.now();
      const { code, stderr } = await fleet.end(worker, "SIGTERM");
      expect(Date.now() - told).toBeLessThan(25_000);
      expect(code, stderr).toBe(0);
      expect(stderr).not.toMatch(/bug in keyturn/);
      expect(stderr.match(/^keyturn: a provider failed: the state in /gm)?.length ?? 0).toBeLessThanOrEqual(1);
      await gate.set("open");
      await fleet.start();
      expect(await fleet.faults(await fleet.allDone(NONE, 40_000))).toEqual([]);
    },
  );

  test.for(["shut", "silent"] as const)(
    "for a while (%s): it is not ready, it beats for nobody, and then it goes on where it was",
    { timeout: 120_000 },
    async (state) => {
      const { fleet, gate } = await gated(12, `while-${state}`);
      const listener = await startListener();
      const more = `notifiers: { alive: { type: heartbeat, url: "${listener.url}/ping" } }\n`;
      fleet.policy("every: 1h", { more });
      const worker = await fleet.start();
      const first = await fleet.allDone(NONE, 30_000);
      const well = /^POST \/ping worker: 12 done$/;
      await until(() => well.test(listener.calls.at(-1) ?? ""), "it beats");
      fleet.policy(onceIn(3), { more });
      worker.running.child.kill("SIGHUP");
      await until(async () => (await fleet.jobsUnderWay()) > 0, "rotations have begun");
      await gate.set(state);
      await until(async () => (await fetch(`${worker.url}/readyz`)).status === 503, "it is not ready");
      expect((await fetch(`${worker.url}/healthz`)).status).toBe(200);
      await sleep(2000);
      const beats = listener.calls.length;
      await sleep(8000);
      expect(listener.calls.length).toBe(beats);
      await gate.set("open");
      await until(async () => (await fetch(`${worker.url}/readyz`)).status === 200, "it is ready again");
      expect(await fleet.faults(await fleet.allDone(first, 60_000))).toEqual([]);
      await until(() => well.test(listener.calls.at(-1) ?? ""), "it beats again");
      const { code, stderr } = await fleet.end(worker, "SIGTERM");
      expect(code).toBe(0);
      expect(stderr).not.toMatch(/bug in keyturn/);
      const complaints = stderr.match(/^keyturn: a provider failed: the state in .*$/gm) ?? [];
      expect(complaints.length, complaints.join("\n")).toBeLessThanOrEqual(2);
    },
  );
});
