import { randomBytes } from "node:crypto";
import * as z from "zod";
import { ProviderError, UserError } from "../../core/errors.ts";
import type { SecretState } from "../../core/model.ts";
import type { AdapterDeps, StateAdapter } from "../../ports/adapter.ts";
import type { Permission } from "../../ports/context.ts";
import type { AuditEntry, AuditLog, Loaded, Revision, StateBackend } from "../../ports/state.ts";
import { awsAt, place, region } from "../aws.ts";
import { inOrder, readable } from "../in-order.ts";
import { StatePlace } from "../state-place.ts";
import { queryOf } from "../state-url.ts";
import { S3Objects, type Condition, type Held, type Listed } from "./s3-objects.ts";

/** What is inside of an object, beside its content. */
const FORMAT = 1;
/** Requests. A bucket takes 5,500 reads a second, each of them some 20 ms away. */
const AT_ONCE = 32;
const DIGITS = 12;

/**
 * State in a bucket: `<prefix>/secrets/<name>.json` for each document, `<prefix>/audit/<name>/<sequence>.json` for
 * each entry of the audit log. Each object carries a random word of its save, so that no two revisions have the same
 * ETag, whatever they hold.
 *
 * A save names the ETag that it replaces, and S3 refuses another (`If-Match`; `If-None-Match: *` for a new one). Look-
 * alikes are known that take the condition and do not hold to it, so each process tries one that has to be refused
 * before its first save. No request is sent twice: a second one would be refused by the first one's success.
 *
 * Nothing is ever deleted: a forgotten secret's object says so. One that is gone nevertheless was deleted by somebody;
 * a delete marker of a versioned bucket tells, and so does an audit log without its document.
 *
 * docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
 */
class S3State implements StateBackend {
  readonly location: string;
  readonly address: string;
  readonly audit: AuditLog;
  readonly #objects: S3Objects;
  readonly #place: StatePlace;
  readonly #prefix: string;
  #probed: Promise<void> | null = null;

  constructor({ bucket, prefix, kmsKey, expect, ...at }: Settings, deps: AdapterDeps) {
    this.#prefix = prefix.replace(/^\/+|\/+$/g, "");
    const endpoint = at.endpoint === undefined ? "" : `?endpoint=${at.endpoint}`;
    this.location = `s3://${bucket}/${this.#prefix}${endpoint}`;
    this.#place = new StatePlace(this.location);
    const aws = awsAt(at, deps);
    const { endpoint: server, profile } = at;
    // A URL's path has room for neither no prefix nor these signs.
    const inPath = /^[^?#]+$/.test(this.#prefix);
    const how = { ...(!inPath && { prefix: this.#prefix }), region: aws.region, endpoint: server, profile, kmsKey };
    this.address = `s3://${bucket}${inPath ? `/${this.#prefix}` : ""}${queryOf(how)}`;
    this.#objects = new S3Objects(aws, { name: bucket, kmsKey, owner: expect?.account }, this.#place);
    this.audit = {
      append: (entries) => this.#append(entries),
      read: (secret, limit) => this.#readAudit(secret, limit),
    };
  }

  async load(name: string): Promise<Loaded | null> {
    const held = await this.#held(name);
    if (held === null) return null;
    const state = this.#stateIn(held, name);
    return state === null ? null : { revision: held.etag, state, age: held.age };
  }

  loadAll(): AsyncIterable<Loaded> {
    const names = map(this.#objects.list(this.#at("secrets/")), ({ key }) => nameIn(key));
    return readable(names, AT_ONCE, async (name) => (name === null ? null : this.load(name)));
  }

  async save(name: string, next: SecretState, expected: Revision | null): ReturnType<StateBackend["save"]> {
    await this.#probe();
    const etag = await this.#write(name, next, expected);
    if (etag === "unknown") return { result: "unknown" };
    return etag === null ? { result: "stale" } : { result: "saved", revision: etag };
  }

  async remove(name: string, expected: Revision): Promise<"removed" | "stale"> {
    await this.#probe();
    const condition = conditionOf(expected);
    if (condition === null) return "stale";
    const etag = await this.#objects.put(this.#document(name), wrapped({ state: null }), condition);
    return etag === null ? "stale" : "removed";
  }

  permissions(): readonly Permission[] {
    return this.#objects.permissions(this.#prefix);
  }

  async close(): Promise<void> {}

  /** @throws UserError `state-damaged` for a document that was there and is gone */
  async #held(name: string): Promise<Held | null> {
    const key = this.#document(name);
    let held = await this.#objects.get(key);
    if (held === null) {
      if (!(await this.#objects.hasAny(this.#at(`audit/${name}/`)))) return null;
      // An entry comes after its document: one that somebody made meanwhile is there by now.
      held = await this.#objects.get(key);
    }
    if (held === null || held === "deleted") throw this.#deleted(name);
    return held;
  }

  async #write(name: string, next: SecretState, expected: Revision | null): Promise<string | null | "unknown"> {
    const key = this.#document(name);
    const text = wrapped({ state: next });
    const condition = expected === null ? ("absent" as const) : conditionOf(expected);
    if (condition === null) return null;
    try {
      const etag = await this.#objects.put(key, text, condition);
      if (etag !== null || condition !== "absent") return etag;
      // In its place may be a forgotten one's, which gives way.
      const there = await this.#objects.get(key);
      if (there === null || there === "deleted" || this.#stateIn(there, name) !== null) return null;
      return await this.#objects.put(key, text, { is: there.etag });
    } catch (error) {
      if (error instanceof ProviderError && error.applied === "maybe") return "unknown";
      throw error;
    }
  }

  /** In the order of their sequences, so that one that is refused leaves nothing behind it. */
  async #append(entries: readonly AuditEntry[]): Promise<void> {
    if (entries.length === 0) return;
    await this.#probe();
    for (const entry of entries.toSorted((a, b) => a.seq - b.seq)) {
      const key = this.#at(`audit/${entry.secret}/${String(entry.seq).padStart(DIGITS, "0")}.json`);
      if ((await this.#objects.put(key, wrapped({ entry }), "absent")) !== null) continue;
      if ((await this.#entry(key))?.hash !== entry.hash) throw this.#place.forged(entry);
    }
  }

  /** The newest `limit` entries, oldest first: of one secret by its sequence, of all by when they came in. */
  async #readAudit(secret: string | null, limit: number): Promise<readonly AuditEntry[]> {
    const all: Listed[] = [];
    for await (const one of this.#objects.list(this.#at(secret === null ? "audit/" : `audit/${secret}/`)))
      all.push(one);
    if (secret === null) all.sort((a, b) => a.modified - b.modified);
    // Within one second the entries themselves tell which came first.
    const from = secret === null ? (all.at(-limit)?.modified ?? 0) : 0;
    const chosen = secret === null ? all.filter(({ modified }) => modified >= from) : all.slice(-limit);
    const entries: AuditEntry[] = [];
    for await (const entry of inOrder(chosen, AT_ONCE, ({ key }) => this.#entry(key)))
      if (entry !== null) entries.push(entry);
    if (secret === null) entries.sort((a, b) => a.at - b.at || (a.secret === b.secret ? a.seq - b.seq : 0));
    return entries.slice(-limit);
  }

  async #entry(key: string): Promise<AuditEntry | null> {
    const held = await this.#objects.get(key);
    if (held === null) return null;
    const entry = held === "deleted" ? undefined : this.#unwrapped(held.text, key)["entry"];
    if (entry === undefined) throw this.#place.damaged(`${key} is no entry of the audit log`);
    return entry as AuditEntry;
  }

  #stateIn({ text }: Held, name: string): SecretState | null {
    const { state } = this.#unwrapped(text, this.#document(name));
    if (state === null) return null;
    return this.#place.checked(name, state);
  }

  #unwrapped(text: string, key: string): Record<string, unknown> {
    const content = this.#place.json(text, key) as Record<string, unknown> | null;
    const format = content?.["keyturn"];
    if (typeof format === "number" && format > FORMAT) throw this.#place.newer();
    if (content === null || format !== FORMAT) throw this.#place.damaged(`${key} is no object of keyturn's`);
    return content;
  }

  #probe(): Promise<void> {
    return (this.#probed ??= this.#tryRefusals().catch((error: unknown) => {
      this.#probed = null;
      throw error;
    }));
  }

  async #tryRefusals(): Promise<void> {
    const key = this.#at("keyturn.json");
    const refuses = async (condition: Condition): Promise<boolean> =>
      (await this.#objects.put(key, wrapped({}), condition)) === null;
    // The first time of all it has to be made.
    const isNew = !(await refuses("absent"));
    if ((isNew && !(await refuses("absent"))) || !(await refuses({ is: `"${"0".repeat(32)}"` }))) {
      const message = `the state in ${this.location}: this server does not refuse a stale write`;
      throw new UserError("state-without-cas", message, {
        exit: 3,
        hints: ["use a server that honours If-Match and If-None-Match on writes, or another state"],
      });
    }
  }

  #deleted(name: string): UserError {
    return this.#place.damaged(
      `the document of "${name}" was deleted`,
      `restore its newest version: ${this.#document(name)}`,
    );
  }

  #document(name: string): string {
    return this.#at(`secrets/${name}.json`);
  }

  #at(path: string): string {
    return this.#prefix === "" ? path : `${this.#prefix}/${path}`;
  }
}

function wrapped(content: object): string {
  return JSON.stringify({ keyturn: FORMAT, save: randomBytes(8).toString("hex"), ...content });
}

/** null: no ETag, which fits none. */
function conditionOf(revision: Revision): Condition | null {
  return /^"[\x21\x23-\x7e]+"$/.test(revision) ? { is: revision } : null;
}

function nameIn(key: string): string | null {
  return /\/?secrets\/([^/]+)\.json$/.exec(key)?.[1] ?? null;
}

async function* map<A, B>(items: AsyncIterable<A>, change: (item: A) => B): AsyncIterable<B> {
  for await (const item of items) yield change(item);
}

const settings = z.strictObject({
  bucket: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "is no name of a bucket")
    .describe("The bucket."),
  prefix: z.string().default("keyturn").describe("What the keys of all objects begin with. Default: keyturn."),
  region: region().optional().describe("The bucket's region. Default: AWS_REGION, AWS_DEFAULT_REGION, else us-east-1."),
  kmsKey: z
    .string()
    .min(1)
    .optional()
    .describe("Id, ARN or alias of the KMS key that objects are encrypted with. Default: as the bucket says."),
  ...place,
});
type Settings = z.output<typeof settings>;

/** `s3://bucket/prefix?region=…&endpoint=…&profile=…&kmsKey=…` */
function fromUrl(url: string): z.input<typeof settings> | null {
  const [, bucket, prefix, query] = /^s3:\/\/([^/?#]+)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(url) ?? [];
  if (bucket === undefined) return null;
  const found = { bucket, ...(prefix && { prefix }), ...Object.fromEntries(new URLSearchParams(query)) };
  return settings.safeParse(found).success ? found : null;
}

export const adapter: StateAdapter<typeof settings> = {
  type: "s3",
  settings,
  fromUrl,
  urlKeys: ["prefix", "region", "endpoint", "profile", "kmsKey"],
  create: async (options, deps) => new S3State(options, deps),
};
