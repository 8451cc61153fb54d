import {
  CreateSecretCommand,
  DescribeSecretCommand,
  GetSecretValueCommand,
  SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { MotoLane, type AccessKey } from "../support/moto-lane.ts";

const there = (await motoPython()) !== null;

describe.runIf(there).concurrent("keys of an IAM user, delivered to Secrets Manager", { timeout: 90_000 }, () => {
  let moto: Moto;
  let commands: CommandLine;
  let sm: SecretsManagerClient;
  const open: MotoLane[] = [];
  let users = 0;
  beforeAll(async () => {
    commands = new CommandLine();
    moto = await startMoto({ auth: true });
    const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
    const credentials = { accessKeyId, secretAccessKey };
    sm = new SecretsManagerClient({ endpoint: moto.url, region: REGION, maxAttempts: 1, credentials });
  });
  afterAll(async () => {
    await Promise.all(open.map((lane) => lane.close()));
    await moto?.stop();
    commands?.remove();
  });

  /** A user with a rotated key in Secrets Manager, beside a sibling, and in a `.env` file. */
  const laneWithKey = async () => {
    const user = `sm-${++users}`;
    const stores = `[{ type: aws-secrets-manager, region: ${REGION}, name: prod/${user}, timing: { propagation: 0s, settle: 0s } }, { type: dotenv, path: one.env, fields: { ID: accessKeyId, SECRET: secretAccessKey } }]`;
    const made = await MotoLane.open(user, moto, commands, { stores });
    open.push(made);
    const text = '{ "host": "db.internal",  "port": 5432 }';
    await sm.send(new CreateSecretCommand({ Name: `prod/${user}`, SecretString: text }));
    sane(await made.run("rotate", "one", "--wait"), 0);
    const [id = ""] = Object.keys(await made.keys());
    made.wire.reset();
    return { made, id, name: `prod/${user}` };
  };
  const served = async (name: string): Promise<Record<string, unknown>> =>
    JSON.parse((await sm.send(new GetSecretValueCommand({ SecretId: name }))).SecretString ?? "null");
  const keyIn = async (name: string): Promise<AccessKey> => {
    const { accessKeyId, secretAccessKey } = await served(name);
    return { id: String(accessKeyId), secret: String(secretAccessKey) };
  };

  test("in one rotation, with consumers of each at work", async () => {
    const { made, id, name } = await laneWithKey();
    made.watch(100, { "Secrets Manager": () => keyIn(name) });
    sane(await made.run("rotate", "one", "--wait"), 0);
    const [left = "", ...more] = Object.keys(await made.keys());
    expect([left === id, more]).toEqual([false, []]);
    expect(await served(name)).toMatchObject({ host: "db.internal", port: 5432, accessKeyId: left });
    expect(made.dotenv()).toEqual(await keyIn(name));
    const { VersionIdsToStages: stages = {} } = await sm.send(new DescribeSecretCommand({ SecretId: name }));
    expect(Object.values(stages).flat()).not.toContain("AWSPENDING");
    expect(
      Object.values(stages)
        .flat()
        .filter((label) => label.startsWith("keyturn/")),
    ).toHaveLength(1);
    expect(made.wire.calls.some(({ action, region }) => action === "GetCallerIdentity" && region === REGION)).toBe(
      true,
    );
    expect(made.outages).toEqual([]);
  });

  test("the store refuses the new key: the old one stays current, the new one goes", async () => {
    const { made, id, name } = await laneWithKey();
    made.watch(100, { "Secrets Manager": () => keyIn(name) });
    const body = JSON.stringify({ __type: "AccessDeniedException", Message: "no" });
    const headers = { "content-type": "application/x-amz-json-1.1", "x-amzn-requestid": "r-1" };
    // Allowed when it was looked at beforehand, taken away since.
    const minted = (): boolean => made.wire.calls.some(({ action }) => action === "CreateAccessKey");
    made.wire.instead = (call) =>
      call.action === "PutSecretValue" && minted() ? { status: 400, body, headers } : null;
    const { code, document } = await made.json("rotate", "one", "--wait", "--wait-max", "10s");
    expect([code, document.secrets[0].reason]).toEqual([1, "store-denied"]);
    expect(document.secrets[0].current.keyId).toBe(id);
    const debt = document.secrets[0].debt.map(({ keyId }: { keyId: string }) => keyId);
    expect(Object.keys(await made.keys()).filter((key) => key !== id)).toEqual(debt);
    expect((await keyIn(name)).id).toBe(id);
    made.wire.reset();
    const again = await made.json("run", "one", "--wait", "--wait-max", "10s");
    expect([again.code, again.document.secrets[0].reason]).toEqual([3, "store-denied"]);
    expect(await made.keys()).toEqual({ [id]: "Active" });
    expect(made.mutations().filter((call) => call.startsWith("Create"))).toEqual([]);
    expect(made.outages).toEqual([]);
  });
});

function sane({ code, stderr, stdout }: Ended, ...codes: number[]): void {
  expect(codes, stderr + stdout).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
