import {
  CreateAccessKeyCommand,
  CreateUserCommand,
  IAMClient,
  ListAccessKeysCommand,
  PutUserPolicyCommand,
} from "@aws-sdk/client-iam";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { readFileSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { localSource } from "../../src/client/index.ts";
import { Place, type CommandLine, type Ended, type Running } from "./command-line.ts";
import { ACCOUNT, REGION, type Moto } from "./moto.ts";
import { startWire, type Wire, type WireAnswer } from "./wire.ts";

export interface AccessKey {
  readonly id: string;
  readonly secret: string;
}

export interface IamPolicy {
  readonly issuer?: string;
  readonly stores?: string;
  readonly usage?: string;
  readonly minimum?: string;
  readonly quiet?: string;
  readonly soak?: string;
  readonly verify?: string;
  readonly timing?: string;
  readonly lease?: string;
  readonly consumers?: string;
  readonly more?: string;
}

const QUICK_USAGE = "[{ type: issuer, granularity: 0s, lag: 0s }]";
const QUICK_TIMING = "{ listSettle: 0s, propagation: 0s, settle: 0s }";
const BOTH = "[{ type: local }, { type: dotenv, path: one.env, fields: { ID: accessKeyId, SECRET: secretAccessKey } }]";

/** One IAM user of moto, the policy of one secret `one` about it, and a proxy between the command line and moto. */
export class MotoLane {
  readonly place: Place;
  /** Moments at which a store served, before and after, a key that was refused in between. */
  readonly outages: string[] = [];
  #watching: Promise<void> | null = null;
  #end = false;

  private constructor(
    readonly user: string,
    readonly wire: Wire,
    readonly iam: IAMClient,
    private readonly moto: Moto,
    private readonly commands: CommandLine,
  ) {
    this.place = new Place({ ...moto.env, AWS_ENDPOINT_URL: wire.url });
  }

  static async open(user: string, moto: Moto, commands: CommandLine, policy: IamPolicy = {}): Promise<MotoLane> {
    const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
    const credentials = { accessKeyId, secretAccessKey };
    const iam = new IAMClient({ endpoint: moto.url, region: REGION, maxAttempts: 1, credentials });
    await iam.send(new CreateUserCommand({ UserName: user }));
    const lane = new MotoLane(user, await startWire(() => moto.url), iam, moto, commands);
    lane.policy(policy);
    return lane;
  }

  policy({
    issuer = "",
    stores = BOTH,
    usage = QUICK_USAGE,
    minimum = "0s",
    quiet = "0s",
    soak = "0s",
    verify = "{ successes: 1, spread: 0s, deadline: 5s }",
    timing = QUICK_TIMING,
    lease = "4s",
    consumers = "[{ name: app, required: false }]",
    more = "",
  }: IamPolicy = {}): void {
    this.place.policy(`version: 1
state: { type: sqlite, path: .keyturn/state.db, lease: ${lease} }
defaults:
  verify: ${verify}
  overlap: { minimum: ${minimum}, quiet: ${quiet}, maximum: 1d }
  soak: { for: ${soak} }
  retry: { attempts: 5, backoff: 100ms }
${more}secrets:
  one:
    issuer: { type: aws-iam, user: ${this.user}, expect: { account: "${ACCOUNT}" }, timing: ${timing}${issuer} }
    stores: ${stores}
    usage: ${usage}
    consumers: ${consumers}
`);
  }

  start(...args: string[]): Running {
    return this.commands.start(this.place, args);
  }

  run(...args: string[]): Promise<Ended> {
    return this.commands.run(this.place, ...args);
  }

  json(...args: string[]): ReturnType<CommandLine["json"]> {
    return this.commands.json(this.place, ...args);
  }

  /** A key that keyturn knows nothing of. */
  async makeKey(user = this.user): Promise<AccessKey> {
    const { AccessKey: key } = await this.iam.send(new CreateAccessKeyCommand({ UserName: user }));
    return { id: key?.AccessKeyId ?? "", secret: key?.SecretAccessKey ?? "" };
  }

  /** `AKIA…` → `Active` or `Inactive`, as moto itself has it. */
  async keys(user = this.user): Promise<Record<string, string>> {
    const { AccessKeyMetadata: keys = [] } = await this.iam.send(new ListAccessKeysCommand({ UserName: user }));
    return Object.fromEntries(keys.map(({ AccessKeyId: id = "", Status: status = "" }) => [id, status]));
  }

  /** Lets a user do these, on anything: moto matches no ARNs. */
  async allow(user: string, actions: readonly string[]): Promise<void> {
    const statement = { Effect: "Allow", Action: actions, Resource: "*" };
    const PolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
    await this.iam.send(new PutUserPolicyCommand({ UserName: user, PolicyName: "some", PolicyDocument }));
  }

  /** From now on keyturn runs as a user who may do just this. */
  async runAs(user: string, actions: readonly string[]): Promise<AccessKey> {
    await this.iam.send(new CreateUserCommand({ UserName: user }));
    await this.allow(user, actions);
    const key = await this.makeKey(user);
    this.place.env["AWS_ACCESS_KEY_ID"] = key.id;
    this.place.env["AWS_SECRET_ACCESS_KEY"] = key.secret;
    return key;
  }

  /** One use of a key, as a consumer's SDK has it. @returns the name of the refusal, null when it was accepted */
  async use({ id, secret }: AccessKey, region = REGION): Promise<string | null> {
    const credentials = { accessKeyId: id, secretAccessKey: secret };
    const sts = new STSClient({ endpoint: this.moto.url, region, maxAttempts: 1, credentials });
    return sts.send(new GetCallerIdentityCommand({})).then(
      () => null,
      (error: { name: string }) => error.name,
    );
  }

  /** What the local store serves, decrypted; null: nothing. */
  async local(): Promise<AccessKey | null> {
    const source = localSource({
      name: "one",
      path: this.place.path(".keyturn/secrets"),
      identity: this.place.path(".keyturn/identity"),
    });
    const value = await source().then(
      (read) => read.value,
      () => null,
    );
    return value === null ? null : { id: value["accessKeyId"] ?? "", secret: value["secretAccessKey"] ?? "" };
  }

  /** What the `.env` file serves; null: nothing. */
  dotenv(): AccessKey | null {
    const file = this.place.path("one.env");
    if (!statSync(file, { throwIfNoEntry: false })?.isFile()) return null;
    const text = readFileSync(file, "utf8");
    const [id, secret] = ["ID", "SECRET"].map((name) => new RegExp(`^${name}=['"]?([^'"\n]+)`, "m").exec(text)?.[1]);
    return id === undefined || secret === undefined ? null : { id, secret };
  }

  /** Promise 1 as consumers see it: reads each store and uses at once what it reads, until `close`. */
  watch(every = 100, more: Readonly<Record<string, () => Promise<AccessKey | null>>> = {}): void {
    const stores = { local: () => this.local(), dotenv: async () => this.dotenv(), ...more };
    const once = async (): Promise<void> => {
      for (const [name, read] of Object.entries(stores)) {
        const key = await read();
        const refusal = key === null ? null : await this.use(key);
        if (refusal !== null && (await read())?.id === key?.id)
          this.outages.push(`${name} served ${key?.id}: ${refusal}`);
      }
    };
    this.#watching = (async () => {
      while (!this.#end) {
        await once();
        await sleep(every);
      }
    })();
  }

  /** Waits until so many calls of an action came to the proxy. */
  async reached(action: string, times = 1): Promise<void> {
    for (let waited = 0; this.wire.calls.filter((call) => call.action === action).length < times; waited += 20) {
      if (waited > 20_000) throw new Error(`no ${action} came`);
      await sleep(20);
    }
  }

  /** What was asked of IAM that changes a key there really is. */
  mutations(): string[] {
    const changing = /^(Create|Update|Delete)AccessKey$/;
    return this.wire.calls
      .filter((call) => changing.test(call.action) && !/^AKIA0+$/.test(call.param("AccessKeyId") ?? ""))
      .map((call) => [call.action, call.param("Status"), call.param("AccessKeyId")].filter(Boolean).join(" "));
  }

  async close(): Promise<void> {
    this.#end = true;
    await this.#watching;
    await this.wire.close();
    this.place.remove();
  }
}

/** A refusal as IAM and STS write it. */
export function awsError(status: number, code: string): WireAnswer {
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>no</Message></Error>`;
  const body = `<ErrorResponse>${error}<RequestId>r-1</RequestId></ErrorResponse>`;
  return { status, body, headers: { "content-type": "text/xml", "x-amzn-requestid": "r-1" } };
}

/** IAM's answer about a last use, told to be another. */
export function usedBy(body: string, service: string, at: number, region = REGION): string {
  const used = `<LastUsedDate>${new Date(at).toISOString()}</LastUsedDate><ServiceName>${service}</ServiceName><Region>${region}</Region>`;
  return body.replace(/<AccessKeyLastUsed>.*<\/AccessKeyLastUsed>/s, `<AccessKeyLastUsed>${used}</AccessKeyLastUsed>`);
}
