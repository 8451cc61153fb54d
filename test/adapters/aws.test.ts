import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateSecretCommand, GetSecretValueCommand, ListSecretsCommand } from "@aws-sdk/client-secrets-manager";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { permissionFindings, probed, simulate } from "../../src/adapters/aws-permissions.ts";
import { failureOfAws } from "../../src/adapters/aws-errors.ts";
import { accountFindings, awsAt, awsCodeOf, forgetAwsCredentials, type AwsPlace } from "../../src/adapters/aws.ts";
import { ProviderError } from "../../src/core/errors.ts";
import type { AwsPermission } from "../../src/ports/context.ts";
import { ctx, fencedCtx } from "../contract/store.ts";
import { ACCOUNT, motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { startWire, type Wire } from "../support/wire.ts";
import { depsOf } from "./aws-support.ts";

const there = (await motoPython()) !== null;
const look = { ctx: ctx(), mutates: false };

async function failure(promise: Promise<unknown>): Promise<ProviderError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ProviderError);
  return error as ProviderError;
}

describe("an exception of the SDK", () => {
  const thrown = (name: string, status: number | null, more: object = {}): Error =>
    Object.assign(new Error("canary"), {
      name,
      ...(status !== null && { $metadata: { httpStatusCode: status, requestId: "r-1" } }),
      ...more,
    });

  it.each([
    ["Throttling", 400, "throttled", "no"],
    ["AnythingNew", 429, "throttled", "no"],
    ["InvalidClientTokenId", 403, "unauthenticated", "no"],
    ["ExpiredToken", 403, "unauthenticated", "no"],
    ["AccessDenied", 403, "denied", "no"],
    ["Forbidden", 403, "denied", "no"],
    ["NoSuchEntityException", 404, "not-found", "no"],
    ["LimitExceededException", 409, "quota", "no"],
    ["EntityTemporarilyUnmodifiableException", 409, "conflict", "no"],
    ["Whatever", 400, "invalid", "no"],
    ["RequestTimeout", 408, "unavailable", "maybe"],
    ["InternalFailure", 500, "unavailable", "maybe"],
    ["SyntaxError", 200, "unavailable", "maybe"],
    ["CredentialsProviderError", null, "unauthenticated", "no"],
    ["TypeError", null, "unavailable", "no"],
  ])("%s (%s) is %s, applied %s", (name, status, kind, applied) => {
    const error = failureOfAws(thrown(name, status), "iam:CreateAccessKey", true, {});
    expect([error.kind, error.applied]).toEqual([kind, applied]);
    expect(error.message).toMatch(/^iam:CreateAccessKey: /);
    expect(JSON.stringify([error.message, error])).not.toContain("canary");
    expect(failureOfAws(thrown(name, status), "iam:ListUsers", false, {}).applied).toBe("no");
  });

  it("names the action that is missing, and what to do", () => {
    const message = "User: canary is not authorized to perform: kms:Decrypt on resource: canary";
    const denied = failureOfAws(thrown("AccessDeniedException", 400, { message }), "ssm:GetParameter", false, {});
    expect(denied.detail.hint).toContain("kms:Decrypt");
    expect(denied.detail.hint).not.toContain("canary");
    expect(failureOfAws(thrown("ExpiredToken", 403), "iam:GetUser", false, {}).detail.hint).toContain("aws sso login");
    const job = { GITHUB_ACTIONS: "true" };
    expect(failureOfAws(thrown("CredentialsProviderError", null), "AWS", false, job).detail.hint).toContain("id-token");
    expect(failureOfAws(thrown("RequestTimeTooSkewed", 403), "iam:GetUser", false, {}).detail.hint).toContain("clock");
  });

  it("keeps the request id, the code and what was asked for, where they have the form of one", () => {
    const $response = { headers: { "retry-after": "3" } };
    const error = failureOfAws(thrown("SlowDown", 503, { $response }), "iam:GetUser", false, {});
    expect(error).toMatchObject({ kind: "throttled", detail: { requestId: "r-1", retryAfter: 3000 } });
    expect(awsCodeOf(error)).toBe("SlowDown");
    const odd = thrown("can ary!", 400, { $metadata: { httpStatusCode: 400, requestId: "canary canary" } });
    const judged = failureOfAws(odd, "iam:GetUser", false, {});
    expect(JSON.stringify([judged.message, judged])).not.toMatch(/can ?ary/);
  });
});

it("another account than the expected one is a finding", () => {
  expect(accountFindings(undefined, "1", "user x")).toEqual([]);
  expect(accountFindings("1", "1", "user x")).toEqual([]);
  expect(accountFindings("2", "1", "user x")).toMatchObject([{ reason: "identity-mismatch", blocks: true }]);
});

describe.runIf(there)("AWS", () => {
  let moto: Moto;
  let wire: Wire;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "keyturn-aws-"));
    moto = await startMoto();
    wire = await startWire(() => moto.url);
  });
  afterEach(() => wire?.reset());
  afterAll(async () => {
    await wire?.close();
    await moto?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const at = (more: Readonly<Record<string, string>> = {}, place: AwsPlace = { region: REGION }) =>
    awsAt(place, depsOf({ ...moto.env, AWS_ENDPOINT_URL: wire.url, ...more }));
  const list = () => new ListSecretsCommand({});

  it("says who we are, asked once for each key", async () => {
    const aws = at();
    const [first] = await Promise.all([aws.identity(ctx()), aws.identity(ctx())]);
    expect(first).toMatchObject({ account: ACCOUNT, accessKeyId: moto.env["AWS_ACCESS_KEY_ID"] });
    expect(first.arn).toContain(`:${ACCOUNT}:`);
    expect(wire.calls.map(({ action }) => action)).toEqual(["GetCallerIdentity"]);
  });

  it("sends each call once, however it fails", async () => {
    for (const status of [400, 429, 500, 503]) {
      wire.reset();
      wire.instead = () => ({ status, body: JSON.stringify({ __type: "ThrottlingException" }) });
      await failure(at().send("secretsmanager:ListSecrets", list(), look));
      expect(wire.calls).toHaveLength(1);
    }
    wire.reset();
    wire.instead = () => "cut";
    const create = new CreateSecretCommand({ Name: "lost", SecretString: "x" });
    const lost = at().send("secretsmanager:CreateSecret", create, { ctx: ctx(), mutates: true });
    expect(await failure(lost)).toMatchObject({ kind: "unavailable", applied: "maybe" });
    expect(wire.calls).toHaveLength(1);
  });

  it("sends nothing that its fence refuses", async () => {
    const create = new CreateSecretCommand({ Name: "fenced", SecretString: "x" });
    const fenced = at().send("secretsmanager:CreateSecret", create, { ctx: fencedCtx(), mutates: true });
    const error = await failure(fenced);
    expect(error).toMatchObject({ kind: "unavailable", applied: "no", message: "the call's time has passed" });
    expect(Object.keys(error)).not.toContain("$metadata");
    expect(wire.calls).toEqual([]);
  });

  it("names keyturn, the rotation and the version in the user agent, and hands on the server's clock", async () => {
    const heard: number[] = [];
    const sending = { ...look, version: "v3-9f2c", heard: (at: number) => void heard.push(at) };
    await at().send("secretsmanager:ListSecrets", list(), sending);
    const missing = new GetSecretValueCommand({ SecretId: "none", VersionStage: "AWSCURRENT" });
    await failure(at().send("secretsmanager:GetSecretValue", missing, sending));
    expect(wire.calls[0]?.userAgent).toMatch(/^keyturn\/\S+ \(r-test; v3-9f2c\) aws-sdk-js\//);
    expect(heard).toHaveLength(2);
    expect(Math.abs((heard[0] ?? 0) - Date.now())).toBeLessThan(60_000);
  });

  it("reaches each service where the setting or the environment says", async () => {
    const dead = "http://127.0.0.1:1";
    const reaches = async (env: Readonly<Record<string, string>>, place: AwsPlace): Promise<boolean[]> => {
      const aws = at(env, place);
      const asked = [
        aws.send("secretsmanager:ListSecrets", list(), look),
        aws.send("sts:GetCallerIdentity", new GetCallerIdentityCommand({}), look),
      ];
      return (await Promise.allSettled(asked)).map(({ status }) => status === "fulfilled");
    };
    const region = REGION;
    expect(await reaches({}, { region })).toEqual([true, true]);
    expect(await reaches({ AWS_ENDPOINT_URL: dead }, { region, endpoint: wire.url })).toEqual([true, true]);
    const own = { AWS_ENDPOINT_URL: dead, AWS_ENDPOINT_URL_SECRETS_MANAGER: wire.url };
    expect(await reaches(own, { region })).toEqual([true, false]);
    expect(await reaches({ AWS_ENDPOINT_URL_STS: dead }, { region })).toEqual([true, false]);
  });

  it("asks with a profile of the files, and reads it again once its keys were refused or replaced", async () => {
    const file = join(folder, "credentials");
    const write = (id: string): Promise<void> =>
      writeFile(file, `[ci]\naws_access_key_id = ${id}\naws_secret_access_key = secret\n`);
    // The SDK's own chain reads the process's environment, which in production is the same.
    const files = { AWS_SHARED_CREDENTIALS_FILE: file, AWS_CONFIG_FILE: "/dev/null" };
    const before = { ...process.env };
    Object.assign(process.env, files);
    try {
      const deps = depsOf({ ...awsless(), AWS_ENDPOINT_URL: wire.url, AWS_PROFILE: "ci" });
      const aws = awsAt({ region: REGION }, deps);
      const used = async (): Promise<string | undefined> => {
        await aws.send("secretsmanager:ListSecrets", list(), look).catch(() => {});
        return wire.calls.at(-1)?.accessKeyId;
      };
      await write("AKIAONE");
      expect(await used()).toBe("AKIAONE");
      await write("AKIATWO");
      expect(await used()).toBe("AKIAONE");
      forgetAwsCredentials(deps);
      expect(await used()).toBe("AKIATWO");
      await write("AKIATHREE");
      wire.instead = () => ({ status: 403, body: JSON.stringify({ __type: "UnrecognizedClientException" }) });
      await used();
      wire.instead = () => null;
      expect(await used()).toBe("AKIATHREE");
    } finally {
      for (const name of Object.keys(files)) delete process.env[name];
      Object.assign(process.env, before);
    }
  });

  it("has a hint where there are no credentials, and where there is no such region", async () => {
    const none = awsAt(
      { region: REGION, profile: "nobody-here" },
      depsOf({ ...awsless(), AWS_ENDPOINT_URL: wire.url }),
    );
    const error = await failure(none.identity(ctx()));
    expect(error).toMatchObject({ kind: "unauthenticated", applied: "no" });
    expect(error.message).toMatch(/^\S+: no usable credentials$/);
    expect(error.detail.hint).toContain("profile");
    const nowhere = at({}, { region: REGION, endpoint: "http://secretsmanager.eu-nowhere-1.invalid" });
    const lost = await failure(nowhere.send("secretsmanager:ListSecrets", list(), look));
    expect(lost).toMatchObject({ kind: "unavailable", applied: "no" });
  });

  it("tries keys that are handed over, in another region too", async () => {
    const other = at().as({ accessKeyId: "AKIAOTHER", secretAccessKey: "x" }, "us-east-1");
    await other.send("sts:GetCallerIdentity", new GetCallerIdentityCommand({}), look);
    expect(wire.calls).toMatchObject([{ accessKeyId: "AKIAOTHER", region: "us-east-1" }]);
  });

  it("reads a CA bundle, and says which one it cannot read", async () => {
    const error = await failure(at({ AWS_CA_BUNDLE: "/no/such.pem" }).send("secretsmanager:ListSecrets", list(), look));
    expect(error).toMatchObject({ kind: "invalid", applied: "no" });
    expect(error.message).toContain("/no/such.pem");
  });

  describe("simulated permissions", () => {
    const line: AwsPermission = {
      for: "aws",
      why: "tests",
      actions: ["iam:CreateAccessKey", "iam:DeleteAccessKey"],
      resources: ["arn:aws:iam::123456789012:user/x"],
    };
    /** What IAM answers: moto has no simulation. */
    const answering = (decisions: Readonly<Record<string, string>>, context = "") => {
      wire.instead = ({ action }) => {
        if (action === "GetCallerIdentity") return who(`arn:aws:iam::${ACCOUNT}:user/ci`);
        if (action !== "SimulatePrincipalPolicy") return null;
        const results = Object.entries(decisions).map(
          ([name, decision]) =>
            `<member><EvalActionName>${name}</EvalActionName><EvalDecision>${decision}</EvalDecision>${context}</member>`,
        );
        return xml("SimulatePrincipalPolicy", `<EvaluationResults>${results.join("")}</EvaluationResults>`);
      };
    };
    const xml = (action: string, result: string) => ({
      status: 200,
      body: `<${action}Response><${action}Result>${result}</${action}Result></${action}Response>`,
      headers: { "content-type": "text/xml" },
    });
    const who = (arn: string) =>
      xml("GetCallerIdentity", `<Arn>${arn}</Arn><UserId>U</UserId><Account>${ACCOUNT}</Account>`);

    it("allowed and denied, line by line", async () => {
      answering({ "iam:CreateAccessKey": "allowed", "iam:DeleteAccessKey": "implicitDeny" });
      expect([...(await simulate(at(), line.actions, line.resources, ctx()))]).toEqual([
        ["iam:CreateAccessKey", "allowed"],
        ["iam:DeleteAccessKey", "denied"],
      ]);
      const findings = await permissionFindings(at(), [line], ctx());
      expect(findings).toMatchObject([{ reason: "permission-missing", blocks: true }]);
      expect(findings[0]?.message).toBe(`not allowed: iam:DeleteAccessKey on ${line.resources[0]} (tests)`);
    });

    it("denies nothing that has just been done, nor what rests on conditions of the real request", async () => {
      answering({ "iam:CreateAccessKey": "implicitDeny", "iam:DeleteAccessKey": "explicitDeny" });
      const proven = { proven: ["iam:CreateAccessKey"] } as const;
      expect(await permissionFindings(at(), [line], ctx(), proven)).toMatchObject([{ blocks: false }]);
      answering(
        { "iam:CreateAccessKey": "implicitDeny" },
        "<MissingContextValues><member>aws:x</member></MissingContextValues>",
      );
      const verdicts = await simulate(at(), ["iam:CreateAccessKey"], ["*"], ctx());
      expect(verdicts.get("iam:CreateAccessKey")).toBe("cannot-tell");
    });

    it("asks about the role behind a session", async () => {
      wire.instead = ({ action }) => {
        if (action === "GetCallerIdentity") return who(`arn:aws:sts::${ACCOUNT}:assumed-role/ci/session`);
        if (action === "GetRole") return xml("GetRole", `<Role><Arn>arn:aws:iam::${ACCOUNT}:role/path/ci</Arn></Role>`);
        return action === "SimulatePrincipalPolicy" ? { status: 403, body: "<html>" } : null;
      };
      const verdicts = await simulate(at(), line.actions, line.resources, ctx());
      expect(new Set(verdicts.values())).toEqual(new Set(["cannot-tell"]));
      expect(wire.calls.at(-1)?.param("PolicySourceArn")).toBe(`arn:aws:iam::${ACCOUNT}:role/path/ci`);
    });

    it("cannot tell where there is no simulation, and then a harmless request may", async () => {
      expect(await permissionFindings(at(), [line], ctx())).toMatchObject([{ blocks: false }]);
      const probe = async (action: string) => (action.includes("Create") ? ("allowed" as const) : ("denied" as const));
      const findings = await permissionFindings(at(), [line], ctx(), { probe });
      expect(findings.map(({ blocks }) => blocks)).toEqual([true]);
      const fails = (kind: "denied" | "invalid" | "unavailable") => Promise.reject(new ProviderError(kind, "no", "x"));
      expect(await probed(fails("denied"))).toBe("denied");
      expect(await probed(fails("invalid"))).toBe("allowed");
      expect(await probed(fails("unavailable"))).toBe("cannot-tell");
    });
  });

  function awsless(): Record<string, string> {
    const named = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    return Object.fromEntries(Object.entries(moto.env).filter(([name]) => !named.includes(name)));
  }
});
