import {
  AddTagsToResourceCommand,
  DescribeParametersCommand,
  GetParameterCommand,
  ListTagsForResourceCommand,
  PutParameterCommand,
  SSMClient,
} from "@aws-sdk/client-ssm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/stores/aws-ssm.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Store } from "../../src/ports/store.ts";
import { ctx, storeContract, type StoreUnderTest } from "../contract/store.ts";
import { ACCOUNT, motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { startWire, type Wire } from "../support/wire.ts";
import { depsOf } from "./aws-support.ts";

const there = (await motoPython()) !== null;
const FIELDS = { ID: "id", KEY: "key" };
const value = (n: number): SecretValue => SecretValue.of({ id: `id-${n}`, key: `key-${n}` });

describe.runIf(there)("aws-ssm", () => {
  let moto: Moto;
  let wire: Wire;
  let stranger: SSMClient;
  let made = 0;
  beforeAll(async () => {
    moto = await startMoto();
    wire = await startWire(() => moto.url);
    const credentials = {
      accessKeyId: moto.env["AWS_ACCESS_KEY_ID"] as string,
      secretAccessKey: moto.env["AWS_SECRET_ACCESS_KEY"] as string,
    };
    stranger = new SSMClient({ region: REGION, endpoint: moto.url, credentials });
  });
  afterAll(async () => {
    await wire?.close();
    await moto?.stop();
  });

  const nameOne = (): string => `/test/one-${++made}`;

  function open(name: string, more: object = {}, fields: Readonly<Record<string, string>> = FIELDS): Store {
    const settings = adapter.settings.parse({ region: REGION });
    const delivery = adapter.delivery.parse({ name, ...more });
    const env = { ...moto.env, AWS_ENDPOINT_URL: wire.url };
    return adapter.create(settings, delivery, { secret: "one", fields }, depsOf(env));
  }

  async function theirs(name: string, body: string, more: object = {}): Promise<void> {
    const put = { Name: name, Type: "SecureString" as const, Value: body, ...more };
    await stranger.send(new PutParameterCommand(put));
  }

  async function text(name: string): Promise<string | undefined> {
    const { Parameter } = await stranger.send(new GetParameterCommand({ Name: name, WithDecryption: true }));
    return Parameter?.Value;
  }

  async function settingsOf(name: string): Promise<unknown> {
    const filter = { Key: "Name", Option: "Equals", Values: [name] };
    const { Parameters } = await stranger.send(new DescribeParametersCommand({ ParameterFilters: [filter] }));
    const { KeyId, Tier, Description, AllowedPattern, DataType, Type } = Parameters?.[0] ?? {};
    const tags = await stranger.send(new ListTagsForResourceCommand({ ResourceType: "Parameter", ResourceId: name }));
    return { KeyId, Tier, Description, AllowedPattern, DataType, Type, tags: tags.TagList };
  }

  async function place(): Promise<StoreUnderTest> {
    const name = nameOne();
    const kept = { KeyId: "alias/theirs", Tier: "Advanced" as const, Description: "theirs", AllowedPattern: "^[^]*$" };
    await theirs(name, '{"n":1.0,"other":"x"}', kept);
    const Tags = [{ Key: "team", Value: "pay" }];
    await stranger.send(new AddTagsToResourceCommand({ ResourceType: "Parameter", ResourceId: name, Tags }));
    return {
      open: () => open(name),
      siblings: async () => [(await text(name))?.replace(/,"(?:KEY|ID)":.*/, "}"), await settingsOf(name)],
      dispose: async () => {},
    };
  }

  storeContract("aws-ssm", { fields: ["id", "key"] }, place);

  it("lives in its account and region, under its name", async () => {
    const name = nameOne();
    await theirs(name, "{}");
    const { binding } = await open(name).describe(ctx());
    expect(binding).toBe(`aws-ssm:${REGION}:${ACCOUNT}:${name}`);
  });

  it("makes a missing parameter only where it is told to, and with what", async () => {
    const name = nameOne();
    expect((await open(name).describe(ctx())).findings).toMatchObject([{ reason: "store-unsuitable", blocks: true }]);
    await expect(open(name).put("v1", value(1), null, ctx())).rejects.toMatchObject({ kind: "not-found" });
    const create = { description: "ours", tags: { team: "pay" } };
    const store = open(name, { create, tier: "Advanced" });
    expect((await store.describe(ctx())).findings.filter(({ blocks }) => blocks)).toEqual([]);
    await store.put("v1", value(1), null, ctx());
    expect(await text(name)).toBe('{"ID":"id-1","KEY":"key-1"}');
    expect(await settingsOf(name)).toMatchObject({
      Tier: "Advanced",
      Description: "ours",
      Type: "SecureString",
      tags: [{ Key: "team", Value: "pay" }],
    });
  });

  it("is one field where it is plain", async () => {
    const name = nameOne();
    await theirs(name, "theirs");
    const store = open(name, { plain: true }, { value: "key" });
    const { ref } = (await store.current(ctx())) ?? { ref: "" };
    await store.put("v1", SecretValue.of({ key: "ours" }), ref, ctx());
    expect(await text(name)).toBe("ours");
    const [finding] = (await open(name, { plain: true }).describe(ctx())).findings;
    expect(finding).toMatchObject({ reason: "name-conflict", blocks: true });
  });

  it.each([
    ["a type in clear", '{"a":"b"}', { Type: "String" }, "is a String, in clear"],
    ["no JSON", "canary", {}, "its text is no JSON"],
    ["a list", '["canary"]', {}, "no object"],
    ["a member that is no text", '{"KEY":{"canary":1}}', {}, "its member KEY holds no string"],
  ])("refuses beforehand: %s", async (_, body, more, message) => {
    const name = nameOne();
    await theirs(name, body, more);
    const { findings } = await open(name).describe(ctx());
    expect(findings).toMatchObject([{ reason: "store-unsuitable", blocks: true }]);
    expect(findings[0]?.message).toContain(message);
    expect(JSON.stringify(findings)).not.toContain("canary");
  });

  it("refuses what is larger than the tier takes, and nothing was sent", async () => {
    const name = nameOne();
    await theirs(name, `{"a":"${"x".repeat(4070)}"}`);
    await expect(open(name).put("v1", value(1), null, ctx())).rejects.toMatchObject({
      kind: "invalid",
      applied: "no",
      message: `${name} would grow to 4104 bytes, more than 4096`,
    });
  });

  it("merges into what somebody else wrote between our read and our write", async () => {
    const name = nameOne();
    await theirs(name, '{"a":"old"}');
    let once = true;
    wire.instead = async ({ action }) => {
      if (action === "PutParameter" && once) {
        once = false;
        await theirs(name, '{"a":"new","b":1}', { Overwrite: true });
      }
      return null;
    };
    const ref = await open(name).put("v1", value(1), null, ctx());
    wire.reset();
    expect(JSON.parse((await text(name)) ?? "")).toEqual({ a: "new", b: 1, ID: "id-1", KEY: "key-1" });
    expect((await open(name).current(ctx()))?.ref).toBe(ref);
  });

  it("says maybe when the answer is lost, and finds its value there afterwards", async () => {
    const name = nameOne();
    await theirs(name, "{}");
    wire.answer = ({ action }, answer) => (action === "PutParameter" ? "cut" : answer);
    const lost = open(name).put("v1", value(1), null, ctx());
    await expect(lost).rejects.toMatchObject({ kind: "unavailable", applied: "maybe" });
    wire.reset();
    expect((await open(name).current(ctx()))?.value.equals(value(1))).toBe(true);
  });
});
