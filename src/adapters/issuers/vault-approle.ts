import * as z from "zod";
import type { Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import { SecretValue } from "../../core/secret-value.ts";
import type { AdapterDeps, IssuerAdapter } from "../../ports/adapter.ts";
import type { Ctx, Description, Finding, VaultPermission } from "../../ports/context.ts";
import {
  datesOf,
  type Issuer,
  type IssuerTiming,
  type KeyId,
  type Listing,
  type ObservedKey,
} from "../../ports/issuer.ts";
import { duration, ms } from "../settings.ts";
import { allTokens, each, LABEL, listOf, revokeToken, tokenPermissions } from "../vault-accessors.ts";
import { isAbsent, isDone, read, refusalIn } from "../vault-answer.ts";
import {
  bindingOf,
  clusterOf,
  expectation,
  identityFindings,
  mountAt,
  permissionFindings,
  unlessNowhere,
} from "../vault-checks.ts";
import { segments, trimmed, type Received } from "../vault-connection.ts";
import { mountsOf } from "../vault-mounts.ts";
import { Vault, vaultPath, vaultSettings, type VaultCall } from "../vault.ts";

const settings = z.strictObject({
  ...vaultSettings,
  mount: vaultPath().default("approle").describe("Where the AppRole method is mounted. Default: approle."),
  role: z.string().min(1).describe("The role whose secret ids are rotated."),
  cidrs: z
    .array(z.string().min(1))
    .optional()
    .describe("Addresses that may log in with a new secret id; this machine's must be among them."),
  ttl: duration(1000).optional().describe("How long a new secret id is accepted at most. Default: the role's."),
  revokeTokens: z
    .boolean()
    .default(false)
    .describe(
      "Revoke the tokens, too, that were got with a secret id when it is deleted; needs sudo. Default: false, they live on.",
    ),
  maxKeys: z
    .int()
    .min(1)
    .max(100_000)
    .default(1000)
    .describe("How many secret ids the role may have at a time. Default: 1000."),
  expect: z
    .strictObject({ ...expectation, mount: z.string().min(1).optional().describe("Accessor or uuid of the mount.") })
    .default({})
    .describe("What must turn out to be so before anything is minted."),
});

type Settings = z.output<typeof settings>;

const TIMING: IssuerTiming = { listSettle: 10_000, propagation: 5000, settle: 5000, timeGranularity: 1000 };

const issued = z.object({ data: z.object({ secret_id: z.string().min(1), secret_id_accessor: z.string().min(1) }) });
const seen = z.object({
  data: z.object({
    secret_id_accessor: z.string().min(1),
    creation_time: z.iso.datetime(),
    expiration_time: z.iso.datetime(),
    metadata: z.record(z.string(), z.string()).nullish(),
  }),
});
const gone = z.object({ data: z.object({ error: z.string() }) });
const limits = z.object({
  data: z.object({ bind_secret_id: z.boolean(), secret_id_num_uses: z.number(), secret_id_ttl: z.number() }),
});
const roleIdSeen = z.object({ data: z.object({ role_id: z.string().min(1) }) });
const loggedIn = z.object({
  auth: z.object({ client_token: z.string().min(1), metadata: z.record(z.string(), z.string()).nullish() }),
});

/** Secret ids of one AppRole of Vault or OpenBao. */
export const adapter: IssuerAdapter<typeof settings> = {
  type: "vault-approle",
  settings,
  fields: ["roleId", "secretId"],
  reportsUsage: false,
  published: { ...TIMING },
  discover: async (deps, ctx) => {
    const vault = new Vault({}, deps);
    const { where, mounts } = await mountsOf(vault, "auth", "approle", ctx);
    const found = [];
    for (const { path: mount } of mounts) {
      const { keys } = await listOf(vault, `auth/${segments(mount, "role")}`, "listing roles", ctx);
      found.push(...keys.map((role) => ({ label: `AppRole ${mount}/${role}`, name: role, settings: { mount, role } })));
    }
    return { where, found };
  },
  create: (options, _secret, deps) => new VaultAppRole(options, deps),
};

/**
 * The key is a secret id, its id the accessor. Its metadata carry the version id, which then stands in every token
 * got with it, and so in the audit log beside what that token did.
 *
 * A destroyed secret id logs nobody in any more, but TOKENS GOT WITH IT LIVE ON until they end by themselves: keep the
 * role's `token_max_ttl` short, or set `revokeTokens`. A secret id can neither be disabled nor asked when it was used
 * last: Vault itself cannot tell, and its audit log names the version id alone.
 *
 * developer.hashicorp.com/vault/api-docs/auth/approle
 */
class VaultAppRole implements Issuer {
  readonly traits;
  readonly #vault: Vault;
  readonly #mount: string;
  /** Never changes by itself; known from the check that comes before each mint. */
  #roleId: string | null = null;

  constructor(
    private readonly options: Settings,
    private readonly deps: AdapterDeps,
  ) {
    this.#vault = new Vault(options, deps);
    this.#mount = `auth/${trimmed(options.mount)}`;
    this.traits = {
      maxKeys: options.maxKeys,
      valueFrom: "issuer",
      canDisable: false,
      labels: true,
      issueIdempotent: false,
      timing: TIMING,
    } as const;
  }

  async describe(ctx: Ctx): Promise<Description> {
    const { role, expect } = this.options;
    const cluster = await clusterOf(this.#vault, ctx);
    const bindingIn = (mount: string): string => bindingOf(this.#vault, cluster, mount, role);
    return unlessNowhere(bindingIn(this.#mount), async () => {
      const mount = await mountAt(this.#vault, this.#mount, ctx);
      const findings = [
        ...(await identityFindings(this.#vault, expect, cluster, mount, ctx)),
        ...(await permissionFindings(this.#vault, this.permissions(), ctx)),
        ...(await this.#roleFindings(ctx)),
      ];
      return { binding: bindingIn(mount?.id ?? this.#mount), findings };
    });
  }

  /** Beside these the token needs what the `default` policy grants: to look at itself and at what it may do. */
  permissions(): readonly VaultPermission[] {
    const line = (why: string, below: string, ...capabilities: VaultPermission["capabilities"]) =>
      this.#vault.permission(why, `${this.#mount}/role/${this.options.role}${below}`, capabilities);
    return [
      line("see what the role's secret ids are limited to", "", "read"),
      line("deliver the role id", "/role-id", "read"),
      line("list secret ids and issue new ones", "/secret-id", "list", "update"),
      line("tell our own secret ids from others", "/secret-id-accessor/lookup", "update"),
      line("find the secret id that a store serves", "/secret-id/lookup", "update"),
      line("delete old secret ids", "/secret-id-accessor/destroy", "update"),
      ...(this.options.revokeTokens ? tokenPermissions(this.#vault, "revoke tokens of old secret ids") : []),
    ];
  }

  async list(ctx: Ctx): Promise<Listing> {
    const { path, what } = this.#call("GET", "/secret-id", "listing secret ids", ["list"]);
    const { keys, asOf } = await listOf(this.#vault, path, what, ctx);
    const found = await each(keys, (keyId) => this.#lookUp(keyId, ctx));
    return { keys: found.filter((key) => key !== null), asOf };
  }

  async issue(label: string, _chosen: SecretValue | null, ctx: Ctx) {
    const { cidrs, ttl } = this.options;
    const call = this.#call("POST", "/secret-id", "issuing a secret id", ["update"], {
      metadata: JSON.stringify({ [LABEL]: label }),
      ...(cidrs !== undefined && { cidr_list: cidrs }),
      ...(ttl !== undefined && { ttl: `${Math.floor(ms(ttl) / 1000)}s` }),
    });
    const answer = await this.#vault.ask({ ...call, mutates: true }, ctx);
    if (answer.status !== 200) throw this.#vault.failure(answer, { ...call, mutates: true });
    const { data } = read(issued, answer, this.#vault.asked({ ...call, mutates: true }));
    const keyId = data.secret_id_accessor;
    try {
      const roleId = (this.#roleId ??= await this.#readRoleId(ctx));
      const made = await this.#lookUp(keyId, ctx);
      const value = SecretValue.of({ roleId, secretId: data.secret_id });
      return { keyId, value, ...datesOf(made ?? { createdAt: answer.at }) };
    } catch (error) {
      // It is there, labelled, and its value is lost with this call.
      const { kind, message, detail } = ProviderError.from(error);
      throw new ProviderError(kind, "maybe", message, detail);
    }
  }

  /** Logs in for real, and revokes the token at once. */
  async verify(value: SecretValue, ctx: Ctx): Promise<"accepted" | "rejected"> {
    const { roleId: role_id, secretId: secret_id } = value.reveal();
    const call: VaultCall = {
      method: "POST",
      path: segments(this.#mount, "login"),
      body: { role_id, secret_id },
      what: "logging in with a secret id",
      needs: [],
      token: null,
    };
    const answer = await this.#vault.ask(call, ctx);
    if (answer.status === 200) {
      const { auth } = read(loggedIn, answer, this.#vault.asked(call));
      await this.#giveBack(auth.client_token, ctx);
      if (auth.metadata?.["role_name"] === this.options.role) return "accepted";
      throw new ProviderError("invalid", "no", `${call.what}: it is another role's`);
    }
    const said = answer.status === 400 ? refusalIn(answer.body) : null;
    if (said !== null && /invalid (role|secret)/.test(said)) return "rejected";
    if (said?.includes("cidr")) {
      const hint = "add it to `cidrs:`, or to the role's secret_id_bound_cidrs";
      throw new ProviderError("invalid", "no", `${call.what}: this machine's address may not`, { hint });
    }
    throw this.#vault.failure(answer, call);
  }

  disable(): Promise<void> {
    return Promise.reject(new ProviderError("invalid", "no", "a secret id cannot be disabled"));
  }

  enable(): Promise<void> {
    return Promise.reject(new ProviderError("invalid", "no", "a secret id cannot be enabled"));
  }

  async delete(keyId: KeyId, ctx: Ctx): Promise<void> {
    const label = this.options.revokeTokens ? (await this.#lookUp(keyId, ctx))?.label : undefined;
    if (label !== undefined) await this.#revokeTokens(label, ctx);
    const call = this.#call("POST", "/secret-id-accessor/destroy", "deleting a secret id", ["update"], {
      secret_id_accessor: keyId,
    });
    const answer = await this.#vault.ask({ ...call, mutates: true }, ctx);
    if (!isDone(answer) && !isGone(answer)) throw this.#vault.failure(answer, { ...call, mutates: true });
    // Somebody may have logged in meanwhile.
    if (label !== undefined) await this.#revokeTokens(label, ctx);
  }

  async identify(value: SecretValue, ctx: Ctx): Promise<KeyId | null> {
    const { secretId } = value.reveal();
    const call = this.#call("POST", "/secret-id/lookup", "looking for a secret id", ["update"], {
      secret_id: secretId,
    });
    const answer = await this.#vault.ask(call, ctx);
    if (answer.status === 204 || isGone(answer)) return null;
    if (answer.status !== 200) throw this.#vault.failure(answer, call);
    return read(seen, answer, this.#vault.asked(call)).data.secret_id_accessor;
  }

  /** null: there is no such secret id, or it has expired. */
  async #lookUp(keyId: KeyId, ctx: Ctx): Promise<ObservedKey | null> {
    const call = this.#call("POST", "/secret-id-accessor/lookup", "looking up a secret id", ["update"], {
      secret_id_accessor: keyId,
    });
    const answer = await this.#vault.ask(call, ctx);
    if (answer.status === 204 || isGone(answer)) return null;
    if (answer.status !== 200) throw this.#vault.failure(answer, call);
    const { data } = read(seen, answer, this.#vault.asked(call));
    const ends = Date.parse(data.expiration_time);
    if (ends > 0 && ends <= answer.at) return null;
    const label = data.metadata?.[LABEL];
    const createdAt = secondOf(Date.parse(data.creation_time));
    return { keyId, createdAt, ...(ends > 0 && { expiresAt: ends }), state: "enabled", ...(label && { label }) };
  }

  async #readRoleId(ctx: Ctx): Promise<string> {
    const call = this.#call("GET", "/role-id", "reading the role id", ["read"]);
    return (await this.#vault.get(roleIdSeen, call, ctx)).data.role_id;
  }

  async #roleFindings(ctx: Ctx): Promise<Finding[]> {
    const { role } = this.options;
    const call = this.#call("GET", "", `reading the role ${role}`, ["read"]);
    const answer = await this.#vault.ask(call, ctx);
    if (answer.status === 403) return [];
    if (isAbsent(answer)) {
      const message = `${this.#mount} has no role ${role}`;
      return [{ reason: "identity-mismatch", blocks: true, message, hint: `vault list ${this.#mount}/role` }];
    }
    if (answer.status !== 200) throw this.#vault.failure(answer, call);
    const limit = read(limits, answer, this.#vault.asked(call)).data;
    const findings: Finding[] = [];
    const note = (blocks: boolean, message: string, hint: string): void =>
      void findings.push({ reason: "store-unsuitable", blocks, message: `role ${role} ${message}`, hint });
    const write = `vault write ${this.#mount}/role/${role}`;
    if (!limit.bind_secret_id) note(true, "does without secret ids", `${write} bind_secret_id=true`);
    if (limit.secret_id_num_uses > 0) {
      const message = `lets a secret id be used ${limit.secret_id_num_uses} times only, and trying a new one uses it`;
      note(true, message, `${write} secret_id_num_uses=0`);
    }
    if (limit.secret_id_ttl > 0)
      note(false, `ends its secret ids after ${limit.secret_id_ttl} s: rotate sooner`, `${write} secret_id_ttl=0`);
    // What it is not allowed to read is a finding already.
    this.#roleId = await this.#readRoleId(ctx).catch(() => null);
    return findings;
  }

  async #revokeTokens(label: string, ctx: Ctx): Promise<void> {
    const login = `${this.#mount}/login`;
    for (const { accessor, path, meta } of (await allTokens(this.#vault, ctx)).tokens) {
      const its = path === login && meta?.[LABEL] === label && meta["role_name"] === this.options.role;
      if (its) await revokeToken(this.#vault, accessor, ctx);
    }
  }

  /** A batch token cannot be revoked; then its own end has to do. */
  async #giveBack(token: string, ctx: Ctx): Promise<void> {
    const call = {
      method: "POST",
      path: "auth/token/revoke-self",
      what: "giving a token back",
      needs: [],
      token,
    } as const;
    const answer = await this.#vault.ask({ ...call, body: {} }, ctx).catch(() => null);
    if (answer === null || !isDone(answer)) this.deps.debug("vault: the token of a trial login ends by itself");
  }

  #call(method: VaultCall["method"], below: string, what: string, needs: VaultCall["needs"], body?: object): VaultCall {
    const path = `${segments(this.#mount, "role")}/${encodeURIComponent(this.options.role)}${below}`;
    return { method, path, what, needs, ...(body !== undefined && { body }) };
  }
}

/** A listing is dated in whole seconds, so nothing in it may be later. */
function secondOf(at: Instant): Instant {
  return Math.floor(at / 1000) * 1000;
}

/** Vault says it by 500 or 404, as an error or as data; a role that is missing is another thing. */
function isGone({ body }: Received): boolean {
  const said = refusalIn(body) ?? gone.safeParse(body).data?.data.error.toLowerCase() ?? "";
  return said.includes("failed to find accessor entry");
}
