import { createHash } from "node:crypto";
import * as z from "zod";
import { parseDuration, type Duration } from "../../core/duration.ts";
import { ProviderError, type ProviderErrorKind } from "../../core/errors.ts";
import { SecretValue } from "../../core/secret-value.ts";
import { credential, type AdapterDeps, type Discovery, type IssuerAdapter } from "../../ports/adapter.ts";
import type { Ctx, Description, Finding } from "../../ports/context.ts";
import { datesOf, type Issuer, type IssuerTiming, type KeyId, type ObservedKey } from "../../ports/issuer.ts";
import type { KeyUsage, UsageEvent, UsageMonitor, UsageTraits } from "../../ports/usage.ts";
import { failureOf, originOf, request, type HttpAnswer, type HttpRequest } from "../http.ts";

/** How keyturn names itself to the authority, so that its own uses are told from a consumer's. */
const OWN_INSTANCE = "keyturn";
const FIELD = "apiKey";

const settings = z.strictObject({
  url: z.string().min(1).describe("Where the authority answers: https://keys.example.com"),
  client: z.string().min(1).describe("The client whose keys are rotated."),
  adminToken: credential().describe("The authority's admin token."),
  scopes: z.array(z.string().min(1)).optional().describe("Scopes of new keys. Default: all of the client's."),
  expires: z
    .string()
    .refine((text) => (parseDuration(text) ?? 0) > 0, { error: "is no duration above zero: write 120d" })
    .meta({ duration: true })
    .optional()
    .describe("How long a new key is accepted at most. Default: for ever."),
  maxKeys: z.int().min(1).max(100).default(2).describe("How many keys the client may have at a time."),
});

type Settings = z.output<typeof settings>;

const TIMING: IssuerTiming = { listSettle: 0, propagation: 0, settle: 1000, timeGranularity: 0 };
const USAGE: UsageTraits = { granularity: 1, lag: 0, names: "consumer", history: "events", seesDenied: true };

const stamp = z.object({ authority: z.string().min(1), now: z.number() });
const shownKey = z.object({
  id: z.string().min(1),
  status: z.enum(["enabled", "disabled"]),
  label: z.string(),
  createdAt: z.number(),
  expiresAt: z.number().nullish(),
});
const listing = stamp.extend({ keys: z.array(shownKey) });
const issued = stamp.extend({ key: shownKey.extend({ value: z.string().min(1) }) });
const identified = stamp.extend({ keyId: z.string().nullable() });
const shownClient = stamp.extend({
  client: z.object({ name: z.string(), maxKeys: z.number(), scopes: z.array(z.string()) }),
});
const usageAnswer = stamp.extend({
  usage: z.array(
    z.object({
      keyId: z.string(),
      from: z.number(),
      until: z.number(),
      crowded: z.boolean(),
      events: z.array(
        z.object({
          instance: z.string(),
          outcome: z.enum(["ok", "denied"]),
          first: z.number(),
          last: z.number(),
          count: z.number(),
          longestGap: z.number().nullable(),
        }),
      ),
    }),
  ),
});
const refusal = stamp.extend({ error: z.object({ code: z.string() }) });
const accepted = z.object({ client: z.string() });
const rejected = z.object({ error: z.enum(["unknown", "disabled", "expired", "malformed"]) });

/** What the authority's own words for a refusal mean, where the status alone says less. */
const REFUSALS: Readonly<Record<string, { kind: ProviderErrorKind; why: string; hint: string }>> = {
  quota: {
    kind: "quota",
    why: "the client has as many keys as it may",
    hint: "keyturn api-keys key list --client NAME",
  },
  scope: {
    kind: "invalid",
    why: "the client does not have all of the scopes",
    hint: "take them out of `scopes:` of the issuer",
  },
};

/** keyturn's own API-key authority: `keyturn api-keys serve`. */
export const adapter: IssuerAdapter<typeof settings> = {
  type: "api-keys",
  settings,
  fields: [FIELD],
  reportsUsage: true,
  published: { ...TIMING, granularity: USAGE.granularity, lag: USAGE.lag },
  discover: (deps, ctx) => clientsOf(deps, ctx),
  create: (options) => new ApiKeys(options),
};

const [URL_VARIABLE, TOKEN_VARIABLE] = ["KEYTURN_API_KEYS_URL", "KEYTURN_API_KEYS_ADMIN_TOKEN"] as const;
const clients = stamp.extend({ clients: z.array(z.object({ name: z.string().min(1), maxKeys: z.number() })) });

/** The clients of the authority that the environment names. */
async function clientsOf({ env }: AdapterDeps, ctx: Ctx): Promise<Discovery> {
  const [url, token] = [env[URL_VARIABLE], env[TOKEN_VARIABLE]];
  if (!url) throw new ProviderError("invalid", "no", `${URL_VARIABLE} is not set`);
  if (!token) throw new ProviderError("unauthenticated", "no", `${TOKEN_VARIABLE} is not set`);
  const address = `${url.replace(/\/+$/, "")}/v1/admin/clients`;
  const headers = { authorization: `Bearer ${token}`, "user-agent": "keyturn" };
  const answer = await request({ method: "GET", url: address, headers, ctx, mutates: false });
  if (answer.status !== 200) throw refusalOf(answer, "listing clients", false);
  const found = read(clients, answer, "listing clients", false).clients.map(({ name, maxKeys }) => ({
    label: `API client ${name}`,
    name,
    settings: { url, client: name, adminToken: `\${env:${TOKEN_VARIABLE}}`, ...(maxKeys !== 2 && { maxKeys }) },
  }));
  return { where: originOf(url), found };
}

class ApiKeys implements Issuer {
  readonly traits;
  readonly usage: UsageMonitor;
  readonly #base: string;

  constructor(private readonly options: Settings) {
    this.#base = options.url.replace(/\/+$/, "");
    this.traits = {
      maxKeys: options.maxKeys,
      valueFrom: "issuer",
      canDisable: true,
      labels: true,
      issueIdempotent: false,
      timing: TIMING,
    } as const;
    this.usage = { traits: USAGE, usageOf: (keyIds, since, ctx) => this.#usageOf(keyIds, since, ctx) };
  }

  async describe(ctx: Ctx): Promise<Description> {
    const { client } = this.options;
    const answer = await this.#admin(ctx, "GET", "", false);
    if (answer.status === 200) {
      const known = read(shownClient, answer, "asking for the client", false);
      return { binding: this.#binding(known.authority), findings: this.#findings(known.client) };
    }
    const refused = read(refusal, answer, "asking for the client", false);
    const finding = (reason: Finding["reason"], message: string, hint: string): Description => ({
      binding: this.#binding(refused.authority),
      findings: [{ reason, blocks: true, message, hint }],
    });
    if (refused.error.code === "unauthenticated") {
      const hint = "give `adminToken` the token that the authority was started with";
      return finding("credentials-missing", `${originOf(this.#base)} refuses the admin token`, hint);
    }
    if (refused.error.code === "unknown-client") {
      return finding(
        "identity-mismatch",
        `the authority knows no client ${client}`,
        `keyturn api-keys client add ${client}`,
      );
    }
    throw failureOf(answer, "asking for the client", false);
  }

  async list(ctx: Ctx) {
    const { keys, now } = await this.#look(listing, ctx, "GET", "/keys", "listing keys");
    const observed = keys.map(({ id, status, label, ...dates }): ObservedKey => {
      return { keyId: id, ...datesOf(dates), state: status, ...(label === "" ? {} : { label }) };
    });
    return { keys: observed, asOf: now };
  }

  async issue(label: string, _chosen: SecretValue | null, ctx: Ctx) {
    const expiresIn = this.options.expires === undefined ? undefined : parseDuration(this.options.expires);
    const answer = await this.#admin(ctx, "POST", "/keys", true, { label, scopes: this.options.scopes, expiresIn });
    if (answer.status !== 201) throw refusalOf(answer, "issuing a key", true);
    const { key } = read(issued, answer, "issuing a key", true);
    return { keyId: key.id, value: SecretValue.of({ [FIELD]: key.value }), ...datesOf(key) };
  }

  async verify(value: SecretValue, ctx: Ctx): Promise<"accepted" | "rejected"> {
    const headers = { "x-api-key": fieldOf(value), "x-keyturn-instance": OWN_INSTANCE };
    const answer = await request({ method: "GET", url: `${this.#base}/v1/whoami`, headers, ctx, mutates: false });
    if (answer.status === 401) {
      read(rejected, answer, "verifying a key", false);
      return "rejected";
    }
    if (answer.status !== 200) throw failureOf(answer, "verifying a key", false);
    const { client } = read(accepted, answer, "verifying a key", false);
    if (client !== this.options.client)
      throw new ProviderError("invalid", "no", "verifying a key: it is another client's");
    return "accepted";
  }

  disable(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#change("POST", `/keys/${encodeURIComponent(keyId)}/disable`, "disabling a key", "absent-is-fine", ctx);
  }

  enable(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#change("POST", `/keys/${encodeURIComponent(keyId)}/enable`, "enabling a key", "must-exist", ctx);
  }

  delete(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#change("DELETE", `/keys/${encodeURIComponent(keyId)}`, "deleting a key", "absent-is-fine", ctx);
  }

  /** By the hash of the value, so that finding out is no use of the key. */
  async identify(value: SecretValue, ctx: Ctx): Promise<KeyId | null> {
    const sha256 = createHash("sha256").update(fieldOf(value)).digest("hex");
    return (await this.#look(identified, ctx, "POST", "/identify", "identifying a key", { sha256 })).keyId;
  }

  async #usageOf(keyIds: readonly KeyId[], since: number, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>> {
    const query = new URLSearchParams({ since: String(Math.floor(since)) });
    for (const keyId of keyIds) query.append("key", keyId);
    const answer = await this.#look(usageAnswer, ctx, "GET", `/usage?${query.toString()}`, "asking for usage");
    const known = new Map(answer.usage.map((usage) => [usage.keyId, usage]));
    const absent = { status: "unknown", why: "the authority knows no such key", events: [] } as const;
    const usageOfKey = (keyId: KeyId): KeyUsage => {
      const usage = known.get(keyId);
      if (!usage) return { ...absent, from: answer.now, until: answer.now };
      const seen = { from: usage.from, until: usage.until, asOf: answer.now, events: usage.events.map(toEvent) };
      if (!usage.crowded) return { status: "covered", ...seen };
      return { status: "unknown", why: "more callers used it than the authority tells apart", ...seen };
    };
    return new Map(keyIds.map((keyId) => [keyId, usageOfKey(keyId)]));
  }

  #binding(authority: string): string {
    return `api-keys:${authority}:${this.options.client}`;
  }

  #findings(client: { maxKeys: number; scopes: readonly string[] }): Finding[] {
    const findings: Finding[] = [];
    if (client.maxKeys < this.options.maxKeys) {
      const message = `the client may have ${client.maxKeys} key(s) at a time, the policy counts on ${this.options.maxKeys}`;
      findings.push({
        reason: "permission-missing",
        blocks: true,
        message,
        hint: `write \`maxKeys: ${client.maxKeys}\``,
      });
    }
    const missing = (this.options.scopes ?? []).filter((scope) => !client.scopes.includes(scope));
    if (missing.length > 0) {
      const message = `the client does not have the scopes ${missing.join(", ")}`;
      findings.push({ reason: "permission-missing", blocks: true, message });
    }
    return findings;
  }

  async #look<T extends z.ZodType>(
    schema: T,
    ctx: Ctx,
    method: "GET" | "POST",
    path: string,
    what: string,
    body?: object,
  ): Promise<z.output<T>> {
    const answer = await this.#admin(ctx, method, path, false, body);
    if (answer.status !== 200) throw refusalOf(answer, what, false);
    return read(schema, answer, what, false);
  }

  /** A 404 is only an absence when the authority itself says which: any proxy can answer 404. */
  async #change(
    method: "POST" | "DELETE",
    path: string,
    what: string,
    absent: "absent-is-fine" | "must-exist",
    ctx: Ctx,
  ): Promise<void> {
    const answer = await this.#admin(ctx, method, path, true);
    if (answer.status === 200) return void read(stamp, answer, what, true);
    if (absent === "absent-is-fine" && codeOf(answer) === "unknown-key") return;
    throw refusalOf(answer, what, true);
  }

  #admin(ctx: Ctx, method: HttpRequest["method"], path: string, mutates: boolean, body?: object): Promise<HttpAnswer> {
    const url = `${this.#base}/v1/admin/clients/${encodeURIComponent(this.options.client)}${path}`;
    const headers = { authorization: `Bearer ${this.options.adminToken}`, "user-agent": "keyturn" };
    const content = body === undefined ? {} : { body: JSON.stringify(body) };
    return request({ method, url, headers, ctx, mutates, ...content });
  }
}

function toEvent({
  instance,
  outcome,
  first,
  last,
  count,
  longestGap,
}: z.output<typeof usageAnswer>["usage"][number]["events"][number]): UsageEvent {
  const gap: { longestGap?: Duration } = longestGap === null ? {} : { longestGap };
  return { who: instance, outcome, first, last, count, own: instance === OWN_INSTANCE, ...gap };
}

function fieldOf(value: SecretValue): string {
  const field = value.reveal()[FIELD];
  if (field === undefined) throw new ProviderError("invalid", "no", `the value has no field ${FIELD}`);
  return field;
}

/** Something other than the authority may stand at the address: what does not look like its answer is none. */
function read<T extends z.ZodType>(schema: T, answer: HttpAnswer, what: string, mutates: boolean): z.output<T> {
  const result = schema.safeParse(answer.json());
  if (result.success) return result.data;
  const message = `${what}: answered ${answer.status}, but not as an API-key authority does`;
  throw new ProviderError("unavailable", mutates ? "maybe" : "no", message);
}

function codeOf(answer: HttpAnswer): string | null {
  try {
    return refusal.safeParse(answer.json()).data?.error.code ?? null;
  } catch {
    return null;
  }
}

function refusalOf(answer: HttpAnswer, what: string, mutates: boolean): ProviderError {
  const known = REFUSALS[codeOf(answer) ?? ""];
  if (known && answer.status < 500)
    return new ProviderError(known.kind, "no", `${what}: ${known.why}`, { hint: known.hint });
  return failureOf(answer, what, mutates);
}
