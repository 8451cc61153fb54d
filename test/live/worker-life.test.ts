import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { startHole } from "../support/hole.ts";
import { startListener } from "../support/listener.ts";
import { hasPrometheus } from "../support/prometheus.ts";
import { fleetOf, hasPostgres, NONE, until, useGround } from "../support/worker-tests.ts";
import { onceIn } from "../support/workers.ts";

const hasPromtool = hasPrometheus();
const ground = useGround();

describe.runIf(hasPostgres)("a worker", () => {
  test("told to stop, it ends what it does and leaves no lease", async () => {
    const fleet = await fleetOf(8, "stopped", ground);
    fleet.policy("every: 1h");
    const worker = await fleet.start();
    await until(async () => (await fleet.jobsUnderWay()) > 0, "something has begun");
    const { code, stderr } = await fleet.end(worker, "SIGTERM");
    expect(code, stderr).toBe(0);
    expect(stderr).not.toMatch(/bug in keyturn/);
    const { document } = await ground.commands.json(fleet.place, "status");
    expect(document.secrets.filter(({ lease }: { lease: unknown }) => lease !== null)).toEqual([]);
    expect(await fleet.jobsUnderWay()).toBe(0);
    await fleet.start();
    expect(await fleet.faults(await fleet.allDone(NONE, 30_000))).toEqual([]);
  });

  test("a collector that never answers: it goes on saying that it is alive", { timeout: 90_000 }, async () => {
    const hole = await startHole();
    const fleet = await fleetOf(2, "traced", ground);
    Object.assign(fleet.place.env, { OTEL_EXPORTER_OTLP_ENDPOINT: hole.url, OTEL_EXPORTER_OTLP_TIMEOUT: "600000" });
    fleet.policy("every: 1h");
    const worker = await fleet.start();
    await fleet.allDone(NONE, 20_000);
    await until(() => hole.bodies.length > 0, "spans are on their way");
    const seen = async (): Promise<number> => {
      const [row] = await fleet.sql(
        "SELECT extract(epoch FROM seen_at)::float8 AS at FROM keyturn_queue.keyturn_workers",
      );
      return row?.["at"] as number;
    };
    const before = await seen();
    // Two leases without a word, and it was dead.
    await until(async () => (await seen()) > before + 4, "it says so");
    const { code, stderr } = await fleet.end(worker, "SIGTERM");
    expect(code, stderr).toBe(0);
  });

  test("two of them: each rotation is one trace, told of as a whole once", { timeout: 90_000 }, async () => {
    const listener = await startListener();
    const fleet = await fleetOf(6, "roots", ground);
    fleet.place.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = listener.url;
    // One turn begins it, another ends it.
    const shape = { minimum: "2s" };
    fleet.policy("every: 1h", shape);
    const workers = await Promise.all([fleet.start(), fleet.start()]);
    const first = await fleet.allDone(NONE, 30_000);
    fleet.policy(onceIn(3), shape);
    for (const { running } of workers) running.child.kill("SIGHUP");
    await fleet.allDone(first, 40_000);
    for (const worker of workers) expect((await fleet.end(worker, "SIGTERM")).code).toBe(0);
    const spans = listener.calls.flatMap(
      (call) => JSON.parse(call.slice(call.indexOf("{"))).resourceSpans[0].scopeSpans[0].spans,
    ) as { traceId: string; parentSpanId?: string }[];
    const roots = spans.filter(({ parentSpanId }) => parentSpanId === undefined).map(({ traceId }) => traceId);
    expect(roots).toHaveLength(12);
    expect(roots.toSorted()).toEqual([...new Set(spans.map(({ traceId }) => traceId))].toSorted());
  });

  test("SIGHUP: a policy that does not hold is told of, the old one stays; a better one is taken up", async () => {
    const fleet = await fleetOf(2, "reloaded", ground);
    fleet.policy("every: 1h");
    const { running, url } = await fleet.start();
    const first = await fleet.allDone(NONE, 20_000);
    fleet.policy("every: sometimes");
    running.child.kill("SIGHUP");
    await until(() => running.said().includes("goes on with the policy that it has"), "it is told");
    expect(running.said()).toMatch(/rotation\.config\.yaml:\d+:\d+: .*every/);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    // Others would take it for dead, or it them.
    fleet.policy("every: 1h", { lease: "5s" });
    running.child.kill("SIGHUP");
    await until(() => running.said().includes("another lease than this worker began with"), "it is refused");
    fleet.policy(onceIn(3));
    running.child.kill("SIGHUP");
    await until(() => running.said().includes("the policy is taken up: 2 secrets"), "it is taken up");
    expect(await fleet.faults(await fleet.allDone(first, 20_000))).toEqual([]);
  });

  test("its pages", async () => {
    const fleet = await fleetOf(2, "pages", ground);
    const listener = await startListener();
    fleet.policy("every: 1h", { more: `notifiers: { team-a: { type: webhook, url: "${listener.url}" } }\n` });
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
    expect(page).toMatch(
      /^keyturn_provider_calls_total\{port="notifier",type="webhook",operation="send",result="ok"\} /m,
    );
    expect(page).not.toContain("team-a");
    if (hasPromtool) execFileSync("promtool", ["check", "metrics"], { input: page });
    expect((await fleet.end(worker, "SIGTERM")).code).toBe(0);
  });

  test(
    "what keeps one secret from its turn has one name, in a run and in the metrics",
    { timeout: 60_000 },
    async () => {
      const fleet = await fleetOf(2, "refused", ground);
      fleet.policy("every: 1h");
      expect((await ground.commands.run(fleet.place, "run", "s2")).code).toBe(0);
      await fleet.sql(`
      CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE 'no' USING ERRCODE = '42501'; END $$ LANGUAGE plpgsql;
      CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON keyturn.keyturn_documents
        FOR EACH ROW WHEN (NEW.name = 's1') EXECUTE FUNCTION refuse()`);
      const { code, document } = await ground.commands.json(fleet.place, "run");
      const { outcome, reason } = document.secrets[0];
      expect([code, outcome]).toEqual([1, "failed"]);
      const worker = await fleet.start();
      await until(async () => {
        const runs = await fleet.metric(worker, "keyturn_runs_total");
        return runs.has(`outcome="${outcome}",reason="${reason}"`);
      }, "its turn ends in the same");
      await until(async () => {
        const outcomes = await fleet.metric(worker, "keyturn_secret_outcome");
        return outcomes.get(`secret="s1",outcome="${outcome}",reason="${reason}"`) === 1;
      }, "it stands in the same");
    },
  );

  test("a state that workers cannot share is refused", async () => {
    const fleet = await fleetOf(1, "alone", ground);
    fleet.policy("every: 1h", { state: "type: sqlite, path: .keyturn/state.db" });
    const { code, stderr } = await ground.commands.run(fleet.place, "worker");
    expect(code).toBe(2);
    expect(stderr).toContain("workers share a state in PostgreSQL");
  });
});
