import { GetSecretValueCommand } from "@aws-sdk/client-secrets-manager";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keyturnClient } from "../../src/client/index.ts";
import { CommandLine, Place, type Ended } from "../support/command-line.ts";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { consumerPython, startAgent, startConsumer, type Consumer } from "../support/real-consumers.ts";
import { secretsManagerOf, TwoStores } from "../support/two-stores.ts";

const there = (await motoPython()) !== null && (await baoProgram()) !== null && (await consumerPython()) !== null;
const ROTATIONS = 3;

describe.runIf(there)("consumers that read and use a key all the time, while it is rotated again and again", () => {
  let moto: Moto;
  let bao: Bao;
  let commands: CommandLine;
  const ends: (() => unknown)[] = [];
  beforeAll(async () => {
    [moto, bao] = await Promise.all([startMoto({ auth: true }), startBao()]);
    commands = new CommandLine();
  });
  afterAll(async () => {
    for (const end of ends.toReversed()) await end();
    await Promise.all([moto?.stop(), bao?.stop()]);
    commands?.remove();
  });

  test("boto3, the AWS CLI, a caching client, bao agent, hvac and our own client: none is refused, each moves", async () => {
    const made = await TwoStores.open("shop", moto, bao, commands);
    ends.push(() => made.close());
    const { aws, name, path } = made;
    const consumers = `[{ name: cached, cache: 2s, required: false }, { name: rendered, cache: 3s, required: false }]`;
    made.policy({ soak: "1s", consumers });
    sane(await aws.run("rotate", "one", "--wait"));

    const env = { ...moto.env, AWS_DEFAULT_REGION: moto.env["AWS_REGION"] ?? "", VAULT_ADDR: bao.address };
    const withVault = { ...env, VAULT_TOKEN: bao.rootToken };
    const template = `{{ with secret "secret/data/${path}" }}{{ .Data.data | toJSON }}{{ end }}`;
    const agent = await startAgent(aws.place.folder, template, "1s", withVault);
    ends.push(async () => {
      agent.child.kill();
      await once(agent.child, "close");
    });
    const running = await Promise.all([
      startConsumer({ kind: "boto3", every: 0.1, secret: name }, env),
      startConsumer({ kind: "caching client", every: 0.1, secret: name, cache: 2 }, env),
      startConsumer({ kind: "AWS CLI", every: 0.5, secret: name }, env),
      startConsumer({ kind: "rendered file", every: 0.1, file: agent.file }, env),
      startConsumer({ kind: "hvac", every: 0.1, path }, withVault),
      ourClient(made),
    ]);
    for (let rotation = 0; rotation < ROTATIONS; rotation++) sane(await aws.run("rotate", "one", "--wait"));
    const seen = await Promise.all(running.map(({ end }) => end()));
    console.log(seen.map(({ kind, uses, keys }) => `${kind}: ${uses} uses of ${keys} keys`).join("\n"));
    expect(seen.filter(({ failures }) => failures.length > 0)).toEqual([]);
    for (const { kind, keys } of seen) expect([kind, keys]).toEqual([kind, ROTATIONS + 1]);
    expect(await made.faults()).toEqual([]);
  }, 120_000);

  /** As a service would: a function for a source, and each call with what `withKey` hands it. */
  async function ourClient(made: TwoStores): Promise<Consumer> {
    const manager = secretsManagerOf(moto);
    const client = keyturnClient({
      instance: "shop-1",
      refreshEvery: 500,
      source: async () => {
        const { SecretString = "{}", VersionId = "" } = await manager.send(
          new GetSecretValueCommand({ SecretId: made.name }),
        );
        return { version: VersionId, value: JSON.parse(SecretString) };
      },
    });
    const failures: string[] = [];
    const keys = new Set<string>();
    let uses = 0;
    const end = new AbortController();
    const loop = (async () => {
      while (!end.signal.aborted) {
        await client.withKey(async ({ accessKeyId: id = "", secretAccessKey: secret = "" }) => {
          keys.add(id);
          uses++;
          const refusal = await made.aws.use({ id, secret });
          if (refusal !== null) failures.push(refusal);
        });
        await sleep(100);
      }
    })();
    return {
      end: async () => {
        end.abort();
        await loop;
        return { kind: "our client", uses, keys: keys.size, failures };
      },
    };
  }

  test("hvac logging in by an AppRole whose secret id is rotated: none is refused", async () => {
    await bao.must("POST", "sys/auth/approle", { type: "approle" });
    await bao.must("POST", "auth/approle/role/shop", { token_ttl: "1m", token_policies: ["default"] });
    const place = new Place({ VAULT_ADDR: bao.address, VAULT_TOKEN: bao.rootToken });
    ends.push(() => place.remove());
    place.policy(`version: 1
defaults:
  verify: { successes: 1, spread: 0s, deadline: 5s }
  overlap: { minimum: 1s, quiet: 0s, maximum: 1d }
  soak: { for: 0s }
secrets:
  login:
    issuer: { type: vault-approle, role: shop, timing: { listSettle: 0s, propagation: 0s, settle: 0s } }
    stores: [{ type: vault-kv, path: shop/login, timing: { propagation: 0s, settle: 0s } }]
    usage: none
    consumers: [{ name: shop, required: false }]
`);
    sane(await commands.run(place, "rotate", "login", "--wait"));
    const consumer = await startConsumer({ kind: "hvac, logging in", every: 0.05, path: "shop/login" }, place.env);
    for (let rotation = 0; rotation < ROTATIONS; rotation++)
      sane(await commands.run(place, "rotate", "login", "--wait"));
    const seen = await consumer.end();
    expect(seen).toMatchObject({ keys: ROTATIONS + 1, failures: [] });
    expect((await bao.must("LIST", "auth/approle/role/shop/secret-id")).keys).toHaveLength(1);
  });
});

function sane({ code, stderr, stdout }: Ended): void {
  expect(code, stderr + stdout).toBe(0);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
