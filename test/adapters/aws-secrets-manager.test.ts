import { randomUUID } from "node:crypto";
import {
  CreateSecretCommand,
  DeleteSecretCommand,
  DescribeSecretCommand,
  GetResourcePolicyCommand,
  GetSecretValueCommand,
  ListSecretVersionIdsCommand,
  PutResourcePolicyCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
  UpdateSecretVersionStageCommand,
} from "@aws-sdk/client-secrets-manager";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/stores/aws-secrets-manager.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import { isStaged, type StagedStore } from "../../src/ports/store.ts";
import { ctx, stagedStoreContract, storeContract, type StoreUnderTest } from "../contract/store.ts";
import { ACCOUNT, motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { startWire, type Wire, type WireAnswer } from "../support/wire.ts";
import { depsOf } from "./aws-support.ts";

const there = (await motoPython()) !== null;
const FIELDS = { ID: "id", KEY: "key" };
const value = (n: number): SecretValue => SecretValue.of({ id: `id-${n}`, key: `key-${n}` });
const BODY = '{\n  "n": 1.0,\n  "KEY": "", "other": "x"\n}\n';
const WRITES = ["PutSecretValue", "UpdateSecretVersionStage", "CreateSecret"];

describe.runIf(there)("aws-secrets-manager", () => {
  let moto: Moto;
  let wire: Wire;
  let stranger: SecretsManagerClient;
  let made = 0;
  beforeAll(async () => {
    moto = await startMoto();
    wire = await startWire(() => moto.url);
    const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
    const credentials = { accessKeyId, secretAccessKey };
    stranger = new SecretsManagerClient({ region: REGION, endpoint: moto.url, credentials });
  });
  afterEach(() => wire?.reset());
  afterAll(async () => {
    await wire?.close();
    await moto?.stop();
  });

  const newName = (): string => `test/one-${++made}`;
  /** A secret of somebody's; null: without any value. */
  async function theirs(body: string | Uint8Array | null = BODY, more: object = {}): Promise<string> {
    const name = newName();
    const content = typeof body === "string" ? { SecretString: body } : body === null ? {} : { SecretBinary: body };
    await stranger.send(new CreateSecretCommand({ Name: name, ...content, ...more }));
    return name;
  }

  /** As one more process would open it. */
  function open(
    name: string,
    more: object = {},
    fields: Readonly<Record<string, string>> = FIELDS,
    said: string[] = [],
  ): StagedStore {
    const settings = adapter.settings.parse({ region: REGION });
    const env = { ...moto.env, AWS_ENDPOINT_URL: wire.url };
    const target = { secret: "one", fields };
    const store = adapter.create(settings, adapter.delivery.parse({ name, ...more }), target, depsOf(env, said));
    if (!isStaged(store)) throw new TypeError("not staged");
    return store;
  }

  const get = (name: string, label = "AWSCURRENT") =>
    stranger.send(new GetSecretValueCommand({ SecretId: name, VersionStage: label }));
  const text = async (name: string, label?: string): Promise<string | undefined> =>
    (await get(name, label)).SecretString;
  const labels = async (name: string): Promise<Record<string, string[]>> =>
    (await stranger.send(new DescribeSecretCommand({ SecretId: name }))).VersionIdsToStages ?? {};
  const versions = async (name: string): Promise<number> => {
    const listed = await stranger.send(new ListSecretVersionIdsCommand({ SecretId: name, IncludeDeprecated: true }));
    return listed.Versions?.length ?? 0;
  };
  const sent = (...actions: string[]): number => wire.calls.filter(({ action }) => actions.includes(action)).length;
  const findingsOf = async (store: StagedStore) => (await store.describe(ctx())).findings;
  const refused = (type: string, status = 400): WireAnswer => ({
    status,
    body: JSON.stringify({ __type: type, message: "canary", Message: "canary" }),
    headers: { "content-type": "application/x-amz-json-1.1", "x-amzn-requestid": "r-1" },
  });

  async function place(): Promise<StoreUnderTest> {
    const name = await theirs(BODY, { Tags: [{ Key: "team", Value: "pay" }], Description: "theirs" });
    const policy = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Principal: "*", Action: "*" }] };
    const ResourcePolicy = JSON.stringify(policy);
    await stranger.send(new PutResourcePolicyCommand({ SecretId: name, ResourcePolicy }));
    return {
      open: () => open(name),
      siblings: async () => {
        const info = await stranger.send(new DescribeSecretCommand({ SecretId: name }));
        const { ResourcePolicy: kept } = await stranger.send(new GetResourcePolicyCommand({ SecretId: name }));
        const rest = (await text(name))?.replaceAll(/"(?:KEY|ID)": "[^"]*"/g, "").replace(/,\s*\n\}/, "\n}");
        return [rest, kept, info.Tags, info.Description, info.KmsKeyId, info.Name];
      },
      dispose: async () => {},
    };
  }

  storeContract("aws-secrets-manager", { fields: ["id", "key"] }, place);
  stagedStoreContract("aws-secrets-manager", { fields: ["id", "key"] }, place);

  describe("labels", () => {
    it("of ours only the current version's is left, the old value stays at AWSPREVIOUS, and none is AWSPENDING", async () => {
      const name = await theirs();
      const store = open(name);
      await store.stage("v1", value(1), ctx());
      const first = await store.put("v1", value(1), null, ctx());
      await store.stage("v2", value(2), ctx());
      expect((await labels(name))[first]?.toSorted()).toEqual(["AWSCURRENT", "keyturn/v1"]);
      const second = await store.put("v2", value(2), first, ctx());
      await open(name).discard("v1", ctx());
      const left = Object.entries(await labels(name)).filter(([, on]) => on.length > 0);
      expect(Object.fromEntries(left.map(([id, on]) => [id, on.toSorted()]))).toEqual({
        [first]: ["AWSPREVIOUS"],
        [second]: ["AWSCURRENT", "keyturn/v2"],
      });
      expect(JSON.parse((await text(name, "AWSPREVIOUS")) ?? "")).toMatchObject({ ID: "id-1", KEY: "key-1" });
    });

    it("an adopted version gets ours without a new version", async () => {
      const name = await theirs('{"ID":"id-1","KEY":"key-1"}');
      const id = Object.keys(await labels(name))[0] as string;
      for (const store of [open(name), open(name)]) await store.stage("v1", value(1), ctx());
      expect(await labels(name)).toEqual({ [id]: expect.arrayContaining(["AWSCURRENT", "keyturn/v1"]) });
      await expect(open(name).stage("v1", value(2), ctx())).rejects.toMatchObject({ kind: "conflict" });
    });

    it("what was current once comes back as a new version: an older promotion under way loses", async () => {
      const name = await theirs();
      const first = await open(name).put("v1", value(1), null, ctx());
      const second = await open(name).put("v2", value(2), first, ctx());
      const back = await open(name).put("v1", value(1), second, ctx());
      expect([first, second]).not.toContain(back);
      const late = { SecretId: name, VersionStage: "AWSCURRENT", MoveToVersionId: second, RemoveFromVersionId: first };
      await expect(stranger.send(new UpdateSecretVersionStageCommand(late))).rejects.toThrow();
      expect(JSON.parse((await text(name)) ?? "")).toMatchObject({ ID: "id-1" });
    });
  });

  describe("siblings", () => {
    it("changed after staging: promoted as they are now", async () => {
      const name = await theirs();
      await open(name).stage("v1", value(1), ctx());
      await stranger.send(new PutSecretValueCommand({ SecretId: name, SecretString: '{"n": 2.00}' }));
      await open(name).put("v1", value(1), null, ctx());
      expect(await text(name)).toBe('{"n": 2.00,"ID": "id-1","KEY": "key-1"}');
      expect((await open(name).read("v1", ctx()))?.equals(value(1))).toBe(true);
    });

    it("changed between our read and our write: refused, and right the next time", async () => {
      const name = await theirs();
      const store = open(name);
      await store.stage("v1", value(1), ctx());
      let once = true;
      wire.instead = async ({ action }) => {
        if (action === "UpdateSecretVersionStage" && once) {
          once = false;
          await stranger.send(new PutSecretValueCommand({ SecretId: name, SecretString: '{"n": 3.00}' }));
        }
        return null;
      };
      const racing = store.put("v1", value(1), null, ctx());
      await expect(racing).rejects.toMatchObject({ kind: "conflict", applied: "no" });
      expect(await store.current(ctx())).toBeNull();
      await store.put("v1", value(1), null, ctx());
      expect(await text(name)).toBe('{"n": 3.00,"ID": "id-1","KEY": "key-1"}');
    });

    it("the same as when it was staged: the label alone moves", async () => {
      const name = await theirs();
      await open(name).stage("v1", value(1), ctx());
      const before = await versions(name);
      await open(name).put("v1", value(1), null, ctx());
      expect(await versions(name)).toBe(before);
    });
  });

  describe("an empty secret", () => {
    it.each([
      ["JSON", {}, FIELDS, value(1), '{"ID":"id-1","KEY":"key-1"}'],
      ["plain", { plain: true }, { value: "key" }, SecretValue.of({ key: "the key" }), "the key"],
    ])("%s: serves nothing before the first promotion", async (_, more, fields, given, expected) => {
      const name = await theirs(null);
      const store = open(name, more, fields);
      expect((await findingsOf(store)).filter(({ blocks }) => blocks)).toEqual([]);
      await store.stage("v1", given, ctx());
      expect((await get(name)).SecretString ?? "{}").toBe("{}");
      for (const opened of [store, open(name, more, fields)]) {
        expect(await opened.current(ctx())).toBeNull();
        expect((await opened.read("v1", ctx()))?.equals(given)).toBe(true);
      }
      await open(name, more, fields).put("v1", given, null, ctx());
      expect(await text(name)).toBe(expected);
    });

    it("takes a verified value at once", async () => {
      const name = await theirs(null);
      const ref = await open(name).put("v1", value(1), null, ctx());
      expect(await labels(name)).toEqual({ [ref]: expect.arrayContaining(["AWSCURRENT", "keyturn/v1"]) });
      expect(sent("PutSecretValue")).toBe(1);
    });
  });

  describe("a missing secret", () => {
    it("is made only where the policy says so, with what it says", async () => {
      const name = newName();
      expect(await findingsOf(open(name))).toMatchObject([{ reason: "store-unsuitable", blocks: true }]);
      await expect(open(name).stage("v1", value(1), ctx())).rejects.toMatchObject({ kind: "not-found", applied: "no" });
      await expect(open(name).put("v1", value(1), null, ctx())).rejects.toMatchObject({ kind: "not-found" });
      const create = { kmsKey: "alias/ours", description: "ours", tags: { team: "pay" } };
      const store = open(name, { create });
      const { binding, findings } = await store.describe(ctx());
      expect(findings.filter(({ blocks }) => blocks)).toEqual([]);
      await store.stage("v1", value(1), ctx());
      expect(await store.current(ctx())).toBeNull();
      await store.put("v1", value(1), null, ctx());
      expect((await open(name).describe(ctx())).binding).toBe(binding);
      const info = await stranger.send(new DescribeSecretCommand({ SecretId: name }));
      expect(info).toMatchObject({
        KmsKeyId: "alias/ours",
        Description: "ours",
        Tags: [{ Key: "team", Value: "pay" }],
      });
    });

    it("is made with a verified value at once", async () => {
      const name = newName();
      const ref = await open(name, { create: true }).put("v1", value(1), null, ctx());
      expect(await labels(name)).toEqual({ [ref]: expect.arrayContaining(["AWSCURRENT", "keyturn/v1"]) });
    });
  });

  describe("refused beforehand, before anything is minted", () => {
    const found = async (name: string, reason: string, message: string, more: object = {}) => {
      const findings = await findingsOf(open(name, more));
      expect(findings.filter(({ blocks }) => blocks)).toMatchObject([{ reason, blocks: true }]);
      expect(findings[0]?.message).toContain(message);
      expect(JSON.stringify(findings)).not.toContain("canary");
      expect(sent(...WRITES)).toBe(0);
    };

    it("binary data", async () => found(await theirs(Buffer.from("canary")), "store-unsuitable", "holds binary data"));
    it("a text that is no JSON", async () => found(await theirs("canary"), "store-unsuitable", "no JSON"));
    it("a JSON that is no object", async () => found(await theirs('["canary"]'), "store-unsuitable", "no object"));
    it("a member of ours that is no string", async () =>
      found(await theirs('{"KEY":{"canary":1}}'), "name-conflict", "member KEY holds no string"));
    it("no room", async () =>
      found(await theirs(`{"a":"${"x".repeat(65_300)}"}`), "store-unsuitable", "no room: 65308 bytes"));
    it("plain text over a JSON object", async () => {
      const findings = await findingsOf(open(await theirs('{"canary":1}'), { plain: true }, { value: "key" }));
      expect(findings).toMatchObject([{ reason: "name-conflict", blocks: true }]);
      expect(JSON.stringify(findings)).not.toContain("canary");
    });
    it("plain text of two fields", async () =>
      found(await theirs("text"), "name-conflict", "holds one field", { plain: true }));
    it("scheduled for deletion", async () => {
      const name = await theirs();
      await stranger.send(new DeleteSecretCommand({ SecretId: name, RecoveryWindowInDays: 7 }));
      await found(name, "store-unsuitable", "is scheduled for deletion");
    });
    it("somebody's AWSPENDING", async () => {
      const name = await theirs();
      const put = {
        SecretId: name,
        SecretString: "{}",
        VersionStages: ["AWSPENDING"],
        ClientRequestToken: randomUUID(),
      };
      await stranger.send(new PutSecretValueCommand(put));
      await found(name, "foreign-pending", "AWSPENDING");
    });
    it("rotated by AWS itself", async () => {
      const name = await theirs();
      rewriteInfo({ RotationEnabled: true });
      await found(name, "foreign-pending", "is rotated by AWS itself");
    });
    it("owned by another service, or a replica", async () => {
      const name = await theirs();
      rewriteInfo({ OwningService: "rds" });
      await found(name, "store-unsuitable", "is managed by rds");
      rewriteInfo({ PrimaryRegion: "us-east-2" });
      await found(name, "store-unsuitable", "is a replica of the one in us-east-2");
    });
    it("another account", async () => {
      const settings = adapter.settings.parse({ region: REGION, expect: { account: "999999999999" } });
      const target = { secret: "one", fields: FIELDS };
      const delivery = adapter.delivery.parse({ name: await theirs() });
      const store = adapter.create(settings, delivery, target, depsOf(moto.env));
      const { findings, binding } = await store.describe(ctx());
      expect(findings).toMatchObject([{ reason: "identity-mismatch", blocks: true }]);
      expect(binding).toContain(`:${REGION}:${ACCOUNT}:`);
    });
    it.each(["PutSecretValue", "UpdateSecretVersionStage", "GetSecretValue", "DescribeSecret"])(
      "%s not allowed",
      async (action) => {
        const name = await theirs();
        wire.instead = (call) => (call.action === action ? refused("AccessDeniedException") : null);
        const findings = await findingsOf(open(name));
        expect(findings).toMatchObject([{ reason: "permission-missing", blocks: true }]);
        expect(findings[0]?.message).toContain(`secretsmanager:${action}`);
        expect(JSON.stringify(findings)).not.toContain("canary");
      },
    );
  });

  /** What AWS would say of it, and moto cannot. */
  function rewriteInfo(more: object): void {
    wire.answer = ({ action }, answer) =>
      action === "DescribeSecret"
        ? { ...answer, body: JSON.stringify({ ...(JSON.parse(answer.body) as object), ...more }) }
        : answer;
  }

  it("names the replicas that lag, and all regions that it is read from", async () => {
    const name = await theirs('{"ID":"id-1"}');
    const statuses = ["InSync", "InProgress", "Failed"];
    const ReplicationStatus = ["us-east-1", "us-east-2", "us-west-2"].map((Region, i) => ({
      Region,
      Status: statuses[i],
    }));
    rewriteInfo({ ReplicationStatus });
    const store = open(name);
    expect((await store.current(ctx()))?.lagging).toEqual(["us-east-2", "us-west-2 (failed)"]);
    expect(await store.regions?.(ctx())).toEqual([REGION, "us-east-1", "us-east-2", "us-west-2"]);
  });

  it("refuses a value that makes it too large, and nothing was sent", async () => {
    const name = await theirs(`{"a":"${"x".repeat(65_510)}"}`);
    const store = open(name);
    for (const attempt of [() => store.stage("v1", value(1), ctx()), () => store.put("v1", value(1), null, ctx())])
      await expect(attempt()).rejects.toMatchObject({ kind: "invalid", applied: "no" });
    expect(sent(...WRITES)).toBe(0);
  });

  describe("a lost answer", () => {
    const steps: readonly (readonly [string, string])[] = [
      ["stage", "PutSecretValue"],
      ["promote", "UpdateSecretVersionStage"],
      ["discard", "UpdateSecretVersionStage"],
    ];
    it.each(steps)("of %s (%s): maybe applied; the next one finds it done and adds nothing", async (step, action) => {
      const name = await theirs();
      const first = await open(name).put("v1", value(1), null, ctx());
      const run = (store: StagedStore): Promise<unknown> => {
        if (step === "stage") return store.stage("v2", value(2), ctx());
        if (step === "discard") return store.discard("v2", ctx());
        return store.put("v2", value(2), first, ctx());
      };
      if (step !== "stage") await open(name).stage("v2", value(2), ctx());
      wire.answer = (call, answer) => (call.action === action ? "cut" : answer);
      await expect(run(open(name))).rejects.toMatchObject({ kind: "unavailable", applied: "maybe" });
      wire.reset();
      const count = await versions(name);
      if (step !== "promote") await run(open(name));
      expect(await versions(name)).toBe(count);
      const served = (await open(name).current(ctx()))?.value;
      expect(served?.equals(value(step === "promote" ? 2 : 1))).toBe(true);
      const held = await open(name).read("v2", ctx());
      expect(held === null).toBe(step === "discard");
    });

    it("of the first value of a missing secret", async () => {
      const name = newName();
      wire.answer = (call, answer) => (call.action === "CreateSecret" ? "cut" : answer);
      const lost = open(name, { create: true }).stage("v1", value(1), ctx());
      await expect(lost).rejects.toMatchObject({ kind: "unavailable", applied: "maybe" });
      wire.reset();
      await open(name, { create: true }).stage("v1", value(1), ctx());
      expect(await open(name).current(ctx())).toBeNull();
      expect((await open(name).read("v1", ctx()))?.equals(value(1))).toBe(true);
    });
  });

  describe("refusals of AWS", () => {
    const kinds: readonly (readonly [string, number, string, string])[] = [
      ["ThrottlingException", 400, "throttled", "no"],
      ["ExpiredTokenException", 400, "unauthenticated", "no"],
      ["UnrecognizedClientException", 400, "unauthenticated", "no"],
      ["AccessDeniedException", 400, "denied", "no"],
      ["EncryptionFailure", 400, "denied", "no"],
      ["DecryptionFailure", 400, "denied", "no"],
      ["LimitExceededException", 400, "quota", "no"],
      ["InvalidRequestException", 400, "invalid", "no"],
      ["ResourceNotFoundException", 400, "not-found", "no"],
      ["InternalServiceError", 500, "unavailable", "maybe"],
      ["ServiceUnavailable", 503, "unavailable", "maybe"],
    ];
    it.each(kinds)(
      "%s (%i) of a promotion is %s, applied %s, and quotes nothing",
      async (type, status, kind, applied) => {
        const name = await theirs();
        const said: string[] = [];
        const store = open(name, {}, FIELDS, said);
        await store.stage("v1", SecretValue.of({ id: "canary", key: "canary" }), ctx());
        wire.instead = ({ action }) => (action === "UpdateSecretVersionStage" ? refused(type, status) : null);
        const putting = store.put("v1", SecretValue.of({ id: "canary", key: "canary" }), null, ctx());
        const error: unknown = await putting.catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ name: "ProviderError", kind, applied, detail: { requestId: "r-1" } });
        const { message, stack } = error as Error;
        expect(JSON.stringify([message, stack, error, said])).not.toContain("canary");
      },
    );

    it.each([
      ["HTML", "<html>canary</html>", 502, "maybe"],
      ["half of its JSON", '{"ARN":"canary', 200, "maybe"],
    ])("%s for an answer", async (_, body, status, applied) => {
      const name = await theirs();
      const store = open(name);
      await store.stage("v1", value(1), ctx());
      wire.instead = ({ action }) => (action === "UpdateSecretVersionStage" ? { status, body } : null);
      const error: unknown = await store.put("v1", value(1), null, ctx()).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ kind: "unavailable", applied });
      expect(JSON.stringify([String(error), error])).not.toContain("canary");
    });

    it("throttled: the next call waits as long as it is told, and says so", async () => {
      const name = await theirs();
      const said: string[] = [];
      const store = open(name, {}, FIELDS, said);
      let times = 1;
      wire.instead = ({ action }) => {
        const answer = refused("ThrottlingException");
        const told = { ...answer, headers: { ...answer.headers, "retry-after": "1" } };
        return action === "GetSecretValue" && times-- > 0 ? told : null;
      };
      const throttled = store.current(ctx());
      await expect(throttled).rejects.toMatchObject({ kind: "throttled", detail: { retryAfter: 1000 } });
      const from = performance.now();
      await store.current(ctx());
      expect(performance.now() - from).toBeGreaterThan(900);
      expect(said.join("\n")).toMatch(/throttled, now [\d.]+ calls a second\n.*held back for \d+ ms/);
    });
  });

  it("says what it may have to do, to an ARN of this secret alone", () => {
    const create = { kmsKey: "arn:aws:kms:eu-west-1:123456789012:key/k", tags: { a: "b" } };
    const settings = adapter.settings.parse({ region: REGION, expect: { account: ACCOUNT } });
    const target = { secret: "one", fields: FIELDS };
    const delivery = adapter.delivery.parse({ name: "prod/one", create });
    const lines = adapter.create(settings, delivery, target, depsOf(moto.env)).permissions?.() ?? [];
    const arn = `arn:aws:secretsmanager:${REGION}:${ACCOUNT}:secret:prod/one-??????`;
    expect(lines.map((line) => (line.for === "aws" ? [line.actions, line.resources] : []))).toEqual([
      [
        ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"].map(
          (a) => `secretsmanager:${a}`,
        ),
        [arn],
      ],
      [["secretsmanager:CreateSecret", "secretsmanager:TagResource"], [arn]],
      [["kms:GenerateDataKey", "kms:Decrypt"], [create.kmsKey]],
    ]);
  });
});
