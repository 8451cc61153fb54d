import {
  CreateSecretCommand,
  DescribeSecretCommand,
  GetResourcePolicyCommand,
  GetSecretValueCommand,
  PutResourcePolicyCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import type { CommandLine } from "./command-line.ts";
import { REGION, type Moto } from "./moto.ts";
import { MotoLane, type AccessKey, type IamPolicy } from "./moto-lane.ts";
import type { Bao } from "./openbao.ts";
import { startWire, type Wire } from "./wire.ts";

/** What neighbours wrote, in their own spelling: `7.0` and the spaces have to come back. */
const NEIGHBOURS = '{ "host": "db.internal",\n  "retries": 7.0, "note": "caf\\u00e9" }';
const SIBLINGS = { url: "https://pay.example.com", retries: 3, nested: { on: true } };
const QUICK = "timing: { propagation: 0s, settle: 0s }";

export function secretsManagerOf(moto: Moto): SecretsManagerClient {
  const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
  const credentials = { accessKeyId, secretAccessKey };
  return new SecretsManagerClient({ endpoint: moto.url, region: REGION, maxAttempts: 1, credentials });
}

/**
 * One IAM user whose keys go to Secrets Manager, the authority, and to a path of Vault's KV: both hold neighbours'
 * fields besides, tags and policies. A proxy stands before each server.
 */
export class TwoStores {
  private constructor(
    readonly aws: MotoLane,
    readonly vaultWire: Wire,
    readonly name: string,
    /** Below the mount `secret/`. */
    readonly path: string,
    readonly staging: string,
    private readonly sm: SecretsManagerClient,
    private readonly bao: Bao,
  ) {}

  static async open(user: string, moto: Moto, bao: Bao, commands: CommandLine): Promise<TwoStores> {
    const vaultWire = await startWire(() => bao.address);
    const aws = await MotoLane.open(user, moto, commands);
    const [name, path, staging] = [`prod/${user}`, `team/${user}/aws`, `staged-${user}`];
    const made = new TwoStores(aws, vaultWire, name, path, staging, secretsManagerOf(moto), bao);
    Object.assign(aws.place.env, { VAULT_ADDR: vaultWire.url, VAULT_TOKEN: bao.rootToken });
    made.policy();
    await made.#neighbours();
    return made;
  }

  policy(policy: IamPolicy & { readonly inManager?: string } = {}): void {
    const manager = `{ type: aws-secrets-manager, region: ${REGION}, name: ${this.name}, ${QUICK}${policy.inManager ?? ""} }`;
    const vault = `{ type: vault-kv, path: ${this.path}, staging: ${this.staging}, ${QUICK} }`;
    this.aws.policy({ stores: `[${manager}, ${vault}]`, ...policy });
  }

  async #neighbours(): Promise<void> {
    const Tags = [{ Key: "team", Value: "payments" }];
    const policy = {
      Version: "2012-10-17",
      Statement: [{ Effect: "Deny", Principal: "*", Action: "secretsmanager:DeleteSecret", Resource: "*" }],
    };
    await this.sm.send(
      new CreateSecretCommand({ Name: this.name, SecretString: NEIGHBOURS, Description: "theirs", Tags }),
    );
    await this.sm.send(
      new PutResourcePolicyCommand({ SecretId: this.name, ResourcePolicy: JSON.stringify(policy, null, 3) }),
    );
    await this.bao.must("POST", `secret/data/${this.path}`, { data: SIBLINGS });
    await this.bao.must("POST", `secret/metadata/${this.path}`, {
      custom_metadata: { owner: "team-pay" },
      max_versions: 30,
    });
  }

  /** Everything of both places that is not ours, in the bytes in which it is kept. */
  async theirs(): Promise<unknown> {
    const { Description, Tags, KmsKeyId } = await this.#describe();
    const { ResourcePolicy } = await this.sm.send(new GetResourcePolicyCommand({ SecretId: this.name }));
    const text = (await this.text()).replace(/,?\s*"(accessKeyId|secretAccessKey)":\s*"[^"]*"/g, "");
    const { accessKeyId: _, secretAccessKey: __, ...data } = await this.inVault();
    const { custom_metadata, max_versions, cas_required } = await this.bao.must("GET", `secret/metadata/${this.path}`);
    const manager = { Description, Tags, KmsKeyId, ResourcePolicy, text };
    return { manager, vault: { data: JSON.stringify(data), custom_metadata, max_versions, cas_required } };
  }

  #describe() {
    return this.sm.send(new DescribeSecretCommand({ SecretId: this.name }));
  }

  /** What Secrets Manager serves. */
  async text(): Promise<string> {
    return (await this.sm.send(new GetSecretValueCommand({ SecretId: this.name }))).SecretString ?? "";
  }

  /** Version id → labels. */
  async labels(): Promise<Record<string, string[]>> {
    return (await this.#describe()).VersionIdsToStages ?? {};
  }

  async keyInManager(): Promise<AccessKey | null> {
    return keyOf(JSON.parse(await this.text()));
  }

  /** Somebody else writes there. */
  async writeManager(change: (text: string) => string): Promise<void> {
    await this.sm.send(new PutSecretValueCommand({ SecretId: this.name, SecretString: change(await this.text()) }));
  }

  async inVault(): Promise<Record<string, unknown>> {
    return (await this.bao.must("GET", `secret/data/${this.path}`)).data;
  }

  async keyInVault(): Promise<AccessKey | null> {
    return keyOf(await this.inVault());
  }

  /** Somebody else writes there. */
  async writeVault(change: Record<string, unknown>): Promise<void> {
    await this.bao.must("POST", `secret/data/${this.path}`, { data: { ...(await this.inVault()), ...change } });
  }

  /** The versions that wait in KV. */
  async staged(): Promise<string[]> {
    const { body } = await this.bao.api("LIST", `secret/metadata/${this.staging}/one`);
    return body?.data?.keys ?? [];
  }

  /** Reads each store, and uses what it reads at once, until `close`. */
  watch(every = 50): void {
    this.aws.watch(every, { "Secrets Manager": () => this.keyInManager(), Vault: () => this.keyInVault() });
  }

  /** What does not hold once everything is done; nothing: all is well. */
  async faults(): Promise<string[]> {
    const faults: string[] = [];
    const check = (holds: boolean, what: string): void => void (holds || faults.push(what));
    const keys = await this.aws.keys();
    const [only = "", ...more] = Object.keys(keys);
    check(more.length === 0 && keys[only] === "Active", `keys: ${JSON.stringify(keys)}`);
    const [manager, vault] = [await this.keyInManager(), await this.keyInVault()];
    check(manager?.id === only && vault?.id === only, `served: ${manager?.id} and ${vault?.id}, there is ${only}`);
    check(manager?.secret === vault?.secret, "the stores serve different values");
    check(manager !== null && (await this.aws.use(manager)) === null, "the served key is refused");
    const [secret] = (await this.aws.json("status", "one")).document.secrets;
    check(secret.phase === "idle" && secret.debt.length === 0, `phase ${secret.phase}, debt ${secret.debt.length}`);
    check(secret.current?.keyId === only, `the state names ${secret.current?.keyId}`);
    const labels = Object.values(await this.labels());
    const current = labels.find((some) => some.includes("AWSCURRENT"))?.toSorted();
    const ours = labels.flat().filter((label) => label.startsWith("keyturn/"));
    const version = secret.current?.version;
    check(
      `${current}` === `AWSCURRENT,keyturn/${version}` && ours.length === 1 && !labels.flat().includes("AWSPENDING"),
      `labels: ${JSON.stringify(labels)} for ${version}`,
    );
    // The authority alone holds versions that nobody is served.
    check((await this.staged()).length === 0, `staged in Vault: ${await this.staged()}`);
    return [...faults, ...this.aws.outages.splice(0)];
  }

  async close(): Promise<void> {
    await this.aws.close();
    await this.vaultWire.close();
  }
}

function keyOf({ accessKeyId: id, secretAccessKey: secret }: Record<string, unknown>): AccessKey | null {
  return typeof id === "string" && typeof secret === "string" ? { id, secret } : null;
}
