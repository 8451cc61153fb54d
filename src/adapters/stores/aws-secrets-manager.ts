import { createHash, randomUUID } from "node:crypto";
import * as z from "zod";
import type { Duration } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import type { SecretValue } from "../../core/secret-value.ts";
import type { StoreAdapter } from "../../ports/adapter.ts";
import type { AwsPermission, Ctx, Description } from "../../ports/context.ts";
import type { Ref, Served, StagedStore } from "../../ports/store.ts";
import { about, otherMembers, ourFields, withOurFields } from "../aws-body.ts";
import { awsAt, place, region, type Aws, type AwsPlace } from "../aws.ts";
import { describeSecret, permissionsOf } from "../aws-secret-checks.ts";
import {
  CURRENT,
  LARGEST,
  orNull,
  SecretClient,
  type SecretInfo,
  type SecretPlace,
  type SecretVersion,
} from "../aws-secret-client.ts";
import { secretsOf } from "./aws-secrets-manager-names.ts";

const VERSION = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
/** Questions so close together are one look: less than the service itself may be behind. */
const SAME_LOOK: Duration = 2000;
/** For so long we go by what we know of the labels; a wrong guess is refused by the compare-and-set. */
const RECENT: Duration = 60_000;

interface Sight<T> {
  readonly of: T;
  /** Monotonic. */
  readonly at: number;
}

/**
 * One JSON secret (or plain text) of AWS Secrets Manager.
 *
 * - Staged: a version under our own label `keyturn/<version id>`, which also keeps it from being cleaned up and is how
 *   it is found again. AWSPENDING is never used: a put steals it from AWS's own rotation.
 * - Its client token, and so its id, is a hash of the version id: AWS refuses the same token with another text, which
 *   makes staging create-only, and a replay adds nothing. A version re-based on changed siblings, put back, or
 *   written afresh has a token of its own, out of all that it rests on.
 * - Promoted: our fields merged into what is current now, AWSCURRENT moved by compare-and-set on the version that was
 *   read. Where the siblings are those of the staged version, the label alone moves. AWSPREVIOUS follows by itself.
 * - A first version always gets AWSCURRENT, whatever labels it is put with
 *   (docs.aws.amazon.com/secretsmanager, PutSecretValue). So before a value that is not verified is staged into an
 *   empty secret, a version without any value takes that place: `{}`, or a few bytes where the secret is plain text.
 */
class SecretsManagerStore implements StagedStore {
  readonly traits = { staged: true, proof: "value", timing: { propagation: 5000, settle: 5000 } } as const;
  readonly objectKey: string;
  readonly #client: SecretClient;
  /** Our labels as far as we know: version → id of the secret's version; null: it has none. */
  readonly #holders = new Map<string, string | null>();
  /** Versions by id; their texts never change. */
  readonly #versions = new Map<string, SecretVersion>();
  /** What was read of AWSCURRENT and of the secret since we last wrote. */
  #current: Sight<SecretVersion | null> | null = null;
  #info: Sight<SecretInfo | null> | null = null;
  /** What AWSCURRENT is on, read or written; null: nothing. */
  #latest: Sight<SecretVersion | null> | null = null;

  constructor(
    private readonly place: SecretPlace,
    private readonly aws: Aws,
    at: AwsPlace,
  ) {
    this.#client = new SecretClient(aws, place.name);
    this.objectKey = ["aws-secrets-manager", at.profile ?? "", at.endpoint ?? "", aws.region, place.name].join(":");
  }

  permissions(): readonly AwsPermission[] {
    return permissionsOf(this.place, this.aws.region);
  }

  async describe(ctx: Ctx): Promise<Description> {
    const reads = { info: () => this.#describe(ctx), current: () => this.#look(ctx) };
    return describeSecret(this.place, this.aws, reads, (action) => this.#client.probe(action, ctx), ctx);
  }

  async regions(ctx: Ctx): Promise<readonly string[]> {
    const info = this.#info === null ? await this.#describe(ctx) : this.#info.of;
    return [this.aws.region, ...(info?.replicas ?? [])];
  }

  async others(ctx: Ctx): Promise<readonly string[]> {
    const text = (await this.#look(ctx))?.text ?? null;
    return text === null ? [] : otherMembers(text, this.place.layout);
  }

  async current(ctx: Ctx): Promise<Served | null> {
    const version = await this.#look(ctx);
    const value = version === null ? null : this.#fields(version);
    if (version === null || value === null) return null;
    // Whether it has replicas we know once we have asked; how far they are has to be asked each time.
    const known = this.#info?.of;
    const info = known && known.replicas.length === 0 ? known : await this.#describe(ctx);
    const lagging = info?.lagging ?? [];
    return { ref: version.id, value, ...(lagging.length > 0 && { lagging }) };
  }

  async read(version: string, ctx: Ctx): Promise<SecretValue | null> {
    const held = await this.#client.get({ label: labelOf(version) }, ctx);
    this.#holders.set(version, held?.id ?? null);
    return held === null ? null : this.#fields(held);
  }

  async stage(version: string, value: SecretValue, ctx: Ctx): Promise<void> {
    const label = labelOf(version);
    const held = await this.#find(version, ctx);
    if (held !== null) return this.#mustEqual(held, version, value);
    // Any siblings will do: whoever promotes it merges anew.
    const seen = this.#recent() ? (this.#latest?.of ?? null) : await this.#look(ctx);
    const base = seen ?? (await this.#plant(label, version, ctx));
    if (this.#fields(base)?.equals(value)) {
      // Adopted: what is served already is this version.
      await this.#writing(() => this.#client.move(label, base.id, null, version, ctx));
      this.#holders.set(version, base.id);
      return;
    }
    await this.#write(tokenOf(version), this.#merged(base.text, value), version, value, ctx);
  }

  async put(version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    labelOf(version);
    const now = this.#expected(value, expected) ?? (await this.#look(ctx));
    const served = now === null ? null : this.#fields(now);
    if ((served === null ? null : (now?.id ?? null)) !== expected) {
      throw new ProviderError("conflict", "no", `${this.place.name} was changed by somebody else`);
    }
    if (now === null) return this.#first(version, value, ctx);
    if (served?.equals(value) && !fresh) return now.id;
    const target = await this.#target(version, value, now, fresh, ctx);
    await this.#writing(() => this.#client.move(CURRENT, target.id, now.id, version, ctx));
    this.#serves(target);
    return target.id;
  }

  async discard(version: string, ctx: Ctx): Promise<void> {
    const label = labelOf(version);
    const known = this.#holders.get(version);
    let id = known === undefined ? (this.#info?.of?.holderOf(label) ?? null) : known;
    if (!this.#recent() || id === null || this.#latest?.of?.id === id) {
      const info = await this.#describe(ctx);
      id = info?.holderOf(label) ?? null;
      if (id === null) return;
      if (info?.holderOf(CURRENT) === id) {
        throw new ProviderError("invalid", "no", `${version} is served and cannot be discarded`);
      }
    }
    await this.#unlabel(version, label, id, ctx);
  }

  async #unlabel(version: string, label: string, holder: string, ctx: Ctx): Promise<void> {
    try {
      await this.#writing(() => this.#client.move(label, null, holder, version, ctx));
      this.#holders.set(version, null);
    } catch (error) {
      // What we knew may be wrong: whoever comes again asks first.
      this.#holders.delete(version);
      this.#info = null;
      throw error;
    }
  }

  /** The version that is replaced, where its text is known: should it be current no more, the compare-and-set tells. */
  #expected(value: SecretValue, ref: Ref | null): SecretVersion | null {
    const version = ref === null ? undefined : this.#versions.get(ref);
    // Nothing would be compared where nothing has to be written.
    return version === undefined || this.#fields(version)?.equals(value) ? null : version;
  }

  /**
   * The version to promote: the staged one if its siblings are those of today, else a new one under its label. What
   * was current once is not made current again: an older compare-and-set on its id, still under way, would win.
   */
  async #target(
    version: string,
    value: SecretValue,
    now: SecretVersion,
    fresh: boolean,
    ctx: Ctx,
  ): Promise<SecretVersion> {
    const text = this.#merged(now.text, value);
    const held = await this.#find(version, ctx);
    if (held !== null) this.#mustEqual(held, version, value);
    if (fresh) return this.#write(randomUUID(), text, version, value, ctx);
    const staged = held ?? (await this.#write(tokenOf(version), text, version, value, ctx));
    if (staged.text === text && !isBehind(staged, now)) return staged;
    return this.#write(tokenOf(version, text, now.id), text, version, value, ctx);
  }

  /** Into an empty secret, or one that is not there. */
  async #first(version: string, value: SecretValue, ctx: Ctx): Promise<Ref> {
    const [id, label, text] = [tokenOf(version), labelOf(version), this.#merged(null, value)];
    const { make, name } = this.place;
    const labels = await this.#writing(() => orNull(this.#client.put(id, text, label, version, ctx)));
    if (labels === null) {
      if (make === null) throw missing(name);
      await this.#writing(() => this.#client.create(id, text, make, version, ctx));
      await this.#client.move(label, id, null, version, ctx);
    } else if (!labels.includes(CURRENT)) {
      throw new ProviderError("conflict", "no", `${name} was given a value by somebody else`);
    }
    this.#holders.set(version, id);
    this.#serves({ id, text });
    return id;
  }

  /** Gives an empty secret a first version, so that what is staged next is not served. */
  async #plant(label: string, version: string, ctx: Ctx): Promise<SecretVersion> {
    const { make, name, layout } = this.place;
    const planted = { id: tokenOf("", name), text: layout.plain ? null : "{}" };
    // Under the label that the value gets next: nothing is left behind.
    const labels = await this.#writing(() => orNull(this.#client.put(planted.id, planted.text, label, version, ctx)));
    if (labels === null) {
      if (make === null) throw missing(name);
      await this.#client.create(planted.id, planted.text, make, version, ctx);
    }
    this.#serves(planted);
    return planted;
  }

  /** Adds a version under our label; what is there already under this token has to hold the same fields. */
  async #write(id: string, text: string, version: string, value: SecretValue, ctx: Ctx): Promise<SecretVersion> {
    try {
      await this.#writing(() => this.#client.put(id, text, labelOf(version), version, ctx));
    } catch (error) {
      if (!(error instanceof ProviderError) || error.kind !== "conflict") throw error;
      const there = await this.#client.get({ id }, ctx);
      if (there === null) throw error;
      this.#mustEqual(there, version, value);
      // The same fields beside other siblings: whoever promotes it merges anew.
      this.#holders.set(version, there.id);
      return there;
    }
    this.#holders.set(version, id);
    const written = { id, text };
    this.#versions.set(id, written);
    return written;
  }

  /** The version under our label, without asking where we know. */
  async #find(version: string, ctx: Ctx): Promise<SecretVersion | null> {
    const known = this.#holders.get(version);
    const kept = known == null ? undefined : this.#versions.get(known);
    if (kept !== undefined) return kept;
    const label = labelOf(version);
    if (known === undefined && this.#info?.of != null && this.#info.of.holderOf(label) === null) return null;
    const held = await this.#client.get({ label }, ctx);
    this.#holders.set(version, held?.id ?? null);
    if (held !== null) this.#versions.set(held.id, held);
    // A version without a value keeps the place of one that never came.
    return held === null || this.#fields(held) === null ? null : held;
  }

  async #look(ctx: Ctx): Promise<SecretVersion | null> {
    if (this.#current !== null && ageOf(this.#current) < SAME_LOOK) return this.#current.of;
    const at = performance.now();
    const version = await this.#client.get({ label: CURRENT }, ctx);
    this.#current = { of: version, at };
    this.#serves(version);
    return version;
  }

  async #describe(ctx: Ctx): Promise<SecretInfo | null> {
    if (this.#info !== null && ageOf(this.#info) < SAME_LOOK) return this.#info.of;
    const at = performance.now();
    const info = await this.#client.describe(ctx);
    this.#info = { of: info, at };
    return info;
  }

  /** What was seen before a write of ours proves nothing after it, nor after one whose answer was lost. */
  async #writing<T>(write: () => Promise<T>): Promise<T> {
    const forget = (): void => {
      this.#current = null;
      if (this.#info !== null) this.#info = { ...this.#info, at: -Infinity };
    };
    forget();
    return write().finally(forget);
  }

  #serves(version: SecretVersion | null): void {
    this.#latest = { of: version, at: performance.now() };
    if (version !== null) this.#versions.set(version.id, { ...version, wasServed: true });
  }

  #recent(): boolean {
    return this.#latest !== null && ageOf(this.#latest) < RECENT;
  }

  #mustEqual(held: SecretVersion, version: string, value: SecretValue): void {
    if (this.#fields(held)?.equals(value)) return;
    throw new ProviderError("conflict", "no", `${this.place.name} holds another value for ${version}`);
  }

  #fields({ text }: SecretVersion): SecretValue | null {
    return text === null ? null : about(this.place.name, () => ourFields(text, this.place.layout));
  }

  #merged(text: string | null, value: SecretValue): string {
    const merged = about(this.place.name, () => withOurFields(text, value, this.place.layout));
    const size = Buffer.byteLength(merged);
    if (size <= LARGEST) return merged;
    throw new ProviderError("invalid", "no", `${this.place.name} would grow to ${size} bytes, more than ${LARGEST}`);
  }
}

/** Whether it has been current before the one that is now: what we promote is always younger than what it replaces. */
function isBehind(version: SecretVersion, now: SecretVersion): boolean {
  if (version.wasServed) return true;
  return version.createdAt !== undefined && now.createdAt !== undefined && version.createdAt < now.createdAt;
}

function ageOf({ at }: Sight<unknown>): Duration {
  return performance.now() - at;
}

function labelOf(version: string): string {
  if (VERSION.test(version)) return `keyturn/${version}`;
  throw new ProviderError("invalid", "no", "a version id has a form that no label may have");
}

/** In the form of a UUID, as the SDKs make them. */
function tokenOf(version: string, text = "", replaces = ""): string {
  const hash = (what: string): string => createHash("sha256").update(what).digest("hex");
  const hex = hash(`${version}\0${hash(text)}\0${replaces}`);
  return [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    "-",
  );
}

function missing(name: string): ProviderError {
  const hint = "make it, or write `create: true` beside its name";
  return new ProviderError("not-found", "no", `there is no secret ${name}`, { hint });
}

const settings = z.strictObject({
  region: region().describe("Region that the secrets are written in; replicas follow by themselves"),
  ...place,
});

const delivery = z.strictObject({
  name: z.string().min(1).max(2048).describe("Name or ARN of the secret"),
  plain: z
    .boolean()
    .default(false)
    .describe("The secret's text is one field itself instead of a JSON object with one member a field"),
  create: z
    .union([
      z.boolean(),
      z.strictObject({
        kmsKey: z
          .string()
          .min(1)
          .optional()
          .describe("KMS key id, ARN or alias that encrypts it (default aws/secretsmanager)"),
        description: z.string().max(2048).optional().describe("Description of a secret that is made"),
        tags: z
          .record(z.string().min(1).max(128), z.string().max(256))
          .optional()
          .describe("Tags of a secret that is made"),
      }),
    ])
    .default(false)
    .describe("Make the secret where there is none: `true`, or with what; one that is there is never changed by this"),
});

export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "aws-secrets-manager",
  settings,
  delivery,
  published: { propagation: 5000, settle: 5000 },
  nameOf: (_settings, { name }) => name,
  discover: (deps, ctx) => secretsOf(awsAt({}, deps), ctx),
  create: (options, { name, plain, create }, { fields }, deps) => {
    const make = create === false ? null : create === true ? {} : create;
    const account = options.expect?.account;
    return new SecretsManagerStore({ name, layout: { plain, fields }, make, account }, awsAt(options, deps), options);
  },
};
