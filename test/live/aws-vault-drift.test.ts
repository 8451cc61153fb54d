import { ReplicateSecretToRegionsCommand } from "@aws-sdk/client-secrets-manager";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { secretsManagerOf, TwoStores } from "../support/two-stores.ts";

const there = (await motoPython()) !== null && (await baoProgram()) !== null;

describe.runIf(there).concurrent("what others do to Secrets Manager and Vault meanwhile", { timeout: 90_000 }, () => {
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

  /** In its overlap: both keys live, both stores serve the new one. */
  const overlapping = async () => {
    const made = await TwoStores.open(`drift-${++users}`, moto, bao, commands);
    open.push(made);
    sane(await made.aws.run("rotate", "one", "--wait"), 0);
    const old = await made.keyInManager();
    if (old === null) throw new Error("nothing is served");
    const before = { text: await made.text(), data: await made.inVault() };
    made.policy({ minimum: "1h" });
    sane(await made.aws.run("rotate", "one"), 0);
    expect((await made.keyInVault())?.id).not.toBe(old.id);
    made.policy();
    made.aws.wire.reset();
    return { made, old, before };
  };

  const putBack = {
    "Secrets Manager": async (made: TwoStores, { text }: { readonly text: string }) => made.writeManager(() => text),
    Vault: async (made: TwoStores, { data }: { readonly data: Record<string, unknown> }) => made.writeVault(data),
  };
  test.each(["Secrets Manager", "Vault"] as const)(
    "the old value put back in %s: nothing is revoked, the place is named; --repair pushes ours, and it goes on",
    async (where) => {
      const { made, old, before } = await overlapping();
      await putBack[where](made, { text: before.text, data: before.data });
      const { code, document } = await made.aws.json("run", "one", "--wait", "--wait-max", "60s");
      const [secret] = document.secrets;
      expect([code, secret.outcome, secret.reason]).toEqual([3, "blocked", "drift"]);
      expect(secret.message).toContain(where === "Vault" ? made.path : made.name);
      expect(secret.message).toMatch(
        / serves v1-\w+ instead of v2-\w+, though it was right (less than 1 s|\d+ (s|min)( \d+ s)?) ago$/,
      );
      expect(await made.aws.keys()).toMatchObject({ [old.id]: "Active" });
      expect(made.aws.mutations()).toEqual([]);
      expect((await made.aws.run("run", "one")).stderr).toMatch(/^hint: .*--repair.*keyturn adopt/m);

      made.watch();
      sane(await made.aws.run("rotate", "one", "--repair", "--wait"), 0);
      expect(await made.faults()).toEqual([]);
      expect(made.aws.mutations()).toEqual([`UpdateAccessKey Inactive ${old.id}`, `DeleteAccessKey ${old.id}`]);
    },
  );

  test("a value put back can be accepted: `adopt` takes theirs for current, the other store follows, ours goes", async () => {
    const { made, old, before } = await overlapping();
    await made.writeManager(() => before.text);
    const blocked = await made.aws.json("run", "one");
    expect([blocked.code, blocked.document.secrets[0].reason]).toEqual([3, "drift"]);
    made.watch();
    sane(await made.aws.run("adopt", "one"), 0);
    expect(made.aws.mutations()).toEqual([]);
    const { code, document } = await made.aws.json("run", "one", "--wait", "--wait-max", "20s");
    expect([code, document.secrets[0].current.keyId]).toEqual([0, old.id]);
    expect(await made.aws.keys()).toEqual({ [old.id]: "Active" });
    expect([(await made.keyInManager())?.id, (await made.keyInVault())?.id]).toEqual([old.id, old.id]);
    sane(await made.aws.run("rotate", "one", "--wait"), 0);
    expect(await made.faults()).toEqual([]);
  });

  test("neighbours who write between read and write keep what they wrote, in both", async () => {
    const made = await TwoStores.open(`drift-${++users}`, moto, bao, commands);
    open.push(made);
    sane(await made.aws.run("rotate", "one", "--wait"), 0);
    made.watch();
    const written = { manager: 0, vault: 0 };
    made.aws.wire.instead = async ({ action, param }) => {
      if (action === "UpdateSecretVersionStage" && param("MoveToVersionId") !== undefined && written.manager++ === 0)
        await made.writeManager((text) => text.replace("db.internal", "db2.internal"));
      return null;
    };
    made.vaultWire.instead = async ({ action }) => {
      if (action === `POST /v1/secret/data/${made.path}` && written.vault++ === 0)
        await made.writeVault({ url: "https://new.example.com", extra: "yes" });
      return null;
    };
    sane(await made.aws.run("rotate", "one", "--wait"), 0);
    expect(written.manager).toBeGreaterThan(0);
    expect(written.vault).toBeGreaterThan(1);
    expect(await made.text()).toContain('"host": "db2.internal",\n  "retries": 7.0, "note": "caf\\u00e9"');
    expect(await made.inVault()).toMatchObject({ url: "https://new.example.com", extra: "yes", retries: 3 });
    expect(await made.faults()).toEqual([]);
  });

  test("a replica that lags is named, and nothing is revoked before it has caught up", async () => {
    const made = await TwoStores.open(`drift-${++users}`, moto, bao, commands);
    open.push(made);
    sane(await made.aws.run("rotate", "one", "--wait"), 0);
    const old = await made.keyInManager();
    const regions = ["us-west-2", "ap-south-1"].map((Region) => ({ Region }));
    await secretsManagerOf(moto).send(
      new ReplicateSecretToRegionsCommand({ SecretId: made.name, AddReplicaRegions: regions }),
    );
    made.watch();
    made.aws.wire.reset();
    made.aws.wire.answer = ({ action }, answer) => {
      if (action !== "DescribeSecret") return answer;
      const told = JSON.parse(answer.body);
      for (const replica of told.ReplicationStatus ?? [])
        replica.Status = replica.Region === "ap-south-1" ? "InProgress" : "InSync";
      return { ...answer, body: JSON.stringify(told) };
    };
    const { code, document } = await made.aws.json("rotate", "one", "--wait", "--wait-max", "8s");
    const [secret] = document.secrets;
    expect([code, secret.outcome, secret.reason]).toEqual([0, "waiting", "replica-not-in-sync"]);
    expect(secret.message).toContain("ap-south-1");
    expect(secret.message).not.toContain("us-west-2");
    expect(made.aws.mutations()).toEqual(["CreateAccessKey"]);
    expect((await made.aws.keys())[old?.id ?? ""]).toBe("Active");
    const asked = made.aws.wire.calls
      .filter(({ action }) => action === "GetCallerIdentity")
      .map(({ region }) => region);
    expect(asked).toEqual(expect.arrayContaining(["us-west-2", "ap-south-1"]));
    made.aws.wire.reset();
    sane(await made.aws.run("run", "one", "--wait"), 0);
    expect(await made.faults()).toEqual([]);
  });
});

function sane({ code, stderr, stdout }: Ended, ...codes: number[]): void {
  expect(codes, stderr + stdout).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
