import * as z from "zod";
import type { Duration } from "../core/duration.ts";
import { ProviderError } from "../core/errors.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import type { Ctx, Finding } from "../ports/context.ts";
import { AwsTransport, type Sending } from "./aws-transport.ts";
import { failureOfAws } from "./aws-errors.ts";
import { isDistrust } from "./http.ts";
import { limitersOf, type Limiter } from "./limiter.ts";

export { awsCodeOf } from "./aws-errors.ts";

/** Keys out of a file are read again after this: somebody (we ourselves, for one) may have rotated them. */
const STATIC_KEYS_LAST: Duration = 5 * 60_000;

/** The packages of the SDK, each loaded at its first call. Their names are the prefixes of IAM actions. */
const CLIENTS = {
  cloudtrail: async () => (await import("@aws-sdk/client-cloudtrail")).CloudTrailClient,
  iam: async () => (await import("@aws-sdk/client-iam")).IAMClient,
  s3: async () => (await import("@aws-sdk/client-s3")).S3Client,
  secretsmanager: async () => (await import("@aws-sdk/client-secrets-manager")).SecretsManagerClient,
  ssm: async () => (await import("@aws-sdk/client-ssm")).SSMClient,
  sts: async () => (await import("@aws-sdk/client-sts")).STSClient,
};
type Service = keyof typeof CLIENTS;
export type AwsAction = `${Service}:${string}`;

/** `AWS_ENDPOINT_URL_…` as the SDKs spell it. */
const ENDPOINT_NAMES: Readonly<Record<Service, string>> = {
  cloudtrail: "CLOUDTRAIL",
  iam: "IAM",
  s3: "S3",
  secretsmanager: "SECRETS_MANAGER",
  ssm: "SSM",
  sts: "STS",
};

/** Published quotas, calls a second in one region of one account; actions of one line share theirs. */
const QUOTAS: readonly { readonly actions: readonly AwsAction[]; readonly quota: number }[] = [
  { actions: ["secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"], quota: 50 },
  { actions: ["ssm:PutParameter"], quota: 3 },
  { actions: ["cloudtrail:LookupEvents"], quota: 2 },
];
/** A command of the SDK, typed by what it answers. */
export interface AwsCommand<O> {
  readonly input: object;
  resolveMiddleware(...args: never[]): (args: never) => Promise<{ readonly output: O }>;
}
interface SdkClient {
  readonly config: { readonly credentials: Provider };
  send(command: object, options: { readonly sending: Sending }): Promise<unknown>;
}

export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}
type Provider = () => Promise<AwsKeys & { readonly expiration?: Date }>;

export const region = (): z.ZodString => z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d+$/, "is no region such as eu-west-1");

/** The settings that all AWS adapters share. */
export const place = {
  profile: z
    .string()
    .min(1)
    .optional()
    .describe("Profile of ~/.aws/config and ~/.aws/credentials. Default: AWS_PROFILE."),
  endpoint: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe(
      "Address used instead of the region's own; for STS too, unless it is one of AWS's. Default: AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL.",
    ),
  expect: z
    .strictObject({
      account: z
        .string()
        .regex(/^\d{12}$/, "is no account id of twelve digits")
        .describe("Id of the account, twelve digits."),
    })
    .optional()
    .describe("What must turn out to be so before anything is minted."),
};

export interface AwsPlace {
  readonly region?: string | undefined;
  readonly profile?: string | undefined;
  readonly endpoint?: string | undefined;
}

export interface AwsIdentity {
  readonly account: string;
  /** `arn:aws:iam::123456789012:user/ci`, `arn:aws:sts::123456789012:assumed-role/ci/session`. */
  readonly arn: string;
  readonly userId: string;
  readonly accessKeyId: string;
}

/**
 * One region of AWS under one set of credentials: everything goes through {@link Aws.send}, over our own transport,
 * with the SDK's retries out of the way. Credentials come as every SDK's user expects: the named profile, else the
 * environment, else web identity, SSO, process, container, instance. Get one by {@link awsAt}.
 */
export class Aws {
  readonly region: string;
  /** Shared by all clients of one profile. */
  readonly #credentials: Credentials;
  readonly #clients = new Map<Service, Promise<SdkClient>>();
  readonly #transport: AwsTransport;
  #identity: { readonly of: string; readonly known: Promise<AwsIdentity> } | null = null;

  constructor(
    private readonly at: AwsPlace,
    private readonly deps: AdapterDeps,
    credentials: Credentials,
  ) {
    const { env } = deps;
    this.region = at.region ?? (env["AWS_REGION"] || env["AWS_DEFAULT_REGION"] || "us-east-1");
    this.#credentials = credentials;
    this.#transport = new AwsTransport(env);
  }

  /**
   * One call, one request, when its quota has room: that wait comes before the fence.
   *
   * @param action as IAM names it; its service is the one that is called
   * @throws ProviderError, see `failureOfAws`; what `ctx.fence` throws is passed on
   */
  async send<O>(action: AwsAction, command: AwsCommand<O>, sending: Sending): Promise<O> {
    const limiter = this.#limiter(action);
    const place = await limiter.admit(sending.ctx.signal);
    try {
      const client = await this.#client(action.slice(0, action.indexOf(":")) as Service);
      const output = (await client.send(command, { sending })) as O;
      limiter.succeeded();
      return output;
    } catch (error) {
      if (error instanceof ProviderError) throw this.#ours(error);
      const failure = failureOfAws(error, action, sending.mutates, this.deps.env);
      if (failure.kind === "throttled") limiter.throttled(place, failure.detail.retryAfter ?? null);
      else limiter.succeeded();
      if (failure.kind === "unauthenticated") this.#credentials.forget();
      throw failure;
    }
  }

  /** Who we are. Asked once for each access key. */
  async identity(ctx: Ctx): Promise<AwsIdentity> {
    const { accessKeyId } = await this.#keys();
    if (this.#identity?.of !== accessKeyId) {
      const known = this.#whoami(accessKeyId, ctx);
      this.#identity = { of: accessKeyId, known };
      known.catch(() => (this.#identity = null));
    }
    return this.#identity.known;
  }

  /** The same region (or another) under keys that are handed over: for trying them. Shares nothing with this one. */
  as(keys: AwsKeys, region: string = this.region): Aws {
    return new Aws({ ...this.at, region }, this.deps, new Credentials(async () => async () => keys));
  }

  async #keys(): Promise<AwsKeys> {
    try {
      return await this.#credentials.get();
    } catch (error) {
      throw failureOfAws(error, "AWS", false, this.deps.env);
    }
  }

  async #whoami(accessKeyId: string, ctx: Ctx): Promise<AwsIdentity> {
    const { GetCallerIdentityCommand } = await import("@aws-sdk/client-sts");
    const action = "sts:GetCallerIdentity";
    const answer = await this.send(action, new GetCallerIdentityCommand({}), { ctx, mutates: false });
    const { Account: account, Arn: arn, UserId: userId } = answer;
    if (!account || !arn || !userId) throw new ProviderError("unavailable", "no", `${action}: not an answer of AWS`);
    return { account, arn, userId, accessKeyId };
  }

  #limiter(action: AwsAction): Limiter {
    const known = QUOTAS.find(({ actions }) => actions.includes(action));
    const what = known === undefined ? action.slice(0, action.indexOf(":")) : known.actions.join(", ");
    const whose = [this.at.profile, this.at.endpoint].filter((part) => part !== undefined).join(" ");
    const { sleep, debug } = this.deps;
    const world = { now: () => performance.now(), random: Math.random, sleep, debug };
    return limitersOf(this.deps.env).of(`${what} ${this.region}`, whose, known?.quota ?? null, world);
  }

  #client(service: Service): Promise<SdkClient> {
    const made = this.#clients.get(service) ?? this.#make(service);
    this.#clients.set(service, made);
    return made;
  }

  async #make(service: Service): Promise<SdkClient> {
    const { region, deps } = this;
    const endpoint = endpointOf(service, this.at.endpoint, deps.env);
    const credentials = Object.assign(() => this.#credentials.get(), { memoized: true });
    const where = { region, credentials, requestHandler: this.#transport, ...(endpoint && { endpoint }) };
    return makeClient(service, service === "s3" ? { ...where, ...s3Config(endpoint) } : where);
  }

  #ours(error: ProviderError & { $metadata?: unknown }): ProviderError {
    // The SDK's count of its attempts.
    delete error.$metadata;
    if (error.detail.hint !== undefined) return error;
    const isNowhere = error.message.endsWith(": no such host");
    if (!isNowhere && !isDistrust(error)) return error;
    const hint = isNowhere
      ? `is there a region ${this.region}, and does this machine look up names?`
      : "set AWS_CA_BUNDLE to the certificate of the authority that signed it";
    return new ProviderError(error.kind, error.applied, error.message, { ...error.detail, hint });
  }
}

async function makeClient(service: Service, config: object): Promise<SdkClient> {
  const Client = (await CLIENTS[service]()) as unknown as new (config: object) => SdkClient;
  // The engine alone tries again, after it has looked.
  return new Client({ ...config, maxAttempts: 1, retryMode: "standard", logger: SILENT });
}

/** Servers that speak S3 have buckets in the path rather than in the host's name, and few know the newer checksums. */
function s3Config(endpoint: string | undefined): object {
  const checksums = "WHEN_REQUIRED";
  const config = { requestChecksumCalculation: checksums, responseChecksumValidation: checksums };
  return { ...config, forcePathStyle: endpoint !== undefined };
}

/** The SDK logs requests, and warns on the console where it is given no logger. */
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

function endpointOf(service: Service, setting: string | undefined, env: AdapterDeps["env"]): string | undefined {
  const isPrivateLink = setting !== undefined && /\.amazonaws\.com(\.cn)?$/.test(new URL(setting).hostname);
  if (setting !== undefined && !(service === "sts" && isPrivateLink)) return setting;
  if (env["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] === "true") return undefined;
  return env[`AWS_ENDPOINT_URL_${ENDPOINT_NAMES[service]}`] || env["AWS_ENDPOINT_URL"] || undefined;
}

/** Keys of one profile, for all regions and services. */
class Credentials {
  #provider: Promise<Provider> | null = null;
  #since = 0;

  constructor(private readonly make: () => Promise<Provider>) {}

  async get(): ReturnType<Provider> {
    const keys = await (await this.#current())();
    if (keys.expiration !== undefined || performance.now() - this.#since < STATIC_KEYS_LAST) return keys;
    this.forget();
    return (await this.#current())();
  }

  /** The next call looks for keys anew. */
  forget(): void {
    this.#provider = null;
  }

  #current(): Promise<Provider> {
    if (this.#provider === null) {
      this.#provider = this.make();
      this.#since = performance.now();
      this.#provider.catch(() => this.forget());
    }
    return this.#provider;
  }
}

/** The SDK's own chain, except for keys that the environment names: those are the same in every SDK. */
function credentialsOf(profile: string | undefined, { env }: AdapterDeps): Credentials {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: token } = env;
  const named = profile ?? (env["AWS_PROFILE"] || undefined);
  return new Credentials(async () => {
    if (named === undefined && accessKeyId && secretAccessKey) {
      const keys = { accessKeyId, secretAccessKey, ...(token && { sessionToken: token }) };
      return async () => keys;
    }
    const region = env["AWS_REGION"] || env["AWS_DEFAULT_REGION"] || "us-east-1";
    const requestHandler = new AwsTransport(env);
    const profileOnly = named === undefined ? {} : { profile: named };
    return (await makeClient("sts", { region, requestHandler, ...profileOnly, ignoreCache: true })).config.credentials;
  });
}

/** What a process knows of AWS under one environment: its own. */
interface Known {
  readonly places: Map<string, Aws>;
  readonly profiles: Map<string, Credentials>;
}
const known = new WeakMap<AdapterDeps["env"], Known>();

/** The client for a place: one for the whole process, so that credentials are looked for once. */
export function awsAt(at: AwsPlace, deps: AdapterDeps): Aws {
  const { places, profiles } = knownTo(deps.env);
  const credentials = profiles.get(at.profile ?? "") ?? credentialsOf(at.profile, deps);
  profiles.set(at.profile ?? "", credentials);
  const key = JSON.stringify([at.region, at.profile, at.endpoint]);
  const aws = places.get(key) ?? new Aws(at, deps, credentials);
  places.set(key, aws);
  return aws;
}

/** Called by whoever has written new keys where the chain finds them. */
export function forgetAwsCredentials({ env }: Pick<AdapterDeps, "env">): void {
  for (const credentials of knownTo(env).profiles.values()) credentials.forget();
}

function knownTo(env: AdapterDeps["env"]): Known {
  const there = known.get(env) ?? { places: new Map(), profiles: new Map() };
  known.set(env, there);
  return there;
}

/** The finding for an account that is not the expected one. */
export function accountFindings(expected: string | undefined, account: string, what: string): Finding[] {
  if (expected === undefined || expected === account) return [];
  const message = `${what} is in account ${account}, the policy expects ${expected}`;
  const hint = "check `profile`, AWS_PROFILE and the credentials that this process runs under";
  return [{ reason: "identity-mismatch", blocks: true, message, hint }];
}
