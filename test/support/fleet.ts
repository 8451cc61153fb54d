import { CreateUserCommand, IAMClient, ListAccessKeysCommand } from "@aws-sdk/client-iam";
import {
  CreateSecretCommand,
  GetSecretValueCommand,
  ListSecretVersionIdsCommand,
} from "@aws-sdk/client-secrets-manager";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { setTimeout as sleep } from "node:timers/promises";
import { Place } from "./command-line.ts";
import { REGION, type Moto } from "./moto.ts";
import type { AccessKey } from "./moto-lane.ts";
import { secretsManagerOf } from "./two-stores.ts";
import { startWire, type Wire } from "./wire.ts";

const QUICK = "propagation: 0s, settle: 0s";

/** Many IAM users, each with its keys in a secret of Secrets Manager, in one policy under the tag `prod`. */
export class Fleet {
  readonly place: Place;
  readonly names: readonly string[];
  /** Keys that were read from a store which went on serving them, and were refused. */
  readonly refusals: string[] = [];
  reads = 0;
  readonly #iam: IAMClient;
  readonly #end = new AbortController();
  #consumer: Promise<void> = Promise.resolve();

  private constructor(
    private readonly moto: Moto,
    readonly wire: Wire,
    size: number,
    prefix: string,
  ) {
    this.names = Array.from({ length: size }, (_, at) => `${prefix}-${at + 1}`);
    this.place = new Place({ ...moto.env, AWS_ENDPOINT_URL: wire.url });
    this.#iam = new IAMClient({ endpoint: moto.url, region: REGION, maxAttempts: 1, credentials: keysIn(moto.env) });
  }

  static async of(size: number, moto: Moto, { prefix = "app", lease = "4s" } = {}): Promise<Fleet> {
    const fleet = new Fleet(moto, await startWire(() => moto.url), size, prefix);
    const manager = secretsManagerOf(moto);
    for (const name of fleet.names) {
      await fleet.#iam.send(new CreateUserCommand({ UserName: name }));
      await manager.send(new CreateSecretCommand({ Name: `prod/${name}`, SecretString: '{"host":"db.internal"}' }));
    }
    fleet.place.policy(`version: 1
state: { type: sqlite, path: .keyturn/state.db, lease: ${lease} }
defaults:
  schedule: { every: 30d }
  verify: { successes: 1, spread: 0s, deadline: 1m }
  overlap: { minimum: 0s, quiet: 0s, maximum: 1d }
  soak: { for: 0s }
  retry: { attempts: 10, backoff: 200ms }
stores:
  prod: { type: aws-secrets-manager, region: ${REGION}, timing: { ${QUICK} } }
secrets:
${fleet.names.map(secret).join("")}`);
    return fleet;
  }

  /** Of a user: key id → `Active` or `Inactive`, as moto itself has it. */
  async keys(name: string): Promise<Record<string, string>> {
    const { AccessKeyMetadata: keys = [] } = await this.#iam.send(new ListAccessKeysCommand({ UserName: name }));
    return Object.fromEntries(keys.map(({ AccessKeyId: id = "", Status: status = "" }) => [id, status]));
  }

  /** Every key there is, of all users. */
  async allKeys(): Promise<string[]> {
    const all: string[] = [];
    for (const name of this.names) all.push(...Object.keys(await this.keys(name)));
    return all;
  }

  async served(name: string): Promise<AccessKey> {
    const answer = await secretsManagerOf(this.moto).send(new GetSecretValueCommand({ SecretId: `prod/${name}` }));
    const { accessKeyId: id, secretAccessKey: secret } = JSON.parse(answer.SecretString ?? "{}");
    return { id, secret };
  }

  /** Key ids in every version of its secret, also in those that nobody is served. */
  async kept(name: string): Promise<string[]> {
    const manager = secretsManagerOf(this.moto);
    const { Versions = [] } = await manager.send(new ListSecretVersionIdsCommand({ SecretId: `prod/${name}` }));
    const values = await Promise.all(
      Versions.map(({ VersionId }) => manager.send(new GetSecretValueCommand({ SecretId: `prod/${name}`, VersionId }))),
    );
    return values.flatMap(({ SecretString = "{}" }) => JSON.parse(SecretString).accessKeyId ?? []);
  }

  /** One consumer after the other reads its secret and uses what it read, round and round, until `close`. */
  consume(): void {
    const once = async (name: string): Promise<void> => {
      const key = await this.served(name);
      this.reads++;
      const credentials = { accessKeyId: key.id, secretAccessKey: key.secret };
      const sts = new STSClient({ endpoint: this.moto.url, region: REGION, maxAttempts: 1, credentials });
      const refusal = await sts.send(new GetCallerIdentityCommand({})).then(
        () => null,
        (error: { name: string }) => error.name,
      );
      if (refusal !== null && (await this.served(name)).id === key.id)
        this.refusals.push(`${name} ${key.id}: ${refusal}`);
    };
    this.#consumer = (async () => {
      while (!this.#end.signal.aborted)
        for (const name of this.names) {
          if (this.#end.signal.aborted) break;
          await once(name);
          await sleep(20);
        }
    })();
  }

  /** Calls that came to the proxy since its last reset: action → how many. */
  calls(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { action } of this.wire.calls) counts.set(action, (counts.get(action) ?? 0) + 1);
    return counts;
  }

  async close(): Promise<void> {
    this.#end.abort();
    await this.#consumer;
    await this.wire.close();
    this.place.remove();
  }
}

function secret(name: string): string {
  const issuer = `{ type: aws-iam, user: ${name}, timing: { listSettle: 0s, ${QUICK} } }`;
  return `  ${name}:
    issuer: ${issuer}
    stores: [{ use: prod, name: prod/${name} }]
    usage: [{ type: issuer, granularity: 0s, lag: 0s }]
    consumers: [{ name: app, required: false }]
    tags: [prod]
`;
}

function keysIn({ AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" }: Moto["env"]) {
  return { accessKeyId, secretAccessKey };
}
