import {
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type ListObjectsV2CommandOutput,
} from "@aws-sdk/client-s3";
import type { Duration, Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import { outside, type AwsPermission } from "../../ports/context.ts";
import { awsCodeOf, type Aws } from "../aws.ts";
import { partitionOf } from "../aws-permissions.ts";
import type { StatePlace } from "../state-place.ts";

/** Both clocks of an age are told in whole seconds, so it may seem longer than it is by less than one. */
const GRAIN: Duration = 1000;

/** What must be so of a key for a write to it. */
export type Condition = { readonly is: string } | "absent";

export interface Held {
  readonly text: string;
  readonly etag: string;
  readonly age: Duration;
}

export interface Listed {
  readonly key: string;
  readonly modified: Instant;
}

export interface Bucket {
  readonly name: string;
  readonly kmsKey: string | undefined;
  readonly owner: string | undefined;
}

/** The objects of one bucket, each written only under a condition and by one request. */
export class S3Objects {
  constructor(
    private readonly aws: Aws,
    private readonly bucket: Bucket,
    private readonly place: StatePlace,
  ) {}

  /** null: there is none. `deleted`: there was one, and a delete marker of the bucket's versioning stands for it. */
  async get(key: string): Promise<Held | "deleted" | null> {
    let now: Instant = 0;
    let isDeleted = false;
    const heard = (at: Instant, headers: Readonly<Record<string, string>>): void => {
      now = at;
      isDeleted = headers["x-amz-delete-marker"] === "true";
    };
    try {
      const command = new GetObjectCommand({ ...this.#in(), Key: key });
      const answer = await this.aws.send("s3:GetObject", command, { ctx: CTX, mutates: false, heard });
      const { Body: body, ETag: etag, LastModified: modified } = answer;
      if (body === undefined || etag === undefined || modified === undefined) throw this.#unlike("s3:GetObject");
      const age = Math.max(0, now - modified.getTime() - GRAIN);
      return { text: await body.transformToString(), etag, age };
    } catch (error) {
      if (awsCodeOf(error) === "NoSuchKey") return isDeleted ? "deleted" : null;
      throw this.#failure(error);
    }
  }

  /**
   * @returns the new object's ETag; null: the condition did not hold
   * @throws ProviderError, applied `maybe` where it may have been written
   */
  async put(key: string, text: string, condition: Condition): Promise<string | null> {
    const { kmsKey } = this.bucket;
    const command = new PutObjectCommand({
      ...this.#in(),
      Key: key,
      Body: text,
      ContentType: "application/json",
      ...(condition === "absent" ? { IfNoneMatch: "*" } : { IfMatch: condition.is }),
      ...(kmsKey !== undefined && { ServerSideEncryption: "aws:kms" as const, SSEKMSKeyId: kmsKey }),
    });
    try {
      const { ETag: etag } = await this.aws.send("s3:PutObject", command, { ctx: CTX, mutates: true });
      if (etag === undefined) throw this.#unlike("s3:PutObject", "maybe");
      return etag;
    } catch (error) {
      if (["PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"].includes(awsCodeOf(error))) return null;
      throw this.#failure(error);
    }
  }

  /** By key, ascending; a page is in memory at a time. */
  async *list(prefix: string): AsyncIterable<Listed> {
    for (let token: string | undefined; ;) {
      const page = await this.#page(prefix, 1000, token);
      for (const { Key: key, LastModified: modified } of page.Contents ?? []) {
        if (key === undefined || modified === undefined) throw this.#unlike("s3:ListBucket");
        yield { key, modified: modified.getTime() };
      }
      token = page.NextContinuationToken;
      if (token === undefined) return;
    }
  }

  async hasAny(prefix: string): Promise<boolean> {
    return ((await this.#page(prefix, 1)).Contents ?? []).length > 0;
  }

  /** Of everything that is kept below `prefix`. */
  permissions(prefix: string): readonly AwsPermission[] {
    const { name, kmsKey } = this.bucket;
    const arn = `arn:${partitionOf(this.aws.region)}:s3:::${name}`;
    const line = (why: string, actions: readonly string[], resource: string) =>
      ({ for: "aws", why, actions, resources: [resource] }) as const;
    const key = kmsKey?.startsWith("arn:") === true ? kmsKey : null;
    return [
      line("read and keep the state", ["s3:GetObject", "s3:PutObject"], `${arn}/${prefix}/*`),
      line("find the state's documents", ["s3:ListBucket"], arn),
      ...(key === null ? [] : [line("encrypt the state", ["kms:Decrypt", "kms:GenerateDataKey"], key)]),
    ];
  }

  async #page(prefix: string, most: number, token?: string): Promise<ListObjectsV2CommandOutput> {
    const from = token === undefined ? {} : { ContinuationToken: token };
    const command = new ListObjectsV2Command({ ...this.#in(), Prefix: prefix, MaxKeys: most, ...from });
    try {
      return await this.aws.send("s3:ListBucket", command, { ctx: CTX, mutates: false });
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #in(): { Bucket: string; ExpectedBucketOwner?: string } {
    const { name, owner } = this.bucket;
    return { Bucket: name, ...(owner !== undefined && { ExpectedBucketOwner: owner }) };
  }

  #unlike(action: string, applied: ProviderError["applied"] = "no"): ProviderError {
    return new ProviderError("unavailable", applied, `${action}: not an answer of S3`);
  }

  #failure(thrown: unknown): unknown {
    const error = ProviderError.from(thrown);
    const hint = HINTS[awsCodeOf(error)];
    const { kind, applied, message, detail } = error;
    const hinted = hint === undefined ? error : new ProviderError(kind, applied, message, { ...detail, hint });
    return this.place.told(
      hinted,
      "check `region`, `endpoint` (AWS_ENDPOINT_URL), and that it can be reached from here",
    );
  }
}

const REGION = "the bucket is in another region: name it (`region`, AWS_REGION)";
const HINTS: Readonly<Record<string, string>> = {
  AccessDenied:
    "allow s3:GetObject and s3:PutObject on the prefix, s3:ListBucket on the bucket, and the use of its KMS key",
  AuthorizationHeaderMalformed: REGION,
  IllegalLocationConstraintException: REGION,
  NoSuchBucket: "make the bucket, or name another one",
  PermanentRedirect: REGION,
};

/** Each write has its condition. */
const CTX = outside();
