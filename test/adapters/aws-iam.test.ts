import {
  CreateAccessKeyCommand,
  CreateUserCommand,
  DeleteAccessKeyCommand,
  IAMClient,
  ListAccessKeysCommand,
  PutUserPolicyCommand,
  UpdateAccessKeyCommand,
} from "@aws-sdk/client-iam";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/issuers/aws-iam.ts";
import { ProviderError } from "../../src/core/errors.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import type { Store } from "../../src/ports/store.ts";
import { issuerContract } from "../contract/issuer.ts";
import { ctx, fencedCtx } from "../contract/store.ts";
import { ACCOUNT, motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { startWire, type Wire, type WireAnswer } from "../support/wire.ts";

const there = (await motoPython()) !== null;
const ALL = [
  "iam:GetUser",
  "iam:ListAccessKeys",
  "iam:CreateAccessKey",
  "iam:UpdateAccessKey",
  "iam:DeleteAccessKey",
  "iam:GetAccessKeyLastUsed",
];
const ABSENT = "AKIAQ2222222222222ZZ";
const JUNK = SecretValue.of({ accessKeyId: ABSENT, secretAccessKey: "s/".repeat(20) });

describe.runIf(there)("aws-iam", () => {
  let moto: Moto;
  let iam: IAMClient;
  let wire: Wire;
  let user: string;
  let made = 0;
  beforeAll(async () => {
    moto = await startMoto({ auth: true });
    iam = new IAMClient({ ...clientOf(moto.env), endpoint: moto.url });
  });
  afterAll(async () => moto?.stop());
  beforeEach(async () => {
    user = `bot-${++made}`;
    await iam.send(new CreateUserCommand({ UserName: user, Path: "/team/" }));
    wire = await startWire(() => moto.url);
  });
  afterEach(async () => wire.close());

  const clientOf = (env: Readonly<Record<string, string>>) => ({
    region: REGION,
    maxAttempts: 1,
    credentials: {
      accessKeyId: env["AWS_ACCESS_KEY_ID"] ?? "",
      secretAccessKey: env["AWS_SECRET_ACCESS_KEY"] ?? "",
    },
  });
  const issuer = (more: Record<string, unknown> = {}, env = moto.env, stores: Store[] = [], now = Date.now): Issuer => {
    const deps = {
      folder: "/",
      env: { ...env },
      now,
      sleep: () => Promise.resolve(),
      debug: () => {},
      announce: () => {},
    };
    const given = { user, expect: { account: ACCOUNT }, ...more };
    return adapter.create(adapter.settings.parse(given), "payments", deps, stores);
  };
  const through = (more: Record<string, unknown> = {}, stores: Store[] = []) =>
    issuer({ endpoint: wire.url, ...more }, moto.env, stores);
  const strangersKey = async (UserName = user) => {
    const { AccessKey: key } = await iam.send(new CreateAccessKeyCommand({ UserName }));
    return { id: key?.AccessKeyId ?? "", secret: key?.SecretAccessKey ?? "" };
  };
  const use = (value: SecretValue, region = REGION) => {
    const { accessKeyId = "", secretAccessKey = "" } = value.reveal();
    const credentials = { accessKeyId, secretAccessKey };
    return new STSClient({ region, endpoint: moto.url, maxAttempts: 1, credentials }).send(
      new GetCallerIdentityCommand({}),
    );
  };
  const keysOf = async (UserName = user) =>
    (await iam.send(new ListAccessKeysCommand({ UserName }))).AccessKeyMetadata ?? [];
  /** Somebody who may do just this, on anything: moto matches no ARNs. */
  const runner = async (actions: readonly string[]): Promise<Record<string, string>> => {
    const UserName = `runner-${++made}`;
    await iam.send(new CreateUserCommand({ UserName }));
    await allow(UserName, actions);
    const { id, secret } = await strangersKey(UserName);
    return { ...moto.env, AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret };
  };
  const allow = (UserName: string, Action: readonly string[]) => {
    const PolicyDocument = JSON.stringify({
      Version: "2012-10-17",
      Statement: [{ Effect: "Allow", Action: Action.length === 0 ? ["none:None"] : Action, Resource: "*" }],
    });
    return iam.send(new PutUserPolicyCommand({ UserName, PolicyName: "some", PolicyDocument }));
  };
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => expect.unreachable("it did not fail"),
      (error: unknown) => {
        expect(error).toBeInstanceOf(ProviderError);
        return error as ProviderError;
      },
    );

  issuerContract("aws-iam", async () => {
    const stranger = await strangersKey();
    return {
      url: moto.url,
      open: (endpoint = moto.url) => issuer({ endpoint }),
      strangers: async () => (await keysOf()).filter(({ AccessKeyId }) => AccessKeyId === stranger.id),
      junk: JUNK,
      absent: ABSENT,
      dispose: async () => {},
    };
  });

  describe("keys", () => {
    it("leaves other users' keys alone, whatever it is asked", async () => {
      const UserName = `other-${++made}`;
      await iam.send(new CreateUserCommand({ UserName }));
      const { id, secret } = await strangersKey(UserName);
      const mine = issuer();
      await mine.disable(id, ctx());
      await mine.delete(id, ctx());
      expect(await failure(mine.enable(id, ctx()))).toMatchObject({ kind: "not-found" });
      const value = SecretValue.of({ accessKeyId: id, secretAccessKey: secret });
      expect(await failure(mine.verify(value, ctx()))).toMatchObject({ kind: "invalid", applied: "no" });
      expect(await mine.identify?.(value, ctx())).toBeNull();
      expect((await mine.usage?.usageOf([id], 0, ctx()))?.get(id)).toMatchObject({ status: "unknown" });
      expect(await keysOf(UserName)).toMatchObject([{ AccessKeyId: id, Status: "Active" }]);
    });

    it("lists all pages or nothing", async () => {
      await strangersKey();
      await strangersKey();
      const pages: string[] = [];
      wire.answer = (call, answer) => pageOf(call.param("Marker") ?? "", answer, pages);
      expect((await through().list(ctx())).keys).toHaveLength(2);
      expect(pages).toEqual(["", "1"]);
      wire.answer = (call, answer) => (call.param("Marker") ? "cut" : pageOf("", answer, []));
      expect(await failure(through().list(ctx()))).toMatchObject({ kind: "unavailable", applied: "no" });
      wire.answer = (_, answer) => pageOf("", answer, [], "");
      expect(await failure(through().list(ctx()))).toMatchObject({ kind: "unavailable" });
    });

    it("takes the time from IAM's clock", async () => {
      const date = "Sat, 21 Nov 2020 10:00:07 GMT";
      wire.answer = (_, answer) => ({ ...answer, headers: { ...answer.headers, date } });
      expect((await through().list(ctx())).asOf).toBe(Date.parse(date));
    });

    it("asks once, with the version id in the user agent, and says what a full user is", async () => {
      const { keyId } = await through().issue("v3-9f2c", null, ctx());
      expect(wire.calls.map(({ action }) => action)).toEqual(["CreateAccessKey"]);
      expect(wire.calls[0]?.userAgent).toMatch(/^keyturn\/\S+ \(r-test; v3-9f2c\)/);
      expect(wire.calls[0]?.param("UserName")).toBe(user);
      await strangersKey();
      wire.reset();
      const full = await failure(through().issue("v4-1a2b", null, ctx()));
      expect(full).toMatchObject({ kind: "quota", applied: "no", detail: { hint: expect.stringContaining(user) } });
      expect(wire.calls).toHaveLength(1);
      expect((await keysOf()).map(({ AccessKeyId }) => AccessKeyId)).toContain(keyId);
    });

    it("does not revoke the key that it signs with", async () => {
      await allow(user, ["iam:*"]);
      const own = await strangersKey();
      const env = { ...moto.env, AWS_ACCESS_KEY_ID: own.id, AWS_SECRET_ACCESS_KEY: own.secret };
      const mine = issuer({}, env);
      for (const call of [() => mine.disable(own.id, ctx()), () => mine.delete(own.id, ctx())]) {
        const hint = expect.stringContaining("deliver");
        expect(await failure(call())).toMatchObject({ kind: "invalid", applied: "no", detail: { hint } });
      }
      expect(await keysOf()).toMatchObject([{ AccessKeyId: own.id, Status: "Active" }]);
    });
  });

  describe("verify", () => {
    const storeIn = (...regions: string[]) => ({ regions: async () => regions }) as unknown as Store;

    it("asks every region that matters, on a connection of its own", async () => {
      const { value } = await issuer().issue("v1", null, ctx());
      const asked = async (mine: Issuer, answer = "accepted") => {
        wire.reset();
        expect(await mine.verify(value, ctx())).toBe(answer);
        const { accessKeyId } = value.reveal();
        return wire.calls
          .filter((call) => call.accessKeyId === accessKeyId)
          .map(({ region }) => region)
          .sort();
      };
      expect(await asked(through())).toEqual(["us-east-1"]);
      const stores = [storeIn("eu-west-1", "ap-south-1"), storeIn("us-east-1"), {} as Store];
      expect(await asked(through({}, stores))).toEqual(["ap-south-1", "eu-west-1", "us-east-1"]);
      expect(await asked(through({ verifyRegions: ["eu-central-1"] }, stores))).toEqual(["eu-central-1"]);
      expect(await asked(through({ region: "cn-northwest-1" }), "rejected")).toEqual(["cn-north-1"]);
    });

    it("is a rejection as soon as one region rejects, and none when one cannot tell", async () => {
      const { value } = await issuer().issue("v1", null, ctx());
      const mine = through({ verifyRegions: ["eu-west-1", "eu-west-2", "eu-west-3"] });
      const inRegion = (region: string, instead: WireAnswer | "cut") => {
        wire.instead = (call) =>
          call.region === region && call.accessKeyId === value.reveal()[`accessKeyId`] ? instead : null;
      };
      for (const code of ["InvalidClientTokenId", "SignatureDoesNotMatch"]) {
        inRegion("eu-west-2", stsError(403, code));
        expect(await mine.verify(value, ctx())).toBe("rejected");
      }
      for (const instead of [
        "cut" as const,
        stsError(500, "InternalFailure"),
        stsError(400, "Throttling"),
        stsError(403, "AccessDenied"),
        stsError(403, "RequestTimeTooSkewed"),
        { status: 403, body: "<html>sign in first</html>" },
      ]) {
        inRegion("eu-west-3", instead);
        expect(await failure(mine.verify(value, ctx()))).toMatchObject({ applied: "no" });
      }
      wire.reset();
      expect(await mine.verify(value, ctx())).toBe("accepted");
    });

    it("does not take a wrong clock for a wrong key", async () => {
      const { value } = await issuer().issue("v1", null, ctx());
      const date = new Date(Date.now() - 6 * 60_000).toUTCString();
      wire.instead = (call) =>
        call.accessKeyId === value.reveal()["accessKeyId"]
          ? { ...stsError(403, "SignatureDoesNotMatch"), headers: { date } }
          : null;
      expect(await failure(through().verify(value, ctx()))).toMatchObject({
        kind: "unavailable",
        detail: { hint: "set this machine's clock" },
      });
    });

    it("cannot be fooled by a key of another account", async () => {
      const { value } = await issuer().issue("v1", null, ctx());
      wire.answer = (call, answer) =>
        call.accessKeyId === value.reveal()["accessKeyId"]
          ? { ...answer, body: answer.body.replaceAll(ACCOUNT, "210987654321") }
          : answer;
      expect(await failure(through().verify(value, ctx()))).toMatchObject({ kind: "invalid", applied: "no" });
      expect(await failure(through().verify(SecretValue.of({ accessKeyId: "x" }), ctx()))).toMatchObject({
        kind: "invalid",
      });
    });
  });

  describe("usage", () => {
    it("names service and region of the last use, and covers the key's whole life", async () => {
      const mine = issuer();
      const { keyId, value, createdAt } = await mine.issue("v1", null, ctx());
      const seen = async () => (await mine.usage?.usageOf([keyId], 0, fencedCtx()))?.get(keyId);
      const unused = await seen();
      expect(unused).toMatchObject({ status: "covered", from: createdAt, events: [] });
      expect(unused?.until).toBeGreaterThanOrEqual(createdAt);
      const before = Date.now() - 1000;
      await use(value, "ap-south-1");
      const used = await seen();
      expect(used).toMatchObject({ status: "covered", from: createdAt });
      const [event, ...others] = used?.events ?? [];
      expect(event).toMatchObject({ who: "sts (ap-south-1)", count: 1, outcome: "ok" });
      expect(event?.last).toBeGreaterThanOrEqual(before);
      expect(event?.first).toBe(event?.last);
      expect(others).toEqual([]);
      expect(mine.usage?.traits).toMatchObject({ history: "last-only", names: "service", seesDenied: false });
    });

    it("is nothing that it could not ask", async () => {
      const { keyId } = await issuer().issue("v1", null, ctx());
      wire.instead = (call) => (call.action === "GetAccessKeyLastUsed" ? stsError(503, "ServiceUnavailable") : null);
      expect(await failure(through().usage?.usageOf([keyId], 0, ctx()) ?? Promise.resolve())).toMatchObject({
        kind: "unavailable",
      });
      wire.instead = (call) => (call.action === "GetAccessKeyLastUsed" ? { status: 200, body: "<x/>" } : null);
      await failure(through().usage?.usageOf([keyId], 0, ctx()) ?? Promise.resolve());
    });
  });

  describe("what it says of itself", () => {
    it("binds to account and user, and changes nothing", async () => {
      const { keyId } = await issuer().issue("v1", null, ctx());
      const before = await keysOf();
      const { binding, findings } = await issuer().describe(fencedCtx());
      expect(binding).toBe(`aws-iam:${ACCOUNT}:${user}`);
      expect(findings).toEqual([
        {
          reason: "permission-missing",
          blocks: false,
          message: `cannot tell whether iam:CreateAccessKey on arn:aws:iam::${ACCOUNT}:user/team/${user} is allowed`,
          hint: expect.stringContaining("iam:SimulatePrincipalPolicy"),
        },
      ]);
      expect(await keysOf()).toEqual(before);
      expect((await issuer().list(ctx())).keys).toMatchObject([{ keyId, state: "enabled" }]);
    });

    it.each([
      "iam:GetUser",
      "iam:ListAccessKeys",
      "iam:UpdateAccessKey",
      "iam:DeleteAccessKey",
      "iam:GetAccessKeyLastUsed",
    ])("names %s when it is missing", async (missing) => {
      await strangersKey();
      const env = await runner(ALL.filter((action) => action !== missing));
      const { findings } = await issuer({}, env).describe(ctx());
      expect(findings.filter(({ blocks }) => blocks)).toMatchObject([
        { reason: "permission-missing", message: expect.stringContaining(missing) },
      ]);
    });

    it("has IAM simulate what cannot be tried, where it may", async () => {
      const simulated = (denied: string) => {
        wire.instead = (call) => (call.action === "SimulatePrincipalPolicy" ? simulation(denied) : null);
      };
      simulated("none");
      expect((await through().describe(ctx())).findings).toEqual([]);
      expect(wire.calls.map(({ action }) => action).filter((action) => /^(Create|Update|Delete)/.test(action))).toEqual(
        [],
      );
      simulated("iam:CreateAccessKey");
      expect((await through().describe(ctx())).findings).toMatchObject([
        { reason: "permission-missing", blocks: true, message: expect.stringContaining("iam:CreateAccessKey on arn:") },
      ]);
    });

    it("needs no more than it says", async () => {
      const env = await runner(
        issuer()
          .permissions?.()
          .flatMap((line) => (line.for === "aws" ? line.actions : [])) ?? [],
      );
      const mine = issuer({}, env);
      expect((await mine.describe(ctx())).findings.filter(({ blocks }) => blocks)).toEqual([]);
      const { keyId, value } = await mine.issue("v1", null, ctx());
      expect(await mine.verify(value, ctx())).toBe("accepted");
      await mine.usage?.usageOf([keyId], 0, ctx());
      await mine.disable(keyId, ctx());
      await mine.enable(keyId, ctx());
      await mine.delete(keyId, ctx());
      expect(mine.permissions?.().flatMap((line) => (line.for === "aws" ? line.resources : []))).toEqual(
        Array.from({ length: 4 }, () => `arn:aws:iam::${ACCOUNT}:user/team/${user}`),
      );
      expect(issuer({ region: "cn-north-1" }).permissions?.()[0]).toMatchObject({
        resources: [`arn:aws-cn:iam::${ACCOUNT}:user/${user}`],
      });
    });

    it("finds another account, a user that is not there, and a clock that is off", async () => {
      const reasons = async (mine: Issuer) =>
        (await mine.describe(ctx())).findings.map((one) => [one.reason, one.blocks]);
      expect(await reasons(issuer({ expect: { account: "210987654321" } }))).toEqual([["identity-mismatch", true]]);
      expect(await reasons(issuer({ user: "nobody" }))).toEqual([["identity-mismatch", true]]);
      const off = issuer({}, moto.env, [], () => Date.now() + 120_000);
      expect(await reasons(off)).toEqual([
        ["permission-missing", false],
        ["credentials-missing", false],
      ]);
    });

    it("refuses to saw off the branch it sits on, unless told how it goes on", async () => {
      await allow(user, ALL);
      const own = await strangersKey();
      const env = { ...moto.env, AWS_ACCESS_KEY_ID: own.id, AWS_SECRET_ACCESS_KEY: own.secret };
      const blocking = async (mine: Issuer) =>
        (await mine.describe(ctx())).findings.filter(({ blocks }) => blocks).map(({ message }) => message);
      expect(await blocking(issuer({}, env))).toEqual([expect.stringContaining("signs with a key of")]);
      expect(await blocking(issuer({ self: true }, env))).toEqual([expect.stringContaining("AWS_ACCESS_KEY_ID")]);
      expect(await blocking(issuer({ self: true }))).toEqual([]);
    });

    it("throws where nobody can be asked", async () => {
      expect(await failure(issuer({ endpoint: "http://127.0.0.1:1" }).describe(ctx()))).toMatchObject({
        kind: "unavailable",
      });
      const refused = { ...moto.env, AWS_SECRET_ACCESS_KEY: "wrong" };
      expect(await failure(issuer({}, refused).describe(ctx()))).toMatchObject({ kind: "unauthenticated" });
      expect(await failure(issuer({}, refused).list(ctx()))).toMatchObject({ kind: "unauthenticated" });
    });
  });

  it("sees a key that others turned off or deleted meanwhile", async () => {
    const mine = issuer();
    const { keyId, value } = await mine.issue("v1", null, ctx());
    const on = { UserName: user, AccessKeyId: keyId };
    await iam.send(new UpdateAccessKeyCommand({ ...on, Status: "Inactive" }));
    expect((await mine.list(ctx())).keys).toMatchObject([{ keyId, state: "disabled" }]);
    expect(await mine.verify(value, ctx())).toBe("rejected");
    await iam.send(new DeleteAccessKeyCommand(on));
    expect((await mine.list(ctx())).keys).toEqual([]);
  });
});

/** IAM's answer cut into pages of one key. */
function pageOf(marker: string, answer: WireAnswer, pages: string[], next = "1"): WireAnswer {
  const members = answer.body.match(/<member>.*?<\/member>/gs) ?? [];
  if (members.length === 0) return answer;
  pages.push(marker);
  const body = answer.body.replace(/<AccessKeyMetadata>.*<\/AccessKeyMetadata>/s, () => {
    const more = marker === "" ? `<IsTruncated>true</IsTruncated><Marker>${next}</Marker>` : "";
    return `<AccessKeyMetadata>${members[Number(marker)]}</AccessKeyMetadata>${more}`;
  });
  return { ...answer, body };
}

function stsError(status: number, code: string): WireAnswer {
  const body = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>${code}</Code><Message>no</Message></Error><RequestId>r-1</RequestId></ErrorResponse>`;
  return { status, body, headers: { "content-type": "text/xml", "x-amzn-requestid": "r-1" } };
}

/** What IAM's simulation answers where all but one is allowed. */
function simulation(denied: string): WireAnswer {
  const results = ALL.map((action) => {
    const decision = action === denied ? "implicitDeny" : "allowed";
    return `<member><EvalActionName>${action}</EvalActionName><EvalResourceName>*</EvalResourceName><EvalDecision>${decision}</EvalDecision><MissingContextValues/></member>`;
  });
  const body = `<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>${results.join("")}</EvaluationResults></SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>`;
  return { status: 200, body, headers: { "content-type": "text/xml", "x-amzn-requestid": "r-1" } };
}

it("tells the wiring the settings on keys that only their time shows to be ours", () => {
  const of = (more: object) => adapter.inference?.(adapter.settings.parse({ user: "app", ...more }));
  expect(of({})).toEqual({ exclusive: false, orphans: "infer" });
  expect(of({ exclusive: true, orphans: "block" })).toEqual({ exclusive: true, orphans: "block" });
});
