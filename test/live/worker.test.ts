import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { fleetOf, hasPostgres, NONE, until, useGround } from "../support/worker-tests.ts";
import { onceIn, type Worker } from "../support/workers.ts";

const ground = useGround();

describe.runIf(hasPostgres)("workers", () => {
  test(
    "two of them, killed at random and PostgreSQL restarted: everything ends, minted once",
    { timeout: 120_000 },
    async () => {
      const fleet = await fleetOf(24, "killed", ground);
      fleet.policy("every: 1h");
      await Promise.all([fleet.start(), fleet.start()]);
      let kills = 0;
      const killOne = async (): Promise<void> => {
        if (kills === 4) return;
        kills += 1;
        const workers = [...fleet.workers];
        await fleet.end(workers[Math.floor(Math.random() * workers.length)] as Worker, "SIGKILL");
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
      const second = await fleet.allDone(first, 60_000, async () => {
        if ((await fleet.jobsUnderWay()) > 0) await killOne();
      });
      expect(await fleet.faults(second)).toEqual([]);
    },
  );

  test("a queue that is lost loses nothing, and a person's word comes through", async () => {
    const fleet = await fleetOf(2, "lost", ground);
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
    fleet.policy("every: 1h");
    await Promise.all([fleet.start(), fleet.start()]);
    const first = await fleet.allDone(NONE, 30_000);
    fleet.policy(onceIn(3));
    for (const { running } of fleet.workers) running.child.kill("SIGHUP");
    expect(await fleet.faults(await fleet.allDone(first, 30_000))).toEqual([]);
  });
});
