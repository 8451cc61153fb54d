import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateAccessKeyCommand, CreateUserCommand, IAMClient, ListAccessKeysCommand } from "@aws-sdk/client-iam";
import { CreateSecretCommand, GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { build } from "../cli/harness.ts";
import { CTRL_C, ENTER, openPty, type Pty } from "../cli/pty.ts";
import { motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";

const isThere = (await motoPython()) !== null && (await baoProgram()) !== null;

describe.runIf(isThere)("init, with AWS and Vault around", () => {
  let moto: Moto;
  let bao: Bao;
  let folder: string;
  let env: Record<string, string>;
  let iam: IAMClient;
  let secrets: SecretsManagerClient;

  beforeAll(async () => {
    build();
    [moto, bao] = await Promise.all([startMoto(), startBao()]);
    const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
    const at = { endpoint: moto.url, region: REGION, credentials: { accessKeyId, secretAccessKey } };
    iam = new IAMClient(at);
    secrets = new SecretsManagerClient(at);
    for (const UserName of ["payments-app", "reports"]) await iam.send(new CreateUserCommand({ UserName }));
    await iam.send(new CreateAccessKeyCommand({ UserName: "payments-app" }));
    await secrets.send(new CreateSecretCommand({ Name: "prod/payments", SecretString: "{}" }));
    const SecretString = JSON.stringify({ AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "", other: 1 });
    await secrets.send(new CreateSecretCommand({ Name: "prod/named", SecretString }));
    await bao.must("POST", "sys/auth/approle", { type: "approle" });
    await bao.must("POST", "auth/approle/role/shop", { token_policies: "default" });
  });
  afterAll(async () => {
    await Promise.all([moto?.stop(), bao?.stop()]);
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "keyturn-init-"));
    const vault = { VAULT_ADDR: bao.address, VAULT_TOKEN: bao.rootToken };
    env = { PATH: process.env["PATH"] ?? "", HOME: folder, TERM: "xterm", ...moto.env, ...vault };
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const at = (...args: string[]): Pty => openPty(args, { cwd: folder, env });
  const QUESTIONS: readonly (readonly [question: RegExp, keys: string])[] = [
    [/Whose key is to be rotated\?[^]*AppRole approle\/shop[^]*IAM user reports/, "payments"],
    [/❯ IAM user payments-app/, ENTER],
    [/What is it called in the policy\?.*payments-app/, ENTER],
    [/Where do its consumers read it\?[^]*KV mount secret \(vault-kv\)/, "prod/"],
    [/❯ secret prod\/payments \(aws-secrets-manager\)/, ENTER],
    [/Under which name do they read accessKeyId there\?/, ENTER],
    [/Under which name do they read secretAccessKey there\?/, ENTER],
    [/And where else\?/, "KV"],
    [/❯ KV mount secret/, ENTER],
    [/path: /, `apps/payments${ENTER}`],
    [/Under which name do they read accessKeyId there\?/, ENTER],
    [/Under which name do they read secretAccessKey there\?/, ENTER],
    [/And where else\?[^]*nowhere else/, ENTER],
    [/When is a key to be replaced\?/, ENTER],
    [/Write this to rotation\.config\.yaml\?/, ENTER],
  ];

  test("from an empty folder to a rotated key", async () => {
    const pty = at("init");
    for (const [question, keys] of QUESTIONS) await pty.answer(question, keys);
    expect(await pty.code).toBe(0);
    const screen = pty.screen();
    expect(screen).toMatch(/^aws-iam: account 123456789012 as user\/\S+: IAM user/m);
    expect(screen).toMatch(/^ +ok +store vault-kv: secret\/apps\/payments/m);
    expect(screen).toMatch(/^next: keyturn plan payments-app$/m);
    expect(pty.tooLong()).toEqual([]);

    const policy = readFileSync(join(folder, "rotation.config.yaml"), "utf8");
    for (const value of [env["VAULT_TOKEN"], env["AWS_SECRET_ACCESS_KEY"]]) {
      expect(policy).not.toContain(value);
      expect(pty.raw()).not.toContain(value);
    }
    appendFileSync(
      join(folder, "rotation.config.yaml"),
      "\ndefaults: { verify: { successes: 1, spread: 0s, deadline: 30s } }\n",
    );
    const rotation = at("rotate", "payments-app", "--wait");
    await rotation.until(/verify|overlap|idle/);
    expect(await rotation.code).toBe(0);
    expect(rotation.tooLong()).toEqual([]);
    const { SecretString = "{}" } = await secrets.send(new GetSecretValueCommand({ SecretId: "prod/payments" }));
    const served = JSON.parse(SecretString) as { readonly accessKeyId?: string };
    const { AccessKeyMetadata: keys = [] } = await iam.send(new ListAccessKeysCommand({ UserName: "payments-app" }));
    expect(keys.map(({ AccessKeyId }) => AccessKeyId)).toContain(served.accessKeyId);
    const kv = await bao.must("GET", "secret/data/apps/payments");
    expect(kv.data.accessKeyId).toBe(served.accessKeyId);
  });

  test("offers the names that stand there already", async () => {
    const pty = at("init", "--name", "named", "--issuer", "aws-iam,user=reports", "--every", "90d");
    await pty.answer(/Where do its consumers read it\?/, "prod/named");
    await pty.answer(/❯ secret prod\/named \(aws-secrets-manager\)/, ENTER);
    await pty.answer(/Under which name do they read accessKeyId there\?.*AWS_ACCESS_KEY_ID/, ENTER);
    await pty.answer(/Under which name do they read secretAccessKey there\?.*AWS_SECRET_ACCESS_KEY/, ENTER);
    await pty.answer(/And where else\?/, ENTER);
    await pty.answer(/Write this to rotation\.config\.yaml\?/, ENTER);
    expect(await pty.code).toBe(0);
    expect(readFileSync(join(folder, "rotation.config.yaml"), "utf8")).toMatch(/AWS_ACCESS_KEY_ID: accessKeyId/);
  });

  test("names that nobody reads are told: of the store, and the key that is in use", async () => {
    const { AccessKey: key } = await iam.send(new CreateAccessKeyCommand({ UserName: "reports" }));
    const SecretString = JSON.stringify({ KEY: key?.AccessKeyId, SECRET: key?.SecretAccessKey, other: "x" });
    await secrets.send(new CreateSecretCommand({ Name: "prod/used", SecretString }));
    const store = `aws-secrets-manager,region=${REGION},name=prod/used`;
    const pty = at("init", "--yes", "--name", "used", "--issuer", "aws-iam,user=reports", "--store", store);
    expect(await pty.code).toBe(0);
    const told = [
      /prod\/used:?\s+holds\s+other\s+names\s+and\s+none\s+of\s+ours:\s+KEY,\s+SECRET,\s+other/,
      new RegExp(`not\\s+ours:\\s+${key?.AccessKeyId}`),
    ];
    for (const text of told) expect(pty.screen()).toMatch(text);
    const adopt = at("adopt", "used");
    expect(await adopt.code).toBe(3);
    for (const text of told) expect(adopt.screen()).toMatch(text);
    expect(adopt.screen()).not.toContain("no store serves anything yet");
    expect(pty.raw() + adopt.raw()).not.toContain(key?.SecretAccessKey);
    const file = join(folder, "rotation.config.yaml");
    const policy = readFileSync(file, "utf8").replace(
      /^( +)name: prod\/used$/m,
      "$&\n$1fields: { KEY: accessKeyId, SECRET: secretAccessKey }",
    );
    writeFileSync(file, policy);
    const again = at("adopt", "used");
    expect(await again.code).toBe(0);
  });

  test("Ctrl-C leaves nothing, whichever the question", async () => {
    for (const [stop, [, answer]] of QUESTIONS.entries()) {
      // What only narrows a list down is no question of its own.
      if (!answer.endsWith(ENTER)) continue;
      const pty = at("init");
      for (const [question, keys] of QUESTIONS.slice(0, stop)) await pty.answer(question, keys);
      await pty.answer(QUESTIONS[stop]?.[0] as RegExp, CTRL_C);
      expect([stop, await pty.code]).toEqual([stop, 130]);
      expect(pty.screen()).toMatch(/^keyturn: stopped by SIGINT: nothing was done$/m);
      expect(readdirSync(folder)).toEqual([]);
    }
  });

  test("who may not look is told so, and goes on", async () => {
    env["VAULT_TOKEN"] = "no-such-token";
    delete env["AWS_SECRET_ACCESS_KEY"];
    const pty = at("init");
    await pty.answer(/Whose key is to be rotated\?/, CTRL_C);
    expect(await pty.code).toBe(130);
    expect(pty.screen()).toMatch(/^aws-iam, aws-secrets-manager: AWS: no usable credentials$/m);
    expect(pty.screen()).toMatch(/^vault-approle, vault-kv: /m);
    expect(pty.tooLong()).toEqual([]);
    expect(pty.raw()).not.toContain("no-such-token");
  });
});
