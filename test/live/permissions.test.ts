import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { TwoStores } from "../support/two-stores.ts";

const there = (await motoPython()) !== null && (await baoProgram()) !== null;
const IAM = ["GetUser", "ListAccessKeys", "CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey"];
const MANAGER = ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"];
const ACTIONS = [
  ...[...IAM, "GetAccessKeyLastUsed"].map((action) => `iam:${action}`),
  ...MANAGER.map((action) => `secretsmanager:${action}`),
];
/** Nobody can ask for these without doing it: moto has no policy simulation, and where AWS has none either, this is what happens. */
const CANNOT_TELL = ["iam:CreateAccessKey"];

/** What is asked before preflight is: refused there, it is told as a failure. */
const ASKED_FIRST = ["iam:ListAccessKeys", "secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"];

/** What changes anything at AWS or in Vault. */
const CHANGING =
  /^(CreateAccessKey|(Update|Delete)AccessKey|PutSecretValue|UpdateSecretVersionStage|(POST|PUT|PATCH|DELETE) \/v1\/secret\/.*)$/;

describe.runIf(there).concurrent("what `keyturn permissions` prints", { timeout: 90_000 }, () => {
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

  /** A rotated key in both stores, and what keyturn says that it needs. */
  const lane = async (only?: "in Vault") => {
    const made = await TwoStores.open(`least-${++users}`, moto, bao, commands);
    open.push(made);
    if (only !== undefined) {
      const timing = "{ propagation: 0s, settle: 0s }";
      made.policy({ stores: `[{ type: vault-kv, path: ${made.path}, staging: ${made.staging}, timing: ${timing} }]` });
    }
    sane(await made.aws.run("rotate", "one", "--wait"));
    const iam = JSON.parse((await made.aws.run("permissions", "--format", "iam")).stdout) as {
      Statement: { Action: string[] }[];
    };
    const vault = (await made.aws.run("permissions", "--format", "vault")).stdout;
    made.aws.wire.reset();
    made.vaultWire.reset();
    return { made, actions: iam.Statement.flatMap(({ Action }) => Action), vault };
  };
  /** From now on keyturn may do this, and no more. */
  const confine = async (made: TwoStores, actions: readonly string[], vault: string): Promise<void> => {
    await made.aws.runAs(`runner-${made.aws.user}`, actions);
    made.aws.place.env["VAULT_TOKEN"] = await bao.tokenFor(vault);
  };
  const changes = (made: TwoStores): string[] =>
    [...made.aws.wire.calls, ...made.vaultWire.calls]
      .filter(
        ({ action, param }) =>
          CHANGING.test(action) &&
          !/^AKIA0+$/.test(param("AccessKeyId") ?? "") &&
          !(action === "PutSecretValue" && param("SecretString") === undefined) &&
          param("VersionStage") !== "keyturn/probe",
      )
      .map(({ action }) => action);

  test("is enough for a whole rotation, and for a way back", async () => {
    const { made, actions, vault } = await lane();
    expect(actions.toSorted()).toEqual(ACTIONS.toSorted());
    await confine(made, actions, vault);
    made.watch();
    const doctor = await made.aws.run("doctor", "one");
    sane(doctor);
    sane(await made.aws.run("rotate", "one", "--wait"));
    expect(await made.faults()).toEqual([]);
    made.policy({ minimum: "1h", soak: "1h" });
    sane(await made.aws.run("rotate", "one"));
    sane(await made.aws.run("rollback", "one"));
    made.policy();
    await made.aws.run("run", "one", "--wait");
    expect(await made.faults()).toEqual([]);
  });

  test.each(ACTIONS.filter((action) => !CANNOT_TELL.includes(action)))(
    "without %s: doctor and preflight name it, and nothing is changed",
    async (missing) => {
      const { made, actions, vault } = await lane();
      await confine(
        made,
        actions.filter((action) => action !== missing),
        vault,
      );
      const doctor = await made.aws.json("doctor", "one");
      const blocks = doctor.document.doctor.filter(({ verdict }: { verdict: string }) => verdict === "blocks");
      expect([doctor.code, blocks.map(({ message }: { message: string }) => message).join("\n")]).toEqual([
        3,
        expect.stringContaining(missing),
      ]);
      const { code, document } = await made.aws.json("rotate", "one", "--wait");
      expect(document.secrets[0].message).toContain(missing);
      expect(ASKED_FIRST.includes(missing) ? [1, 3] : [3]).toContain(code);
      expect(changes(made)).toEqual([]);
    },
  );

  test.each(CANNOT_TELL)(
    "without %s: doctor says that it cannot tell; it is refused, and nothing was changed",
    async (missing) => {
      const { made, actions, vault } = await lane();
      await confine(
        made,
        actions.filter((action) => action !== missing),
        vault,
      );
      const before = await made.aws.keys();
      const doctor = await made.aws.run("doctor", "one");
      sane(doctor);
      expect(doctor.stdout).toMatch(new RegExp(`warning .*cannot tell whether .*${missing}`));
      const { code, document } = await made.aws.json("rotate", "one", "--wait");
      expect([code, document.secrets[0].reason]).toEqual([1, "issuer-denied"]);
      expect(document.secrets[0].message).toContain(missing);
      expect(await made.aws.keys()).toEqual(before);
      expect(changes(made)).toEqual(["CreateAccessKey"]);
    },
  );

  test("without any one line of Vault's: doctor and preflight name that line, and nothing is changed", async () => {
    const { made, actions, vault } = await lane("in Vault");
    const theirs = await made.theirs();
    const lines = vault.match(/^path [^}]*\}\n/gm) ?? [];
    expect(lines).toHaveLength(4);
    await made.aws.runAs(`runner-${made.aws.user}`, actions);
    for (const line of lines) {
      const path = /"([^"]+)"/.exec(line)?.[1] ?? "";
      made.aws.place.env["VAULT_TOKEN"] = await bao.tokenFor(vault.replace(line, ""));
      const doctor = await made.aws.json("doctor", "one");
      expect([doctor.code, JSON.stringify(doctor.document.doctor)]).toEqual([3, expect.stringContaining(path)]);
      const { code, document } = await made.aws.json("rotate", "one", "--wait");
      expect(document.secrets[0].message).toContain(path.replace(/\*$/, ""));
      expect([1, 3]).toContain(code);
      expect(changes(made)).toEqual([]);
    }
    made.aws.place.env["VAULT_TOKEN"] = await bao.tokenFor(vault);
    sane(await made.aws.run("rotate", "one", "--wait"));
    expect(Object.keys(await made.aws.keys())).toEqual([(await made.keyInVault())?.id]);
    expect(await made.theirs()).toEqual(theirs);
  });
});

function sane({ code, stderr, stdout }: Ended): void {
  expect(code, stderr + stdout).toBe(0);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
