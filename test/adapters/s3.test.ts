import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutBucketVersioningCommand,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/state/s3.ts";
import { newState } from "../../src/core/model.ts";
import type { StateBackend } from "../../src/ports/state.ts";
import { stateBackendContract } from "../contract/state-backend.ts";
import { motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { startWire, type Wire } from "../support/wire.ts";
import { depsOf } from "./aws-support.ts";

const there = (await motoPython()) !== null;
const payments = newState("payments", 0);

let moto: Moto;
let wire: Wire;
let client: S3Client;
beforeAll(async () => {
  if (!there) return;
  moto = await startMoto();
  wire = await startWire(() => moto.url);
  const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
  const credentials = { accessKeyId, secretAccessKey };
  client = new S3Client({ endpoint: moto.url, region: REGION, credentials, forcePathStyle: true, maxAttempts: 1 });
});
afterAll(async () => {
  client?.destroy();
  await wire?.close();
  await moto?.stop();
});

let buckets = 0;
async function bucket(versioned = false): Promise<string> {
  const Bucket = `state-${++buckets}`;
  await client.send(new CreateBucketCommand({ Bucket, CreateBucketConfiguration: { LocationConstraint: REGION } }));
  const VersioningConfiguration = { Status: "Enabled" } as const;
  if (versioned) await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
  return Bucket;
}

async function open(Bucket: string, more: object = {}): Promise<StateBackend> {
  return adapter.create(adapter.settings.parse({ bucket: Bucket, ...more }), depsOf(moto.env));
}

async function saved(state: StateBackend, expected: string | null = null, commitId = "c1"): Promise<string> {
  const answer = await state.save("payments", { ...payments, commitId }, expected);
  if (answer.result !== "saved") throw new Error(answer.result);
  return answer.revision;
}

describe.runIf(there)("s3", () => {
  for (const versioned of [false, true])
    stateBackendContract(versioned ? "s3, versioned" : "s3", async () => {
      const name = await bucket(versioned);
      return {
        open: () => open(name),
        advance: null,
        damage: async (secret) => {
          const Key = `keyturn/secrets/${secret}.json`;
          await client.send(new PutObjectCommand({ Bucket: name, Key, Body: '{"keyturn":1,"state":{' }));
        },
        openUnheard: () => {
          wire.answer = ({ action }, answer) => (/^PUT .*\/secrets\//.test(action) ? "cut" : answer);
          return open(name, { endpoint: wire.url });
        },
        dispose: async () => wire.reset(),
      };
    });

  it("keeps one object for each document below its prefix, and the audit log beside them", async () => {
    const name = await bucket();
    const state = await open(name, { prefix: "/ops/keyturn/" });
    expect(state.location).toBe(`s3://${name}/ops/keyturn`);
    expect(adapter.fromUrl(state.address as string)).toMatchObject({ bucket: name, prefix: "ops/keyturn" });
    await saved(state);
    await (await open(name, { prefix: "" })).save("other", newState("other", 0), null);
    const entry = { secret: "payments", seq: 1, previous: "", hash: "a", at: 1, actor: "t", type: "started", data: {} };
    await state.audit.append([entry]);
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: name }));
    expect(Contents.map(({ Key }) => Key)).toEqual([
      "keyturn.json",
      "ops/keyturn/audit/payments/000000000001.json",
      "ops/keyturn/keyturn.json",
      "ops/keyturn/secrets/payments.json",
      "secrets/other.json",
    ]);
    const found: string[] = [];
    for await (const one of state.loadAll()) found.push(one.state.name);
    expect(found).toEqual(["payments"]);
  });

  it("never tells an age that is more than the truth, in whole seconds as the server has them", async () => {
    const state = await open(await bucket());
    const before = Date.now();
    await saved(state);
    for (let look = 0; look < 15; look++) {
      const age = (await state.load("payments"))?.age ?? NaN;
      expect(age).toBeLessThanOrEqual(Date.now() - before);
      expect(age % 1000).toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect((await state.load("payments"))?.age).toBeGreaterThan(0);
  });

  it("encrypts by the key that it is told", async () => {
    const name = await bucket();
    await saved(await open(name, { kmsKey: "alias/state" }));
    const Key = "keyturn/secrets/payments.json";
    expect(await client.send(new HeadObjectCommand({ Bucket: name, Key }))).toMatchObject({
      ServerSideEncryption: "aws:kms",
      SSEKMSKeyId: "alias/state",
    });
  });

  it.each([
    ["its bucket's versions tell", true],
    ["its audit log is there", false],
  ])("takes a deleted document for damage, never for a new secret: %s", async (_, versioned) => {
    const name = await bucket(versioned);
    const state = await open(name, { endpoint: wire.url });
    // moto does not say what S3 does: docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
    const headers = { "x-amz-delete-marker": "true", date: new Date().toUTCString() };
    wire.answer = ({ action }, answer) =>
      versioned && answer.status === 404 && action.endsWith("payments.json") ? { ...answer, headers } : answer;
    await saved(state);
    const entry = { secret: "payments", seq: 1, previous: "", hash: "a", at: 1, actor: "t", type: "started", data: {} };
    if (!versioned) await state.audit.append([entry]);
    await client.send(new DeleteObjectCommand({ Bucket: name, Key: "keyturn/secrets/payments.json" }));
    await expect(state.load("payments")).rejects.toMatchObject({ code: "state-damaged", options: { exit: 3 } });
    expect(await state.load("other")).toBeNull();
    wire.reset();
  });

  it("does not take a document for deleted that somebody makes in that very moment", async () => {
    const name = await bucket();
    const [reader, maker] = [await open(name, { endpoint: wire.url }), await open(name)];
    const entry = { secret: "payments", seq: 1, previous: "", hash: "a", at: 1, actor: "t", type: "started", data: {} };
    wire.answer = async ({ action }, answer) => {
      // Seen to be absent; the answer is on its way.
      if (action.endsWith("payments.json") && answer.status === 404) {
        await saved(maker);
        await maker.audit.append([entry]);
      }
      return answer;
    };
    expect((await reader.load("payments"))?.state.commitId).toBe("c1");
    wire.reset();
  });

  it.each([
    ["no JSON", "{", "state-damaged"],
    ["another program's", '{"a":1}', "state-damaged"],
    ["another secret's", JSON.stringify({ keyturn: 1, state: newState("b", 0) }), "state-damaged"],
    ["of a newer document", JSON.stringify({ keyturn: 1, state: { ...payments, schema: 9 } }), "state-newer"],
    ["of a newer format", JSON.stringify({ keyturn: 2 }), "state-newer"],
  ])("refuses an object that is %s, and hands out the others", async (_, Body, code) => {
    const name = await bucket();
    const state = await open(name);
    await state.save("other", newState("other", 0), null);
    await client.send(new PutObjectCommand({ Bucket: name, Key: "keyturn/secrets/payments.json", Body }));
    await expect(state.load("payments")).rejects.toMatchObject({ code, options: { exit: 3 } });
    const found: string[] = [];
    const all = (async () => {
      for await (const { state: document } of state.loadAll()) found.push(document.name);
    })();
    await expect(all).rejects.toMatchObject({ code });
    expect(found).toEqual(["other"]);
    const { Body: kept } = await client.send(
      new GetObjectCommand({ Bucket: name, Key: "keyturn/secrets/payments.json" }),
    );
    expect(await kept?.transformToString()).toBe(Body);
  });

  it("cannot tell whether a save took effect when its answer is lost; the next look can. Nothing is sent twice", async () => {
    const name = await bucket();
    const state = await open(name, { endpoint: wire.url });
    const first = await saved(state);
    wire.reset();
    wire.answer = (call, answer) => (call.action.startsWith("PUT") ? "cut" : answer);
    expect(await state.save("payments", { ...payments, commitId: "c2" }, first)).toEqual({ result: "unknown" });
    wire.answer = (_, answer) => answer;
    wire.instead = (call) => (call.action.startsWith("PUT") ? { status: 503, body: "" } : null);
    const second = (await state.load("payments"))?.revision ?? "";
    expect(await state.save("payments", { ...payments, commitId: "c3" }, second)).toEqual({ result: "unknown" });
    expect((await state.load("payments"))?.state.commitId).toBe("c2");
    expect(wire.calls.filter(({ action }) => action.startsWith("PUT"))).toHaveLength(2);
    wire.reset();
  });

  it.each(["if-match", "if-none-match"])("refuses a server that does not hold to %s", async (header) => {
    const name = await bucket();
    const careless = createServer((incoming, outgoing) => {
      const { [header]: _, ...headers } = incoming.headers;
      const sent = request(new URL(incoming.url ?? "", moto.url), { method: incoming.method, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.pipe(outgoing);
      });
      incoming.pipe(sent);
    });
    await new Promise<void>((resolve) => careless.listen(0, "127.0.0.1", resolve));
    const endpoint = `http://127.0.0.1:${(careless.address() as AddressInfo).port}`;
    try {
      const state = await open(name, { endpoint });
      await expect(state.save("payments", payments, null)).rejects.toMatchObject({
        code: "state-without-cas",
        options: { exit: 3 },
      });
      expect(await state.load("payments")).toBeNull();
    } finally {
      careless.closeAllConnections();
      await new Promise((resolve) => careless.close(resolve));
    }
  });

  it("says what is wrong with the place", async () => {
    const nowhere = await open("no-such-bucket");
    const error = { name: "ProviderError", kind: "not-found", applied: "no" };
    await expect(nowhere.load("payments")).rejects.toMatchObject(error);
    await expect(nowhere.save("payments", payments, null)).rejects.toMatchObject(error);
    const gone = await open(await bucket(), { endpoint: "http://127.0.0.1:1" });
    for (const call of [gone.load("payments"), gone.save("payments", payments, null)])
      await expect(call).rejects.toMatchObject({
        kind: "unavailable",
        applied: "no",
        message: expect.stringContaining("connection refused") as string,
      });
    const denied = await open(await bucket(), { endpoint: wire.url });
    wire.instead = () => ({ status: 403, body: "<Error><Code>AccessDenied</Code><Message>no</Message></Error>" });
    await expect(denied.save("payments", payments, null)).rejects.toMatchObject({ kind: "denied", applied: "no" });
    wire.reset();
  });
});

describe("s3 URLs", () => {
  it.each([
    ["s3://bucket", { bucket: "bucket" }],
    [
      "s3://bucket/a/b?region=eu-west-1&endpoint=https://s3.example.com",
      { bucket: "bucket", prefix: "a/b", region: "eu-west-1", endpoint: "https://s3.example.com" },
    ],
  ])("%s", (url, expected) => {
    expect(adapter.fromUrl(url)).toEqual(expected);
  });

  it("one place has one location, and an address that leads there from anywhere", async () => {
    const created = (url: string, env = {}) =>
      adapter.create(adapter.settings.parse(adapter.fromUrl(url)), depsOf(env));
    const given = "s3://bucket/a?region=eu-west-1&profile=ops+team&kmsKey=alias/keyturn";
    const [plain, full] = [await created("s3://bucket/a", { AWS_REGION: "eu-west-1" }), await created(given)];
    expect([plain.location, full.location]).toEqual(["s3://bucket/a", "s3://bucket/a"]);
    expect(plain.address).toBe("s3://bucket/a?region=eu-west-1");
    expect(full.address).toBe("s3://bucket/a?region=eu-west-1&profile=ops%20team&kmsKey=alias/keyturn");
    expect((await created(full.address as string)).address).toBe(full.address);
    expect(adapter.fromUrl(full.address as string)).toEqual(adapter.fromUrl(given));
    const bare = await adapter.create(adapter.settings.parse({ bucket: "bucket", prefix: "" }), depsOf({}));
    expect(bare.address).toBe("s3://bucket?prefix=&region=us-east-1");
    expect((await created(bare.address as string)).location).toBe(bare.location);
    const server = "s3://bucket/a?region=us-east-1&endpoint=http://127.0.0.1:9000";
    expect((await created("s3://bucket/a?endpoint=http://127.0.0.1:9000")).address).toBe(server);
  });

  it.each(["s3:bucket", "s3://", "s3://UPPER", "s3://bucket?colour=red", "s3://bucket?region=mars"])(
    "%s is none",
    (url) => {
      expect(adapter.fromUrl(url)).toBeNull();
    },
  );
});
