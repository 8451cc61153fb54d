import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { Random } from "../simulation/random.ts";
import { startProxy, type Proxy } from "../support/proxy.ts";
import { fleetOf, hasPostgres, NONE, until, useGround } from "../support/worker-tests.ts";
import { onceIn, type Worker } from "../support/workers.ts";

const seed = Number(process.env["KEYTURN_SEED"] ?? Date.now() % 1_000_000);
const ground = useGround();

async function proxied(): Promise<Proxy> {
  const proxy = await startProxy(() => ground.authority.url);
  onTestFinished(() => proxy.close());
  return proxy;
}

describe.runIf(hasPostgres)("workers", () => {
  test(
    `two of them, killed at random (seed ${seed}) and PostgreSQL restarted: everything ends, with one living key each`,
    { timeout: 120_000 },
    async () => {
      const fleet = await fleetOf(24, "killed", ground);
      fleet.policy("every: 1h");
      await Promise.all([fleet.start(), fleet.start()]);
      const random = new Random(seed);
      let kills = 0;
      const killOne = async (): Promise<void> => {
        if (kills === 4) return;
        kills += 1;
        const [one, other] = [...fleet.workers] as [Worker, Worker];
        await fleet.end(random.pick([one, other]), "SIGKILL");
        if (kills === 2) await ground.postgres.restart();
        await fleet.start();
      };
      const first = await fleet.allDone(NONE, 60_000, killOne);
      expect(kills).toBeGreaterThan(0);
      expect(await fleet.faults(first)).toEqual([]);
      // All of them due at once, of a policy that running workers take up.
      fleet.policy(onceIn(5));
      for (const { running } of fleet.workers) running.child.kill("SIGHUP");
      kills = 0;
      await until(async () => (await fleet.jobsUnderWay()) > 0, "the second round has begun");
      await killOne();
      const second = await fleet.allDone(first, 60_000, async () => {
        if ((await fleet.jobsUnderWay()) > 0) await killOne();
      });
      expect(await fleet.faults(second)).toEqual([]);
    },
  );

  test("a queue that is lost loses nothing, and a person's word comes through", async () => {
    const fleet = await fleetOf(2, "lost", ground);
    const proxy = await proxied();
    const { url } = proxy;
    fleet.policy("every: 1h", { url });
    await fleet.start();
    const first = await fleet.allDone(NONE, 20_000);
    fleet.policy(onceIn(4), { url });
    for (const { running } of fleet.workers) running.child.kill("SIGHUP");
    await sleep(1000);
    await fleet.sql("TRUNCATE keyturn_queue._private_jobs");
    const second = await fleet.allDone(first, 20_000);
    expect(await fleet.faults(second)).toEqual([]);
    // Nobody was killed: each rotation has minted once.
    expect(proxy.issued.size).toBe(4);
    // A run stopped at once only says the word.
    const told = ground.commands.start(fleet.place, ["emergency", "s1", "--grace", "0s", "--yes"]);
    await until(async () => {
      const { document } = await ground.commands.json(fleet.place, "status", "s1");
      return document.secrets[0].versions.some(({ compromised }: { compromised: boolean }) => compromised);
    }, "the word is committed");
    told.child.kill("SIGKILL");
    await until(async () => (await fleet.done(second)).has("s1"), "the leaked key is replaced");
  });

  test("behind PgBouncer in transaction mode it polls", async () => {
    const fleet = await fleetOf(2, "pooled", ground);
    const port = await ground.postgres.bouncer();
    fleet.place.env["STATE_URL"] = ground.postgres.url({ database: fleet.database, port, query: "sslmode=disable" });
    const proxy = await proxied();
    const { url } = proxy;
    fleet.policy("every: 1h", { url });
    await Promise.all([fleet.start(), fleet.start()]);
    const first = await fleet.allDone(NONE, 30_000);
    fleet.policy(onceIn(3), { url });
    for (const { running } of fleet.workers) running.child.kill("SIGHUP");
    expect(await fleet.faults(await fleet.allDone(first, 30_000))).toEqual([]);
    expect(proxy.issued.size).toBe(4);
  });
});
