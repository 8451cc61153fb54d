import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Random } from "../simulation/random.ts";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { TwoStores } from "../support/two-stores.ts";
import type { WireCall } from "../support/wire.ts";

const there = (await motoPython()) !== null && (await baoProgram()) !== null;
const KILLS = 27;
/** The calls that change something; a probe of preflight changes nothing. */
const CHANGING =
  /^(CreateAccessKey|UpdateAccessKey|DeleteAccessKey|PutSecretValue|UpdateSecretVersionStage|POST \/v1\/secret\/data\/.*)$/;
const isChange = ({ action, param }: WireCall): boolean =>
  CHANGING.test(action) &&
  !/^AKIA0+$/.test(param("AccessKeyId") ?? "") &&
  (action !== "PutSecretValue" || param("SecretString") !== undefined) &&
  param("VersionStage") !== "keyturn/probe";

describe.runIf(there)("keys of an IAM user, in Secrets Manager and in Vault", () => {
  let moto: Moto;
  let bao: Bao;
  let commands: CommandLine;
  const open: TwoStores[] = [];
  let users = 0;
  beforeAll(async () => {
    [moto, bao] = await Promise.all([startMoto({ auth: true }), startBao()]);
    commands = new CommandLine();
  });
  afterAll(async () => {
    await Promise.all(open.map((lane) => lane.close()));
    await Promise.all([moto?.stop(), bao?.stop()]);
    commands?.remove();
  });

  const lane = async (): Promise<TwoStores> => {
    const made = await TwoStores.open(`both-${++users}`, moto, bao, commands);
    open.push(made);
    return made;
  };

  test("from a policy to a deleted old key in one rotation: nobody fails, and what is others' keeps its bytes", async () => {
    const made = await lane();
    const theirs = await made.theirs();
    made.watch();
    sane(await made.aws.run("doctor", "one"), 0);
    expect(await made.theirs()).toEqual(theirs);
    sane(await made.aws.run("rotate", "one", "--wait"), 0);
    expect(await made.theirs()).toEqual(theirs);
    const first = await made.keyInManager();
    const [before = ""] = Object.entries(await made.labels()).find(([, some]) => some.includes("AWSCURRENT")) ?? [];
    made.aws.wire.reset();

    sane(await made.aws.run("rotate", "one", "--wait"), 0);
    expect(await made.faults()).toEqual([]);
    expect(await made.theirs()).toEqual(theirs);
    expect(made.aws.mutations()).toEqual([
      "CreateAccessKey",
      `UpdateAccessKey Inactive ${first?.id}`,
      `DeleteAccessKey ${first?.id}`,
    ]);
    expect((await made.labels())[before]).toEqual(["AWSPREVIOUS"]);
    const printed = commands.printed.join("");
    for (const value of [first?.secret, (await made.keyInVault())?.secret, bao.rootToken])
      expect(printed).not.toContain(value);
  });

  const seed = Number(process.env["KEYTURN_SEED"] ?? Date.now() % 1_000_000);
  test(`after ${KILLS} SIGKILLs at calls the next run always ends the job (seed ${seed})`, async () => {
    const random = new Random(seed);
    const lanes = await Promise.all(Array.from({ length: 6 }, lane));
    const theirs = await Promise.all(lanes.map((made) => made.theirs()));
    await Promise.all(lanes.map(async (made) => sane(await made.aws.run("rotate", "one", "--wait"), 0)));
    for (const made of lanes) made.watch(200);
    const kills = new Map<string, number>();
    const wrong: string[] = [];

    /** Kills it at one of its calls: before that took effect, or after it did and before anybody was told. */
    const strike = async (made: TwoStores, args: readonly string[]): Promise<string> => {
      const onlyChanges = random.chance(0.6);
      const [n, between] = [onlyChanges ? random.between(1, 7) : random.between(8, 45), random.chance(0.5)];
      let seen = 0;
      let where = "missed";
      const running = made.aws.start(...args, "one", "--wait", "--wait-max", "20s");
      for (const wire of [made.aws.wire, made.vaultWire]) {
        const at = (call: WireCall): "hang" | null => {
          if (onlyChanges && !isChange(call)) return null;
          if (++seen !== n) return null;
          where = `${between ? "after" : "before"} ${call.action.replace(/both-\d+|v\d+-[0-9a-f]+/g, "…")}`;
          running.child.kill("SIGKILL");
          return "hang";
        };
        if (between) wire.answer = (call, answer) => at(call) ?? answer;
        else wire.instead = at;
      }
      const ended = await running.ended;
      for (const wire of [made.aws.wire, made.vaultWire]) wire.reset();
      if (ended.signal === "SIGKILL") kills.set(where, (kills.get(where) ?? 0) + 1);
      else sane(ended, 0);
      return where;
    };
    const count = (): number => [...kills.values()].reduce((sum, some) => sum + some, 0);
    const work = async (made: TwoStores): Promise<void> => {
      while (count() < KILLS && wrong.length === 0) {
        const story = [await strike(made, ["rotate"])];
        if (random.chance(0.5)) story.push(await strike(made, ["run"]));
        let stuck = "";
        for (let again = 0; again < 8; again++) {
          const { document } = await made.aws.json("run", "one", "--wait", "--wait-max", "20s");
          const [secret] = document.secrets;
          stuck = secret.outcome === "done" ? "" : `${secret.reason}: ${secret.message}`;
          if (stuck === "") break;
          await sleep(100);
        }
        const faults = stuck === "" ? await made.faults() : [stuck];
        if (faults.length === 0) continue;
        const { stdout } = await made.aws.run("history", "one", "--limit", "50");
        wrong.push(`after ${story.join(", ")}: ${faults.join("; ")}\n${stdout}`);
      }
    };
    await Promise.all(lanes.map(work));
    const table = [...kills].toSorted().map(([where, some]) => `  ${String(some).padStart(3)} ${where}`);
    console.log(`${count()} kills\n${table.join("\n")}`);
    expect(wrong).toEqual([]);
    expect(await Promise.all(lanes.map((made) => made.theirs()))).toEqual(theirs);
  }, 180_000);
});

function sane({ code, stderr, stdout }: Ended, ...codes: number[]): void {
  expect(codes, stderr + stdout).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
