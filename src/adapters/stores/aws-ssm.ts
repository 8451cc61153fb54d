import type { Parameter, ParameterMetadata, PutParameterRequest } from "@aws-sdk/client-ssm";
import * as z from "zod";
import { ProviderError } from "../../core/errors.ts";
import type { SecretValue } from "../../core/secret-value.ts";
import type { AdapterDeps, StoreAdapter } from "../../ports/adapter.ts";
import type { AwsPermission, Ctx, Description, Finding } from "../../ports/context.ts";
import type { Ref, Served, Store } from "../../ports/store.ts";
import { about, otherMembers, ourFields, withOurFields, type Layout } from "../aws-body.ts";
import { allowed, partitionOf, permissionFindings, probed } from "../aws-permissions.ts";
import { accountFindings, awsAt, place, region, type Aws } from "../aws.ts";
import { InTurn } from "../in-turn.ts";

/** Bytes that a value may have. */
const LARGEST = { Standard: 4096, Advanced: 8192, "Intelligent-Tiering": 8192 } as const;
type Tier = keyof typeof LARGEST;

interface Making {
  readonly kmsKey?: string | undefined;
  readonly description?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
}

interface Place {
  readonly name: string;
  readonly layout: Layout;
  readonly tier: Tier | undefined;
  /** null: a parameter that is missing is not made. */
  readonly make: Making | null;
  readonly account: string | undefined;
}

interface Held {
  readonly version: number;
  readonly text: string;
  readonly arn: string;
  readonly type: string;
}

/** Writers of one parameter in this process. */
const inTurn = new InTurn();

/**
 * One SecureString parameter of Parameter Store. A mirror, for two reasons: readers who name no version get the latest
 * one, whatever its labels (docs.aws.amazon.com/systems-manager, parameter labels), so a version cannot wait in it;
 * and `PutParameter` compares nothing, so that no promotion could be safe against another writer, wherever the new
 * version had waited. Writers of this process take turns. Somebody else's write between our read and our write shows
 * in the version number that ours gets: then our fields are merged into theirs once more, and siblings survive.
 *
 * An overwrite says again what it would otherwise reset: KMS key, tier, description, pattern, data type.
 */
class SsmStore implements Store {
  readonly traits = { staged: false, proof: "value", timing: { propagation: 5000, settle: 5000 } } as const;
  readonly objectKey: string;

  constructor(
    private readonly place: Place,
    private readonly aws: Aws,
    at: { readonly profile?: string | undefined; readonly endpoint?: string | undefined },
  ) {
    this.objectKey = ["aws-ssm", at.profile ?? "", at.endpoint ?? "", aws.region, place.name].join(":");
  }

  permissions(account = this.place.account ?? "*"): readonly AwsPermission[] {
    const { name, make } = this.place;
    const { region } = this.aws;
    const arn = `arn:${partitionOf(region)}:ssm:${region}:${account}:parameter/${name.replace(/^\//, "")}`;
    const tags = Object.keys(make?.tags ?? {}).length > 0 ? ["ssm:AddTagsToResource"] : [];
    const actions = ["ssm:GetParameter", "ssm:PutParameter", ...tags];
    const lines: AwsPermission[] = [
      { for: "aws", why: "read the parameter and write new versions", actions, resources: [arn] },
      { for: "aws", why: "see the settings that an overwrite has to keep", actions: [DESCRIBE], resources: ["*"] },
    ];
    if (make?.kmsKey?.startsWith("arn:")) {
      const keyActions = ["kms:Encrypt", "kms:GenerateDataKey", "kms:Decrypt"];
      lines.push({ for: "aws", why: "encrypt it under its KMS key", actions: keyActions, resources: [make.kmsKey] });
    }
    return lines;
  }

  async describe(ctx: Ctx): Promise<Description> {
    const { name, make } = this.place;
    const findings: Finding[] = [];
    const held = await allowed(findings, () => this.#get(name, ctx));
    const account = held?.arn.split(":")[4] || (await this.aws.identity(ctx)).account;
    const what = `parameter ${name} (${this.aws.region})`;
    findings.push(...accountFindings(this.place.account, account, what));
    if (held === null && make === null) {
      const hint = "check the region, make the parameter, or write `create: true` beside its name";
      findings.push({ reason: "store-unsuitable", blocks: true, message: `there is no ${what}`, hint });
    }
    if (held) findings.push(...this.#fitness(held, what));
    const known = held ? await allowed(findings, () => this.#settings(ctx)) : null;
    if (!findings.some(({ blocks }) => blocks)) {
      const proven = held ? (["ssm:GetParameter", DESCRIBE] as const) : [];
      const probe = async (action: string) =>
        action === PUT && known !== null ? probed(this.#hopelessPut(ctx)) : ("cannot-tell" as const);
      findings.push(...(await permissionFindings(this.aws, this.permissions(account), ctx, { proven, probe })));
    }
    return { binding: `aws-ssm:${this.aws.region}:${account}:${name}`, findings };
  }

  regions(): Promise<readonly string[]> {
    return Promise.resolve([this.aws.region]);
  }

  async others(ctx: Ctx): Promise<readonly string[]> {
    const held = await this.#get(this.place.name, ctx);
    return held === null ? [] : otherMembers(held.text, this.place.layout);
  }

  async current(ctx: Ctx): Promise<Served | null> {
    const held = await this.#get(this.place.name, ctx);
    const value = held === null ? null : this.#fields(held);
    return held === null || value === null ? null : { ref: String(held.version), value };
  }

  put(_version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    return inTurn.do(this.objectKey, async () => {
      const { name, make } = this.place;
      const held = await this.#get(name, ctx);
      const served = held === null ? null : this.#fields(held);
      if ((served === null ? null : String(held?.version)) !== expected) {
        throw new ProviderError("conflict", "no", `${name} was changed by somebody else`);
      }
      if (held === null) return String(await this.#create(value, make, ctx));
      if (served?.equals(value) && !fresh) return String(held.version);
      return String(await this.#overwrite(held, value, ctx));
    });
  }

  async #overwrite(held: Held, value: SecretValue, ctx: Ctx): Promise<number> {
    const { name } = this.place;
    const settings = await this.#settings(ctx);
    const text = this.#merged(held.text, value, settings.Tier);
    const version = await this.#put({ ...settings, Value: text, Overwrite: true }, ctx);
    if (version === held.version + 1) return version;
    const between = await this.#get(`${name}:${version - 1}`, ctx);
    const merged = between === null ? text : this.#merged(between.text, value, settings.Tier);
    return merged === text ? version : this.#put({ ...settings, Value: merged, Overwrite: true }, ctx);
  }

  async #create(value: SecretValue, make: Making | null, ctx: Ctx): Promise<number> {
    const { name, tier } = this.place;
    if (make === null) {
      const hint = "make it, or write `create: true` beside its name";
      throw new ProviderError("not-found", "no", `there is no parameter ${name}`, { hint });
    }
    const tags = Object.entries(make.tags ?? {}).map(([Key, Value]) => ({ Key, Value }));
    const given = {
      ...(make.kmsKey !== undefined && { KeyId: make.kmsKey }),
      ...(make.description !== undefined && { Description: make.description }),
      ...(tags.length > 0 && { Tags: tags }),
      ...(tier !== undefined && { Tier: tier }),
    };
    return this.#put({ ...given, Value: this.#merged(null, value, tier), Overwrite: false }, ctx);
  }

  async #put(request: Omit<PutParameterRequest, "Name" | "Type">, ctx: Ctx): Promise<number> {
    const { PutParameterCommand } = await import("@aws-sdk/client-ssm");
    const command = new PutParameterCommand({ ...request, Name: this.place.name, Type: "SecureString" });
    const { Version: version } = await this.aws.send(PUT, command, { ctx, mutates: true });
    if (version === undefined) throw new ProviderError("unavailable", "maybe", `${PUT}: not an answer of SSM`);
    return version;
  }

  /** Larger than any tier takes, and only where there is none: nothing that could take effect. */
  async #hopelessPut(ctx: Ctx): Promise<unknown> {
    const { PutParameterCommand } = await import("@aws-sdk/client-ssm");
    const Value = "x".repeat(LARGEST.Advanced + 1);
    const command = new PutParameterCommand({ Name: this.place.name, Type: "SecureString", Value, Overwrite: false });
    return this.aws.send(PUT, command, { ctx, mutates: false });
  }

  /** @param name with `:version` behind it, if need be */
  async #get(name: string, ctx: Ctx): Promise<Held | null> {
    const { GetParameterCommand } = await import("@aws-sdk/client-ssm");
    const command = new GetParameterCommand({ Name: name, WithDecryption: true });
    let parameter: Parameter | undefined;
    try {
      ({ Parameter: parameter } = await this.aws.send("ssm:GetParameter", command, { ctx, mutates: false }));
    } catch (error) {
      if (error instanceof ProviderError && error.kind === "not-found") return null;
      throw error;
    }
    const { Version: version, Value: text, ARN: arn = "", Type: type = "" } = parameter ?? {};
    if (version === undefined || text === undefined) {
      throw new ProviderError("unavailable", "no", "ssm:GetParameter: not an answer of SSM");
    }
    return { version, text, arn, type };
  }

  /** What a put has to say again. */
  async #settings(ctx: Ctx): Promise<Omit<PutParameterRequest, "Name" | "Type" | "Value">> {
    const { DescribeParametersCommand } = await import("@aws-sdk/client-ssm");
    const filter = { Key: "Name", Option: "Equals", Values: [this.place.name] };
    let found: ParameterMetadata | undefined;
    let next: string | undefined;
    do {
      const command = new DescribeParametersCommand({ ParameterFilters: [filter], ...(next && { NextToken: next }) });
      const answer = await this.aws.send(DESCRIBE, command, { ctx, mutates: false });
      found = answer.Parameters?.find(({ Name }) => Name === this.place.name);
      next = answer.NextToken;
    } while (found === undefined && next);
    if (found === undefined)
      throw new ProviderError("conflict", "no", `${this.place.name} was removed by somebody else`);
    const { KeyId, Tier, Description, AllowedPattern, DataType } = found;
    return {
      ...(KeyId && { KeyId }),
      ...(Description && { Description }),
      ...(AllowedPattern && { AllowedPattern }),
      ...(DataType && { DataType }),
      Tier: this.place.tier ?? (Tier === "Advanced" ? Tier : "Standard"),
    };
  }

  #fitness({ text, type }: Held, what: string): Finding[] {
    const { layout } = this.place;
    if (type !== "SecureString") {
      const hint = "a parameter's type cannot be changed: make one of type SecureString under another name";
      return [{ reason: "store-unsuitable", blocks: true, message: `${what} is a ${type}, in clear`, hint }];
    }
    if (layout.plain && Object.keys(layout.fields).length !== 1) {
      const hint = "name that one in `fields`";
      return [{ reason: "name-conflict", blocks: true, message: `${what} is plain text, which holds one field`, hint }];
    }
    try {
      ourFields(text, layout);
      return [];
    } catch (error) {
      const { message, detail } = ProviderError.from(error);
      const hint = detail.hint === undefined ? {} : { hint: detail.hint };
      return [{ reason: "store-unsuitable", blocks: true, message: `${what}: ${message}`, ...hint }];
    }
  }

  #fields({ text }: Held): SecretValue | null {
    return about(this.place.name, () => ourFields(text, this.place.layout));
  }

  #merged(text: string | null, value: SecretValue, tier: string | undefined): string {
    const merged = about(this.place.name, () => withOurFields(text, value, this.place.layout));
    const size = Buffer.byteLength(merged);
    const most = LARGEST[(tier ?? "Standard") as Tier];
    if (size <= most) return merged;
    const hint = tier === "Advanced" ? {} : { hint: "write `tier: Advanced` beside its name" };
    throw new ProviderError("invalid", "no", `${this.place.name} would grow to ${size} bytes, more than ${most}`, hint);
  }
}

const PUT = "ssm:PutParameter";
const DESCRIBE = "ssm:DescribeParameters";

const settings = z.strictObject({
  region: region().describe("Region that the parameters are in"),
  ...place,
});

const delivery = z.strictObject({
  name: z
    .string()
    .regex(/^\/?[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)*$/, "is no name of a parameter")
    .max(1011)
    .describe("Name of the parameter, with its path: /prod/payments"),
  plain: z
    .boolean()
    .default(false)
    .describe("The value is one field itself instead of a JSON object with one member a field"),
  tier: z
    .enum(["Standard", "Advanced", "Intelligent-Tiering"])
    .optional()
    .describe("Tier of the parameter: up to 4 KiB or 8 KiB (default: the one it has, Standard for a new one)"),
  create: z
    .union([
      z.boolean(),
      z.strictObject({
        kmsKey: z.string().min(1).optional().describe("KMS key id, ARN or alias that encrypts it (default aws/ssm)"),
        description: z.string().max(1024).optional().describe("Description of a parameter that is made"),
        tags: z.record(z.string().min(1).max(128), z.string().max(256)).optional().describe("Tags of one that is made"),
      }),
    ])
    .default(false)
    .describe("Make the parameter where there is none: `true`, or with what"),
});

export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "aws-ssm",
  settings,
  delivery,
  published: { propagation: 5000, settle: 5000 },
  nameOf: (_settings, { name }) => name,
  create: (options, { name, plain, tier, create }, { fields }, deps: AdapterDeps) => {
    const make = create === false ? null : create === true ? {} : create;
    const layout = { plain, fields };
    return new SsmStore({ name, layout, tier, make, account: options.expect?.account }, awsAt(options, deps), options);
  },
};
