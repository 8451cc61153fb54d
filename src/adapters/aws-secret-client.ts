import type { DescribeSecretResponse } from "@aws-sdk/client-secrets-manager";
import { ProviderError } from "../core/errors.ts";
import type { Ctx } from "../ports/context.ts";
import type { Layout } from "./aws-body.ts";
import { probed, type Verdict } from "./aws-permissions.ts";
import { awsCodeOf, type Aws } from "./aws.ts";

export const CURRENT = "AWSCURRENT";
/** The largest text, in bytes. */
export const LARGEST = 65_536;
/** What an empty secret holds until its first value is promoted, where `{}` would be taken for one. */
const NOTHING_YET = Buffer.from("keyturn: no value yet");
const NO_VERSION = "00000000-0000-0000-0000-000000000000";

/** One version; its text never changes. */
export interface SecretVersion {
  readonly id: string;
  /** null: there is no value yet. */
  readonly text: string | null;
  /** It is current or has been, as far as its labels tell. */
  readonly wasServed?: boolean;
  /** By the service's clock, ms, cut to seconds by some. */
  readonly createdAt?: number;
}

/** Settings of a secret that is made. */
export interface Making {
  readonly kmsKey?: string | undefined;
  readonly description?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
}

/** One delivery: which secret, and how it lies in it. */
export interface SecretPlace {
  /** Name or ARN. */
  readonly name: string;
  readonly layout: Layout;
  /** null: a secret that is missing is not made. */
  readonly make: Making | null;
  /** The account id that it has to be in. */
  readonly account: string | undefined;
}

/** What `DescribeSecret` tells, for one secret. */
export class SecretInfo {
  constructor(readonly answer: DescribeSecretResponse) {}

  /** Region → what it is waiting for: `InProgress`, `Failed`. */
  get lagging(): readonly string[] {
    const late = (this.answer.ReplicationStatus ?? []).filter(({ Status }) => Status !== "InSync");
    return late.map(({ Region, Status }) => (Status === "Failed" ? `${Region} (failed)` : `${Region}`));
  }

  get replicas(): readonly string[] {
    return (this.answer.ReplicationStatus ?? []).flatMap(({ Region }) => (Region === undefined ? [] : [Region]));
  }

  /** The id of the version that carries a label. */
  holderOf(label: string): string | null {
    const versions = Object.entries(this.answer.VersionIdsToStages ?? {});
    return versions.find(([, labels]) => labels.includes(label))?.[0] ?? null;
  }

  /** `123456789012` */
  get account(): string | null {
    return this.answer.ARN?.split(":")[4] ?? null;
  }
}

/** The calls that one secret needs, one request each. Reads always name a label or a version id. */
export class SecretClient {
  constructor(
    private readonly aws: Aws,
    /** Name or ARN. */
    readonly name: string,
  ) {}

  /** null: no such secret, or no such version. */
  async get(which: { readonly label: string } | { readonly id: string }, ctx: Ctx): Promise<SecretVersion | null> {
    const { GetSecretValueCommand } = await import("@aws-sdk/client-secrets-manager");
    const version = "label" in which ? { VersionStage: which.label } : { VersionId: which.id };
    const command = new GetSecretValueCommand({ SecretId: this.name, ...version });
    const answer = await orNull(this.aws.send("secretsmanager:GetSecretValue", command, { ctx, mutates: false }));
    if (answer === null) return null;
    const { VersionId: id, SecretString: text, SecretBinary: binary } = answer;
    if (id === undefined)
      throw new ProviderError("unavailable", "no", `${this.name}: not an answer of Secrets Manager`);
    const wasServed = answer.VersionStages?.some((label) => label === CURRENT || label === "AWSPREVIOUS") ?? false;
    const told = { id, wasServed, ...(answer.CreatedDate && { createdAt: answer.CreatedDate.getTime() }) };
    if (text !== undefined) return { ...told, text };
    if (binary !== undefined && NOTHING_YET.equals(binary)) return { ...told, text: null };
    const hint = "a secret for keyturn holds text: give this delivery another name";
    throw new ProviderError("invalid", "no", `${this.name} holds binary data`, { hint });
  }

  /** null: no such secret. */
  async describe(ctx: Ctx): Promise<SecretInfo | null> {
    const { DescribeSecretCommand } = await import("@aws-sdk/client-secrets-manager");
    const command = new DescribeSecretCommand({ SecretId: this.name });
    const answer = await orNull(this.aws.send("secretsmanager:DescribeSecret", command, { ctx, mutates: false }));
    return answer === null ? null : new SecretInfo(answer);
  }

  /**
   * Adds a version under one label of ours; `token` becomes its id. The same token with the same text adds nothing;
   * with another text it is `conflict`.
   *
   * @returns all its labels: the first version of a secret gets AWSCURRENT besides
   */
  async put(token: string, text: string | null, label: string, version: string, ctx: Ctx): Promise<readonly string[]> {
    const { PutSecretValueCommand } = await import("@aws-sdk/client-secrets-manager");
    const labels = { VersionStages: [label] };
    const command = new PutSecretValueCommand({
      SecretId: this.name,
      ClientRequestToken: token,
      ...contentOf(text),
      ...labels,
    });
    const answer = await this.aws.send("secretsmanager:PutSecretValue", command, { ctx, mutates: true, version });
    return answer.VersionStages ?? [];
  }

  /** Makes the secret with its first version. `conflict`: there is one. */
  async create(token: string, text: string | null, making: Making, version: string, ctx: Ctx): Promise<void> {
    const { CreateSecretCommand } = await import("@aws-sdk/client-secrets-manager");
    const { kmsKey, description, tags = {} } = making;
    const command = new CreateSecretCommand({
      Name: this.name,
      ClientRequestToken: token,
      ...contentOf(text),
      ...(kmsKey !== undefined && { KmsKeyId: kmsKey }),
      ...(description !== undefined && { Description: description }),
      ...(Object.keys(tags).length > 0 && { Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })) }),
    });
    await this.aws.send("secretsmanager:CreateSecret", command, { ctx, mutates: true, version });
  }

  /**
   * Moves a label, compared and set: `from` (null: nowhere) has to be where it is now. `to` null takes it away.
   *
   * @throws ProviderError `conflict`, applied `no`, where it is elsewhere
   */
  async move(label: string, to: string | null, from: string | null, version: string, ctx: Ctx): Promise<void> {
    const { UpdateSecretVersionStageCommand } = await import("@aws-sdk/client-secrets-manager");
    const command = new UpdateSecretVersionStageCommand({
      SecretId: this.name,
      VersionStage: label,
      ...(to !== null && { MoveToVersionId: to }),
      ...(from !== null && { RemoveFromVersionId: from }),
    });
    const action = "secretsmanager:UpdateSecretVersionStage";
    try {
      await this.aws.send(action, command, { ctx, mutates: true, version });
    } catch (error) {
      if (awsCodeOf(error) !== "InvalidParameterException") throw error;
      throw new ProviderError("conflict", "no", `${this.name} was changed by somebody else`);
    }
  }

  /**
   * Whether we may put and move, found out by requests that carry nothing: a put without content, a label of nobody's
   * taken from a version that does not exist.
   */
  async probe(action: string, ctx: Ctx): Promise<Verdict> {
    const { PutSecretValueCommand, UpdateSecretVersionStageCommand } = await import("@aws-sdk/client-secrets-manager");
    const SecretId = this.name;
    const sending = { ctx, mutates: false };
    if (action === "secretsmanager:PutSecretValue") {
      return probed(this.aws.send(action, new PutSecretValueCommand({ SecretId }), sending));
    }
    if (action === "secretsmanager:UpdateSecretVersionStage") {
      const input = { SecretId, VersionStage: "keyturn/probe", RemoveFromVersionId: NO_VERSION };
      return probed(this.aws.send(action, new UpdateSecretVersionStageCommand(input), sending));
    }
    return "cannot-tell";
  }
}

function contentOf(text: string | null): { SecretString: string } | { SecretBinary: Uint8Array } {
  return text === null ? { SecretBinary: NOTHING_YET } : { SecretString: text };
}

export async function orNull<T>(asking: Promise<T>): Promise<T | null> {
  return asking.catch((error: unknown) => {
    if (error instanceof ProviderError && error.kind === "not-found") return null;
    throw error;
  });
}
