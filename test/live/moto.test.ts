import {
  CreateAccessKeyCommand,
  CreateUserCommand,
  IAMClient,
  UpdateAccessKeyCommand,
  type AccessKey,
} from "@aws-sdk/client-iam";
import {
  CreateSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
  UpdateSecretVersionStageCommand,
} from "@aws-sdk/client-secrets-manager";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ACCOUNT, motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";

const there = (await motoPython()) !== null;

/** What the other tests lean on: where moto is not as AWS documents it, the wrapper makes it so. */
describe.runIf(there)("moto, as it is started here", () => {
  let moto: Moto;
  let sm: SecretsManagerClient;
  const client = (key?: AccessKey) => ({
    endpoint: moto.url,
    region: REGION,
    maxAttempts: 1,
    credentials: {
      accessKeyId: key?.AccessKeyId ?? moto.env["AWS_ACCESS_KEY_ID"] ?? "",
      secretAccessKey: key?.SecretAccessKey ?? moto.env["AWS_SECRET_ACCESS_KEY"] ?? "",
    },
  });
  const whoIs = (key: AccessKey) => new STSClient(client(key)).send(new GetCallerIdentityCommand({}));
  beforeAll(async () => {
    moto = await startMoto({ auth: true });
    sm = new SecretsManagerClient(client());
  });
  afterAll(async () => moto?.stop());

  test("refuses an inactive key, and takes it again once it is active; creation in whole seconds", async () => {
    const iam = new IAMClient(client());
    await iam.send(new CreateUserCommand({ UserName: "bot" }));
    const { AccessKey: key } = await iam.send(new CreateAccessKeyCommand({ UserName: "bot" }));
    if (key === undefined) throw new Error("no key");
    expect(key.CreateDate?.getMilliseconds()).toBe(0);
    expect(await whoIs(key)).toMatchObject({ Account: ACCOUNT, Arn: `arn:aws:iam::${ACCOUNT}:user/bot` });
    const turn = (Status: "Active" | "Inactive") =>
      iam.send(new UpdateAccessKeyCommand({ UserName: "bot", AccessKeyId: key.AccessKeyId, Status }));
    await turn("Inactive");
    await expect(whoIs(key)).rejects.toMatchObject({ name: "InvalidClientTokenId" });
    await turn("Active");
    await whoIs(key);
  });

  test("keeps one value for one token", async () => {
    const token = "0".repeat(32);
    await sm.send(new CreateSecretCommand({ Name: "tokens", SecretString: "first" }));
    const put = (SecretString: string, stage: string) =>
      sm.send(
        new PutSecretValueCommand({
          SecretId: "tokens",
          ClientRequestToken: token,
          SecretString,
          VersionStages: [stage],
        }),
      );
    for (const stage of ["AWSPENDING", "AWSPENDING"]) await put("second", stage);
    await expect(put("third", "AWSPENDING")).rejects.toMatchObject({ name: "ResourceExistsException" });
  });

  test("answers a plain get with the current version", async () => {
    const first = await sm.send(new CreateSecretCommand({ Name: "plain", SecretString: "first" }));
    const second = await sm.send(
      new PutSecretValueCommand({ SecretId: "plain", SecretString: "second", VersionStages: ["ours"] }),
    );
    const get = async () => (await sm.send(new GetSecretValueCommand({ SecretId: "plain" }))).SecretString;
    expect(await get()).toBe("first");
    await sm.send(
      new UpdateSecretVersionStageCommand({
        SecretId: "plain",
        VersionStage: "AWSCURRENT",
        RemoveFromVersionId: first.VersionId,
        MoveToVersionId: second.VersionId,
      }),
    );
    expect(await get()).toBe("second");
  });

  test("refuses more than 65,536 bytes", async () => {
    await sm.send(new CreateSecretCommand({ Name: "size", SecretString: "x" }));
    const put = (SecretString: string) => sm.send(new PutSecretValueCommand({ SecretId: "size", SecretString }));
    await put("x".repeat(65_536));
    await expect(put("x".repeat(65_537))).rejects.toMatchObject({ name: "InvalidParameterException" });
    await expect(put("ä".repeat(32_769))).rejects.toMatchObject({ name: "InvalidParameterException" });
  });
});
