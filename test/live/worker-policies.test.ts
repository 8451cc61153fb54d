import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { startProxy, type Proxy } from "../support/proxy.ts";
import { fleetOf, hasPostgres, NONE, until, useGround } from "../support/worker-tests.ts";
import { onceIn, type Worker } from "../support/workers.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/exec/", import.meta.url));
const ground = useGround();

async function proxied(): Promise<Proxy> {
  const proxy = await startProxy(() => ground.authority.url);
  onTestFinished(() => proxy.close());
  return proxy;
}

/** Holds every call that mints, and counts how many are held at once. */
function countMints(proxy: Proxy): { most: number } {
  const count = { most: 0 };
  let now = 0;
  proxy.at = async ({ kind }, point) => {
    if (kind !== "POST keys" || point === "after") return;
    now += point === "before" ? 1 : -1;
    count.most = Math.max(count.most, now);
    if (point === "before") await sleep(300);
  };
  return count;
}

describe.runIf(hasPostgres)("maxConcurrent", () => {
  test.for([
    ["overall: 3", 1, 3],
    ["overall: 6, api-keys: 2", 1, 2],
    // Of each worker.
    ["overall: 3", 2, 6],
  ] as const)("{ %s } on %i, whatever --concurrency says: %i at once", async ([most, workers, expected]) => {
    const fleet = await fleetOf(18, `most-${most.replace(/\W+/g, "-")}-${workers}`, ground);
    const proxy = await proxied();
    const count = countMints(proxy);
    fleet.policy("every: 1h", { url: proxy.url, more: `maxConcurrent: { ${most} }\n` });
    await Promise.all(Array.from({ length: workers }, () => fleet.start("--concurrency", "12")));
    await fleet.allDone(NONE, 40_000);
    expect(count.most).toBeLessThanOrEqual(expected);
    expect(count.most).toBeGreaterThan(expected / 2);
  });

  test(
    "a secret of another issuer does not queue behind those that wait for a place",
    { timeout: 90_000 },
    async () => {
      const fleet = await fleetOf(7, "narrow", ground);
      const proxy = await proxied();
      const count = countMints(proxy);
      const mint = proxy.at;
      let letGo = (): void => {};
      const held = new Promise<void>((resolve) => (letGo = resolve));
      proxy.at = async (call, point) => {
        await mint(call, point);
        if (call.kind === "POST keys" && point === "before") await held;
      };
      const crowd = fleet.names.slice(0, 6);
      const more = "maxConcurrent: { overall: 4, api-keys: 1 }\n";
      const traits =
        "{ maxKeys: 3, canDisable: true, labels: true, identify: true, usage: { granularity: 1s, lag: 1s, seesDenied: true } }";
      const other = `
  other:
    issuer:
      type: exec
      command: ["${EXAMPLES}issuer.mjs"]
      env: { ADMIN_TOKEN: "\${env:ADMIN}" }
      settings: { url: "${ground.authority.url}", client: ${fleet.client("s7")} }
      traits: ${traits}
    stores: [{ type: local }]
    usage: [{ type: issuer, granularity: 0s, lag: 0s }]
    consumers: [{ name: app, required: false }]
`;
      fleet.place.policy(fleet.text("every: 1h", { url: proxy.url, names: crowd, more }) + other);
      const worker = await fleet.start();
      await until(async () => (await fleet.done()).has("other"), "the other one has its key");
      expect([...(await fleet.done()).keys()]).toEqual(["other"]);
      const running = async (): Promise<number> =>
        [...(await fleet.metric(worker, "keyturn_secrets_running")).values()][0] ?? 0;
      await until(async () => (await running()) === 1, "whoever has no place does not count as running");
      letGo();
      await until(async () => (await fleet.done()).size === 7, "all have one", 40_000);
      expect(count.most).toBe(1);
      expect((await fleet.end(worker, "SIGTERM")).code).toBe(0);
    },
  );
});

describe.runIf(hasPostgres)("a worker told things", () => {
  test("SIGHUP: secrets that are gone rest, those that are new begin", { timeout: 90_000 }, async () => {
    const fleet = await fleetOf(3, "changed", ground);
    fleet.policy("every: 1h", { names: ["s1", "s2"] });
    const worker = await fleet.start();
    await until(async () => (await fleet.done()).size === 2, "first keys");
    const first = await fleet.done();
    fleet.policy(onceIn(3), { names: ["s2", "s3"] });
    worker.running.child.kill("SIGHUP");
    await until(async () => {
      const now = await fleet.done(first);
      return now.has("s2") && now.has("s3");
    }, "one is rotated, one is new");
    // Its wake is given back a while, in case another worker knows it.
    await fleet.sql("UPDATE keyturn_queue._private_jobs SET run_at = now() WHERE key = 's1'");
    const jobs = (): Promise<unknown[]> => fleet.sql("SELECT FROM keyturn_queue.jobs WHERE key = 's1'");
    for (const began = Date.now(); (await jobs()).length > 0; await sleep(500))
      expect(Date.now() - began).toBeLessThan(40_000);
    expect((await ground.authority.list(fleet.client("s1"))).map(({ id }) => id)).toEqual([first.get("s1")]);
    const phases = [...(await fleet.metric(worker, "keyturn_secret_phase")).keys()].join(" ");
    expect(phases).toMatch(/"s2".*"s3"/);
    expect(phases).not.toContain('"s1"');
    expect((await fleet.end(worker, "SIGTERM")).code).toBe(0);
  });

  test.for(["never", "too late"])(
    "SIGTERM while a provider answers %s: it ends within its time, and another goes on",
    { timeout: 90_000 },
    async (when) => {
      const fleet = await fleetOf(3, `slow-${when === "never" ? 1 : 2}`, ground);
      const proxy = await proxied();
      const held: (() => void)[] = [];
      if (when === "never") {
        proxy.instead = ({ kind }) => {
          if (kind !== "POST keys") return null;
          held.push(() => {});
          return "hang";
        };
      } else {
        // The key is there; nobody is told.
        proxy.at = ({ kind }, point) =>
          kind === "POST keys" && point === "between" ? new Promise<void>((resolve) => held.push(resolve)) : undefined;
      }
      fleet.policy("every: 1h", { url: proxy.url });
      const worker = await fleet.start();
      await until(() => held.length > 0, "a call hangs");
      const told = Date.now();
      const { code, stderr } = await fleet.end(worker, "SIGTERM");
      expect(code, stderr).toBe(0);
      expect(Date.now() - told).toBeLessThan(20_000);
      expect(stderr).not.toMatch(/bug in keyturn/);
      proxy.reset();
      for (const letGo of held) letGo();
      const { document } = await ground.commands.json(fleet.place, "status");
      expect(document.secrets.filter(({ lease }: { lease: unknown }) => lease !== null)).toEqual([]);
      await fleet.start();
      expect(await fleet.faults(await fleet.allDone(NONE, 40_000))).toEqual([]);
    },
  );

  test("a second SIGTERM ends it at once, and another goes on", { timeout: 90_000 }, async () => {
    const fleet = await fleetOf(3, "twice", ground);
    const proxy = await proxied();
    let isHeld = false;
    proxy.instead = ({ kind }) => {
      if (kind !== "POST keys") return null;
      isHeld = true;
      return "hang";
    };
    fleet.policy("every: 1h", { url: proxy.url });
    const worker = await fleet.start();
    await until(() => isHeld, "a call hangs");
    worker.running.child.kill("SIGTERM");
    await sleep(500);
    expect(worker.running.child.exitCode).toBeNull();
    expect((await fetch(`${worker.url}/readyz`)).status).toBe(503);
    const told = Date.now();
    const { code } = await fleet.end(worker, "SIGTERM");
    expect(code).toBe(143);
    expect(Date.now() - told).toBeLessThan(2000);
    proxy.reset();
    await fleet.start();
    expect(await fleet.faults(await fleet.allDone(NONE, 40_000))).toEqual([]);
  });
});

describe.runIf(hasPostgres)("two workers of different policies", () => {
  test("neither undoes what the other does, and what only one knows is done", { timeout: 150_000 }, async () => {
    const fleet = await fleetOf(4, "revisions", ground);
    const known = ["s1", "s2", "s3"];
    // Nobody adopted what is there: it waits for a person.
    writeFileSync(fleet.place.path("s1.env"), "API_KEY=foreign\n");
    const older = fleet.place.path("older.yaml");
    writeFileSync(older, fleet.text("every: 2h", { names: known }));
    fleet.policy("every: 1h");
    const [one, other] = await Promise.all([fleet.start(), fleet.start("--config", older)]);
    const rest = (): Promise<boolean> => fleet.done().then((done) => done.size === 3 && !done.has("s1"));
    await until(rest, "all but one have a key", 40_000);
    await until(async () => {
      const outcomes = [...(await fleet.metric(one, "keyturn_secret_outcome")).keys()];
      return outcomes.some((labels) => labels.startsWith('secret="s1",outcome="blocked"'));
    }, "one is blocked");
    await sleep(5000);
    const turns = async (): Promise<number> => {
      const counts = await Promise.all([one, other].map((worker) => fleet.metric(worker, "keyturn_runs_total")));
      return counts.flatMap((each) => [...each.values()]).reduce((sum, count) => sum + count, 0);
    };
    const writes = async (): Promise<string> =>
      JSON.stringify(await fleet.sql("SELECT key, revision, run_at FROM keyturn_queue.jobs ORDER BY key"));
    const before = [await turns(), await writes()];
    await sleep(6000);
    expect([await turns(), await writes()]).toEqual(before);

    // Due by the newer policy alone, and taken up by it however often the other is woken instead.
    const first = await fleet.done();
    fleet.policy(onceIn(4));
    one.running.child.kill("SIGHUP");
    const rotated = async (): Promise<boolean> =>
      [...(await fleet.done(first)).keys()].toSorted().join() === "s2,s3,s4";
    await until(rotated, "all are rotated", 60_000);
    for (const worker of [one, other] as Worker[]) expect((await fleet.end(worker, "SIGTERM")).code).toBe(0);
  });
});
