import type { AccessKeyMetadata, StatusType } from "@aws-sdk/client-iam";
import * as z from "zod";
import type { Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import { SecretValue } from "../../core/secret-value.ts";
import type { AdapterDeps, IssuerAdapter } from "../../ports/adapter.ts";
import type { AwsPermission, Ctx, Description, Finding } from "../../ports/context.ts";
import type { Issuer, IssuerTiming, IssuerTraits, KeyId, Listing, ObservedKey } from "../../ports/issuer.ts";
import type { Store } from "../../ports/store.ts";
import { accountFindings, awsAt, place, region, type Aws, type AwsCommand, type AwsKeys } from "../aws.ts";
import { partitionOf } from "../aws-permissions.ts";
import { ACTIONS, clockFindings, missingFinding, permissionFindings, verdictsOf } from "./aws-iam-check.ts";
import { usersOf } from "./aws-iam-users.ts";
import { LastUsed, USAGE } from "./aws-iam-usage.ts";
import { callerOf, userIn } from "./aws-iam-verify.ts";

const settings = z.strictObject({
  user: z
    .string()
    .regex(/^[\w+=,.@-]{1,64}$/, { error: "is no name of an IAM user (without its path)" })
    .describe("The IAM user whose access keys are rotated."),
  region: region()
    .optional()
    .describe("A region of the account's partition; IAM itself has none. Default: AWS_REGION."),
  ...place,
  verifyRegions: z
    .array(region())
    .min(1)
    .optional()
    .describe("Regions that must accept a new key. Default: those of its stores and their replicas, and us-east-1."),
  exclusive: z
    .boolean()
    .default(false)
    .describe("Nobody else makes keys for this user, so a key of ours whose answer was lost is deleted at once."),
  orphans: z
    .enum(["infer", "block"])
    .default("infer")
    .describe("What to do about a key that only its time of creation shows to be ours: act on that, or ask."),
  self: z
    .boolean()
    .default(false)
    .describe("keyturn itself signs with this user's keys, and finds new ones where a store delivers them."),
});

type Settings = z.output<typeof settings>;

const [ID, SECRET] = ["accessKeyId", "secretAccessKey"] as const;
const TIMING: IssuerTiming = { listSettle: 60_000, propagation: 15_000, settle: 10_000, timeGranularity: 1000 };
const TRAITS: IssuerTraits = {
  maxKeys: 2,
  valueFrom: "issuer",
  canDisable: true,
  labels: false,
  issueIdempotent: false,
  timing: TIMING,
};

/** The access keys of one IAM user. */
export const adapter: IssuerAdapter<typeof settings> = {
  type: "aws-iam",
  settings,
  fields: [ID, SECRET],
  owner: { by: ["user", "endpoint", "expect"], slots: 2 },
  reportsUsage: true,
  inference: ({ exclusive, orphans }) => ({ exclusive, orphans }),
  published: { ...TIMING, granularity: USAGE.granularity, lag: USAGE.lag },
  discover: (deps, ctx) => usersOf(awsAt({}, deps), ctx),
  create: (options, _secret, deps, stores) => new AwsIam(options, deps, stores),
};

/**
 * IAM keeps two keys a user and no label on any, tells creation in whole seconds, and takes a while to let its
 * listings, its own regions and the other services know of what changed. Every call names the user: without a name
 * IAM would take the caller for it.
 */
class AwsIam implements Issuer {
  readonly traits = TRAITS;
  readonly usage: LastUsed;
  readonly #aws: Aws;
  readonly #user: { readonly UserName: string };
  /** The user's own ARN, path and all, once it is known. */
  #arn: string | null = null;
  #told: readonly string[] | null = null;

  constructor(
    private readonly options: Settings,
    private readonly deps: AdapterDeps,
    private readonly stores: readonly Store[],
  ) {
    this.#aws = awsAt(options, deps);
    this.#user = { UserName: options.user };
    this.usage = new LastUsed(
      this.#aws,
      (ctx) => this.list(ctx),
      () => [this.#permission("usage")],
    );
  }

  permissions(): readonly AwsPermission[] {
    return (["find", "issue", "revoke", "usage"] as const).map((what) => this.#permission(what));
  }

  async describe(ctx: Ctx): Promise<Description> {
    const { user, expect } = this.options;
    const caller = await this.#aws.identity(ctx);
    const binding = `aws-iam:${caller.account}:${user}`;
    const place = accountFindings(expect?.account, caller.account, `the IAM user ${user}`);
    if (place.length > 0) return { binding, findings: place };
    const found = await this.#find(ctx);
    if (found !== null) return { binding, findings: [found] };
    const arn = this.#arn ?? "";
    try {
      const listing = await this.list(ctx);
      const findings = permissionFindings(await verdictsOf(this.#aws, { ...this.#user, arn }, listing, ctx), arn);
      findings.push(...this.#selfFindings(caller.arn === arn), ...clockFindings(this.deps.now(), listing.asOf));
      return { binding, findings };
    } catch (error) {
      if (!(error instanceof ProviderError) || error.kind !== "denied") throw error;
      return { binding, findings: [missingFinding(ACTIONS.list, arn)] };
    }
  }

  async list(ctx: Ctx): Promise<Listing> {
    const { ListAccessKeysCommand } = await import("@aws-sdk/client-iam");
    const keys: ObservedKey[] = [];
    let asOf: Instant | null = null;
    let next: string | undefined;
    do {
      const heard = (at: Instant): void => void (asOf ??= at);
      const command = new ListAccessKeysCommand({ ...this.#user, ...(next !== undefined && { Marker: next }) });
      const page = await this.#aws
        .send(ACTIONS.list, command, { ctx, mutates: false, heard })
        .catch((error: unknown) => {
          throw this.#named(error);
        });
      const { AccessKeyMetadata: listed, IsTruncated: more = false, Marker: marker } = page;
      if (listed === undefined || (more && (!marker || marker === next))) throw junk(ACTIONS.list, false);
      keys.push(...listed.map(observed));
      next = more ? marker : undefined;
    } while (next !== undefined);
    if (asOf === null) throw junk(ACTIONS.list, false);
    return { keys, asOf };
  }

  async issue(label: string, _chosen: SecretValue | null, ctx: Ctx) {
    const { CreateAccessKeyCommand } = await import("@aws-sdk/client-iam");
    const sending = { ctx, mutates: true, version: label };
    const answer = await this.#aws
      .send(ACTIONS.create, new CreateAccessKeyCommand(this.#user), sending)
      .catch((error: unknown) => {
        throw this.#withWay(error);
      });
    const { AccessKeyId: id, SecretAccessKey: secret, CreateDate: created, UserName: user } = answer.AccessKey ?? {};
    if (!id || !secret || created === undefined || !this.#isUser(user)) throw junk(ACTIONS.create, true);
    return { keyId: id, value: SecretValue.of({ [ID]: id, [SECRET]: secret }), createdAt: created.getTime() };
  }

  /** Accepted where every region that matters accepts it, each asked on a connection of its own. */
  async verify(value: SecretValue, ctx: Ctx): Promise<"accepted" | "rejected"> {
    const keys = keysOf(value);
    const regions = await this.#regions(ctx);
    const asked = regions.map((at) => callerOf(keys, at, this.#aws, ctx, this.deps.now));
    const answers = await Promise.allSettled(asked);
    if (answers.some((answer) => answer.status === "fulfilled" && answer.value === null)) return "rejected";
    const account = (await this.#aws.identity(ctx)).account;
    for (const answer of answers) {
      if (answer.status === "rejected") throw answer.reason;
      const caller = answer.value;
      if (caller?.account !== account || !this.#isUser(caller.user))
        throw new ProviderError("invalid", "no", `verifying a key: it is not one of ${this.options.user}`);
    }
    return "accepted";
  }

  disable(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#turn(keyId, "Inactive", ctx).catch(unlessAbsent);
  }

  enable(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#turn(keyId, "Active", ctx);
  }

  async delete(keyId: KeyId, ctx: Ctx): Promise<void> {
    await this.#notOurOwn(keyId, ctx);
    const { DeleteAccessKeyCommand } = await import("@aws-sdk/client-iam");
    const command = new DeleteAccessKeyCommand({ ...this.#user, AccessKeyId: keyId });
    await this.#change(ACTIONS.delete, command, ctx).catch(unlessAbsent);
  }

  /** By the id that is a part of the value: finding out is no use of the key. */
  async identify(value: SecretValue, ctx: Ctx): Promise<KeyId | null> {
    const id = value.reveal()[ID];
    const { keys } = await this.list(ctx);
    return keys.find(({ keyId }) => keyId === id)?.keyId ?? null;
  }

  async #turn(keyId: KeyId, status: StatusType, ctx: Ctx): Promise<void> {
    if (status === "Inactive") await this.#notOurOwn(keyId, ctx);
    const { UpdateAccessKeyCommand } = await import("@aws-sdk/client-iam");
    const command = new UpdateAccessKeyCommand({ ...this.#user, AccessKeyId: keyId, Status: status });
    await this.#change(ACTIONS.update, command, ctx);
  }

  /** These answer with nothing but the id of the request, which whatever else stands at the address does not give. */
  async #change(
    action: typeof ACTIONS.update | typeof ACTIONS.delete,
    command: AwsCommand<{ readonly $metadata: { readonly requestId?: string | undefined } }>,
    ctx: Ctx,
  ): Promise<void> {
    const { $metadata: metadata } = await this.#aws.send(action, command, { ctx, mutates: true });
    if (metadata.requestId === undefined) throw junk(action, true);
  }

  /** Whoever revokes the key that it signs with can neither finish nor go back. */
  async #notOurOwn(keyId: KeyId, ctx: Ctx): Promise<void> {
    if ((await this.#aws.identity(ctx)).accessKeyId !== keyId) return;
    const hint = "deliver the new key to where keyturn finds its own (store aws-credentials-file)";
    throw new ProviderError("invalid", "no", `${keyId} is the key that keyturn itself signs with`, { hint });
  }

  /** null: the user is there. */
  async #find(ctx: Ctx): Promise<Finding | null> {
    const { GetUserCommand } = await import("@aws-sdk/client-iam");
    try {
      const answer = await this.#aws.send(ACTIONS.user, new GetUserCommand(this.#user), { ctx, mutates: false });
      const arn = answer.User?.Arn;
      if (arn === undefined || !this.#isUser(userIn(arn))) throw junk(ACTIONS.user, false);
      this.#arn = arn;
      return null;
    } catch (error) {
      const kind = error instanceof ProviderError ? error.kind : null;
      if (kind === "denied") return missingFinding(ACTIONS.user, this.#resource());
      if (kind !== "not-found") throw error;
      return { reason: "identity-mismatch", blocks: true, ...this.#nobody() };
    }
  }

  #nobody() {
    return {
      message: `the account has no IAM user ${this.options.user}`,
      hint: "check `user` and `expect.account`",
    };
  }

  #named(error: unknown): unknown {
    if (!(error instanceof ProviderError) || error.kind !== "not-found") return error;
    const { message, hint } = this.#nobody();
    return new ProviderError("not-found", error.applied, message, { ...error.detail, hint });
  }

  #selfFindings(isSelf: boolean): Finding[] {
    const { self, user, profile } = this.options;
    if (!isSelf) return [];
    const { AWS_PROFILE: named, AWS_ACCESS_KEY_ID: given } = this.deps.env;
    const blocks = (message: string, hint: string): Finding[] => [
      { reason: "identity-mismatch", blocks: true, message, hint },
    ];
    if (!self)
      return blocks(
        `keyturn itself signs with a key of ${user}, and would revoke it`,
        "run it as somebody else, or write `self: true` and deliver to its own profile (store aws-credentials-file)",
      );
    if (profile === undefined && !named && given)
      return blocks(
        "keyturn's own keys come from AWS_ACCESS_KEY_ID, which no rotation can change",
        "let it sign with a profile of ~/.aws/credentials that a store aws-credentials-file delivers to",
      );
    return [];
  }

  /** Asked of the stores once: replicas come and go with the seasons. */
  async #regions(ctx: Ctx): Promise<readonly string[]> {
    if (this.options.verifyRegions !== undefined) return this.options.verifyRegions;
    if (this.#told === null) {
      const told = await Promise.all(this.stores.map((store) => store.regions?.(ctx) ?? []));
      this.#told = [...new Set([...told.flat(), homeOf(this.#aws.region)])];
    }
    return this.#told;
  }

  #permission(what: keyof typeof PURPOSES): AwsPermission {
    return { for: "aws", ...PURPOSES[what], resources: [this.#resource()] };
  }

  #resource(): string {
    const account = this.options.expect?.account ?? "*";
    return this.#arn ?? `arn:${partitionOf(this.#aws.region)}:iam::${account}:user/${this.options.user}`;
  }

  /** IAM tells names apart by more than capitals. */
  #isUser(name: string | undefined): boolean {
    return name?.toLowerCase() === this.options.user.toLowerCase();
  }

  #withWay(error: unknown): unknown {
    if (!(error instanceof ProviderError) || error.kind !== "quota") return error;
    const hint = `aws iam list-access-keys --user-name ${this.options.user}`;
    const message = `${ACTIONS.create}: ${this.options.user} has as many keys as IAM allows`;
    return new ProviderError("quota", error.applied, message, { ...error.detail, hint });
  }
}

const PURPOSES = {
  find: { why: "find the user and list its keys", actions: [ACTIONS.user, ACTIONS.list] },
  issue: { why: "make the new key", actions: [ACTIONS.create] },
  revoke: { why: "disable, restore and delete old keys", actions: [ACTIONS.update, ACTIONS.delete] },
  usage: { why: "see when and where a key was last used", actions: [ACTIONS.lastUsed] },
} as const;

function observed({ AccessKeyId: keyId, CreateDate: created, Status: status }: AccessKeyMetadata): ObservedKey {
  if (!keyId || created === undefined || (status !== "Active" && status !== "Inactive"))
    throw junk(ACTIONS.list, false);
  return { keyId, createdAt: created.getTime(), state: status === "Active" ? "enabled" : "disabled" };
}

function keysOf(value: SecretValue): AwsKeys {
  const { [ID]: accessKeyId, [SECRET]: secretAccessKey } = value.reveal();
  if (!accessKeyId || !secretAccessKey)
    throw new ProviderError("invalid", "no", `the value has no ${ID} and ${SECRET}`);
  return { accessKeyId, secretAccessKey };
}

function junk(action: string, mutates: boolean): ProviderError {
  return new ProviderError("unavailable", mutates ? "maybe" : "no", `${action}: not an answer of AWS`);
}

function unlessAbsent(error: unknown): void {
  if (!(error instanceof ProviderError) || error.kind !== "not-found") throw error;
}

/** Where a partition's IAM itself lives. */
function homeOf(region: string): string {
  const homes: Readonly<Record<string, string>> = { "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1" };
  return homes[partitionOf(region)] ?? "us-east-1";
}
