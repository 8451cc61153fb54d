import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Random } from "../simulation/random.ts";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { Fleet } from "../support/fleet.ts";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { inTrouble } from "../support/trouble.ts";

const there = (await motoPython()) !== null;
const USERS = 50;

describe.runIf(there)("an emergency over fifty IAM users", () => {
  let moto: Moto;
  let commands: CommandLine;
  let fleet: Fleet;
  beforeAll(async () => {
    commands = new CommandLine();
    moto = await startMoto({ auth: true });
    fleet = await Fleet.of(USERS, moto);
  });
  afterAll(async () => {
    await fleet?.close();
    await moto?.stop();
    commands?.remove();
  });

  test("throttled and failing here and there, killed half-way, run again: every leaked key dies, none is made twice", async () => {
    sane(await commands.run(fleet.place, "rotate", "--all", "--wait"));
    const leaked = await fleet.allKeys();
    expect(leaked).toHaveLength(USERS);
    fleet.consume();
    const trouble = inTrouble(fleet.wire, new Random(20261121));

    const first = commands.start(fleet.place, ["emergency", "--tag", "prod", "--yes"]);
    await trouble.until(() => trouble.deleted.length >= USERS / 2);
    // What has been done is recorded; what is under way has begun, and never arrives.
    trouble.hold();
    await sleep(500);
    process.kill(first.pid, "SIGKILL");
    expect((await first.ended).signal).toBe("SIGKILL");
    trouble.release();
    const alive = (await fleet.allKeys()).filter((key) => leaked.includes(key));
    expect(alive.length).toBeGreaterThan(0);
    const began = Date.now();
    const named = alive.flatMap((key) => ["--key-id", key]);
    await commands.run(fleet.place, "emergency", "--tag", "prod", ...named, "--yes");
    const dead = (Date.now() - began) / 1000;
    // Disabled is dead; the next run also deletes.
    const { code, document } = await commands.json(fleet.place, "run", "--tag", "prod", "--wait", "--wait-max", "1m");
    const open = document.secrets.filter(({ outcome }: { outcome: string }) => outcome !== "done");
    expect(open.map(({ name, message }: Record<string, string>) => `${name}: ${message}`)).toEqual([]);
    expect(code).toBe(0);
    console.log(
      `${alive.length} leaked keys lived when it was killed, none ${dead.toFixed(1)} s later; ${trouble.told()}`,
    );
    for (const name of fleet.names) {
      const keys = await fleet.keys(name);
      const { id } = await fleet.served(name);
      expect([name, keys]).toEqual([name, { [id]: "Active" }]);
      expect(leaked).not.toContain(id);
    }
    expect(trouble.created).toHaveLength(USERS);
    expect(trouble.deleted.toSorted()).toEqual(leaked.toSorted());
    expect(fleet.reads).toBeGreaterThan(USERS);
    expect(fleet.refusals).toEqual([]);
  }, 240_000);
});

function sane({ code, stderr, stdout }: Ended): void {
  expect(code, stderr + stdout).toBe(0);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
