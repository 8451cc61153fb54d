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

/** What changes anything at AWS or in Vault. */
const CHANGING =
  /^(CreateAccessKey|(Update|Delete)AccessKey|PutSecretValue|UpdateSecretVersionStage|(POST|PUT|PATCH|DELETE) \/v1\/secret\/.*)$/;

describe.runIf(there).concurrent("what `keyturn permissions` prints", { timeout: 180_000 }, () => {
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
  const lane = async (only?: "in Vault", begin = rotated) => {
    const made = await TwoStores.open(`least-${++users}`, moto, bao, commands);
    open.push(made);
    adjust(made, only, {});
    await begin(made);
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

  /** Rotates until the old key is no more than that, and goes back: then it is the only one again. */
  const thereAndBack = async (made: TwoStores, phase: "overlap" | "soaking", only?: "in Vault"): Promise<void> => {
    const first = (await made.keyInVault())?.id ?? "";
    adjust(made, only, phase === "overlap" ? { minimum: "1h" } : { soak: "1h" });
    sane(await made.aws.run("rotate", "one"));
    for (let runs = 0; (await secretOf(made)).phase !== phase && runs < 20; runs++)
      sane(await made.aws.run("run", "one", "--wait", "--wait-max", "2s"));
    const second = (await made.keyInVault())?.id ?? "";
    const old = phase === "overlap" ? "Active" : "Inactive";
    expect(await made.aws.keys()).toEqual({ [first]: old, [second]: "Active" });
    sane(await made.aws.run("rollback", "one"));
    adjust(made, only, {});
    const back = await made.aws.json("run", "one", "--wait");
    const { phase: end, reason, debt } = back.document.secrets[0];
    expect([back.code, end, reason, debt], back.stderr).toEqual([3, "idle", "rolled-back", []]);
    expect(await made.aws.keys()).toEqual({ [first]: "Active" });
    const served = [await made.keyInVault(), ...(only === undefined ? [await made.keyInManager()] : [])];
    expect(served.map((key) => key?.id)).toEqual(served.map(() => first));
    expect(made.aws.outages).toEqual([]);
  };

  test.each([["Secrets Manager and Vault", undefined] as const, ["Vault alone", "in Vault"] as const])(
    "for keys in %s is enough for a whole rotation, and for the way back from wherever there is one",
    async (_, only) => {
      const { made, actions, vault } = await lane(only);
      const needed = only === undefined ? ACTIONS : ACTIONS.filter((action) => action.startsWith("iam:"));
      expect(actions.toSorted()).toEqual(needed.toSorted());
      await confine(made, actions, vault);
      made.watch();
      sane(await made.aws.run("doctor", "one"));
      sane(await made.aws.run("rotate", "one", "--wait"));
      expect(await made.aws.keys()).toEqual({ [(await made.keyInVault())?.id ?? ""]: "Active" });
      await thereAndBack(made, "overlap", only);
      await thereAndBack(made, "soaking", only);
    },
  );

  test("for keys in Vault alone is enough to adopt one, and for the way back to it", async () => {
    const { made, actions, vault } = await lane("in Vault", async (lane) => {
      const { id: accessKeyId, secret: secretAccessKey } = await lane.aws.makeKey();
      await lane.writeVault({ accessKeyId, secretAccessKey });
    });
    await confine(made, actions, vault);
    made.watch();
    sane(await made.aws.run("adopt", "one", "--yes"));
    await thereAndBack(made, "overlap", "in Vault");
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
      const [{ reason, message }] = document.secrets;
      expect([code, reason, message]).toEqual([3, "permission-missing", expect.stringContaining(missing)]);
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
      const [{ reason, message }] = document.secrets;
      expect([code, reason, message]).toEqual([3, "permission-missing", expect.stringContaining(path)]);
      expect(changes(made)).toEqual([]);
    }
    made.aws.place.env["VAULT_TOKEN"] = await bao.tokenFor(vault);
    sane(await made.aws.run("rotate", "one", "--wait"));
    expect(Object.keys(await made.aws.keys())).toEqual([(await made.keyInVault())?.id]);
    expect(await made.theirs()).toEqual(theirs);
  });
});

async function rotated({ aws }: TwoStores): Promise<void> {
  sane(await aws.run("rotate", "one", "--wait"));
}

async function secretOf({ aws }: TwoStores): Promise<{ readonly phase: string }> {
  return (await aws.json("status", "one")).document.secrets[0];
}

/** The policy of a lane, with other waits. */
function adjust(made: TwoStores, only: "in Vault" | undefined, waits: { minimum?: string; soak?: string }): void {
  const timing = "{ propagation: 0s, settle: 0s }";
  const inVault = `[{ type: vault-kv, path: ${made.path}, staging: ${made.staging}, timing: ${timing} }]`;
  made.policy({ ...(only !== undefined && { stores: inVault }), ...waits });
}

function sane({ code, stderr, stdout }: Ended): void {
  expect(code, stderr + stdout).toBe(0);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
