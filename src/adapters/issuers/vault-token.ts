import * as z from "zod";
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
import { allTokens, LABEL, revokeToken, tokenBehind, tokenPermissions, type TokenSeen } from "../vault-accessors.ts";
import { isAbsent, read, refusalIn } from "../vault-answer.ts";
import {
  bindingOf,
  clusterOf,
  expectation,
  identityFindings,
  mountAt,
  permissionFindings,
  unlessNowhere,
} from "../vault-checks.ts";
import { Vault, vaultSettings, type VaultCall } from "../vault.ts";

const FIELD = "token";

const settings = z.strictObject({
  ...vaultSettings,
  role: z.string().min(1).describe("The token role that tokens are made by: auth/token/roles/NAME."),
  policies: z.array(z.string().min(1)).optional().describe("Policies of new tokens. Default: the role's."),
  ttl: duration(1000).optional().describe("How long a new token lives unless it is renewed. Default: the role's."),
  maxKeys: z
    .int()
    .min(1)
    .max(100_000)
    .default(1000)
    .describe("How many tokens the role may have at a time. Default: 1000."),
  expect: z.strictObject(expectation).default({}).describe("What must turn out to be so before anything is minted."),
});

type Settings = z.output<typeof settings>;

const TIMING: IssuerTiming = { listSettle: 10_000, propagation: 5000, settle: 5000, timeGranularity: 1000 };

const made = z.object({ auth: z.object({ client_token: z.string().min(1), accessor: z.string().min(1) }) });
const looked = z.object({
  data: z.object({ accessor: z.string(), path: z.string(), role: z.string().optional() }),
});
const roleSeen = z.object({
  data: z.object({
    orphan: z.boolean(),
    renewable: z.boolean(),
    token_period: z.number().default(0),
    token_type: z.string().default("default-service"),
  }),
});

/** Tokens of one token role of Vault or OpenBao. */
export const adapter: IssuerAdapter<typeof settings> = {
  type: "vault-token",
  settings,
  fields: [FIELD],
  reportsUsage: false,
  published: { ...TIMING },
  create: (options, secret, deps) => new VaultToken(options, secret, deps),
};

/**
 * The key is a token, its id the accessor; the role is the owner, and the version id stands in the token's metadata.
 *
 * The role has to make orphans: a child dies with the token that made it, and ours ends. Who renews a token is its
 * consumer; a periodic role's lives as long as that goes on. Tokens cannot be disabled, and Vault does not tell when
 * one was used. Accessors are listed for the whole namespace, which needs `sudo` and a lookup for each token that
 * there is (developer.hashicorp.com/vault/api-docs/auth/token).
 */
class VaultToken implements Issuer {
  readonly traits;
  readonly #vault: Vault;

  constructor(
    private readonly options: Settings,
    private readonly secret: string,
    deps: AdapterDeps,
  ) {
    this.#vault = new Vault(options, deps);
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
    return unlessNowhere(bindingIn("auth/token"), async () => {
      const mount = await mountAt(this.#vault, "auth/token", ctx);
      const findings = [
        ...(await identityFindings(this.#vault, expect, cluster, mount, ctx)),
        ...(await permissionFindings(this.#vault, this.permissions(), ctx)),
        ...(await this.#roleFindings(ctx)),
      ];
      return { binding: bindingIn(mount?.id ?? "auth/token"), findings };
    });
  }

  /** Beside these our own token needs what the `default` policy grants: to look at itself and at what it may do. */
  permissions(): readonly VaultPermission[] {
    const { role } = this.options;
    return [
      this.#vault.permission("see what the role's tokens are limited to", `auth/token/roles/${role}`, ["read"]),
      this.#vault.permission("issue tokens", `auth/token/create/${role}`, ["update"]),
      this.#vault.permission("find the token that a store serves", "auth/token/lookup", ["update"]),
      ...tokenPermissions(this.#vault, "list the role's tokens, and revoke old ones"),
    ];
  }

  async list(ctx: Ctx): Promise<Listing> {
    const { tokens, asOf } = await allTokens(this.#vault, ctx);
    return { keys: tokens.filter((token) => this.#isOurs(token)).map(keyOf), asOf };
  }

  async issue(label: string, _chosen: SecretValue | null, ctx: Ctx) {
    const { policies, ttl, role } = this.options;
    const call: VaultCall = {
      method: "POST",
      path: `auth/token/create/${encodeURIComponent(role)}`,
      body: {
        display_name: this.secret,
        meta: { [LABEL]: label, secret: this.secret },
        ...(policies !== undefined && { policies }),
        ...(ttl !== undefined && { ttl: `${Math.floor(ms(ttl) / 1000)}s` }),
      },
      what: "issuing a token",
      needs: ["update"],
      mutates: true,
    };
    const answer = await this.#vault.ask(call, ctx);
    if (answer.status !== 200) throw this.#vault.failure(answer, call);
    const { accessor: keyId, client_token: token } = read(made, answer, this.#vault.asked(call)).auth;
    const created = await tokenBehind(this.#vault, keyId, ctx).catch(() => null);
    const dates = created === null ? { createdAt: answer.at } : datesOf(keyOf(created));
    return { keyId, value: SecretValue.of({ [FIELD]: token }), ...dates };
  }

  /** Has the token look at itself; one that may not even do that is looked up by ours. */
  async verify(value: SecretValue, ctx: Ctx): Promise<"accepted" | "rejected"> {
    const call: VaultCall = {
      method: "GET",
      path: "auth/token/lookup-self",
      what: "trying a token",
      needs: [],
      token: value.reveal()[FIELD] ?? "",
    };
    const answer = await this.#vault.ask(call, ctx);
    if (answer.status === 403 && refusalIn(answer.body) !== null)
      return (await this.identify(value, ctx)) === null ? "rejected" : "accepted";
    if (answer.status !== 200) throw this.#vault.failure(answer, call);
    if (this.#isOurs(read(looked, answer, this.#vault.asked(call)).data)) return "accepted";
    throw new ProviderError("invalid", "no", `${call.what}: it is another role's`);
  }

  disable(): Promise<void> {
    return Promise.reject(new ProviderError("invalid", "no", "a token cannot be disabled"));
  }

  enable(): Promise<void> {
    return Promise.reject(new ProviderError("invalid", "no", "a token cannot be enabled"));
  }

  delete(keyId: KeyId, ctx: Ctx): Promise<void> {
    return revokeToken(this.#vault, keyId, ctx);
  }

  async identify(value: SecretValue, ctx: Ctx): Promise<KeyId | null> {
    const call: VaultCall = {
      method: "POST",
      path: "auth/token/lookup",
      body: { token: value.reveal()[FIELD] },
      what: "looking for a token",
      needs: ["update"],
    };
    const answer = await this.#vault.ask(call, ctx);
    if (answer.status === 403 && refusalIn(answer.body)?.includes("bad token")) return null;
    if (answer.status !== 200) throw this.#vault.failure(answer, call);
    const { data } = read(looked, answer, this.#vault.asked(call));
    return this.#isOurs(data) ? data.accessor : null;
  }

  #isOurs({ role, path }: Pick<TokenSeen, "role" | "path">): boolean {
    const own = `auth/token/create/${this.options.role}`;
    return role === this.options.role || path === own || path.startsWith(`${own}/`);
  }

  async #roleFindings(ctx: Ctx): Promise<Finding[]> {
    const { role } = this.options;
    const path = `auth/token/roles/${encodeURIComponent(role)}`;
    const call = { method: "GET", path, what: `reading the token role ${role}`, needs: ["read"] } as const;
    const answer = await this.#vault.ask(call, ctx);
    if (answer.status === 403) return [];
    if (isAbsent(answer)) {
      const message = `there is no token role ${role}`;
      return [{ reason: "identity-mismatch", blocks: true, message, hint: "vault list auth/token/roles" }];
    }
    if (answer.status !== 200) throw this.#vault.failure(answer, call);
    const seen = read(roleSeen, answer, this.#vault.asked(call)).data;
    const findings: Finding[] = [];
    const note = (blocks: boolean, message: string, hint: string): void =>
      void findings.push({ reason: "store-unsuitable", blocks, message: `token role ${role} ${message}`, hint });
    const write = `vault write auth/token/roles/${role}`;
    if (!seen.orphan) note(true, "makes tokens that die with ours", `${write} orphan=true`);
    if (seen.token_type.includes("batch"))
      note(true, "makes batch tokens, which cannot be revoked", `${write} token_type=service`);
    if (seen.token_period === 0 || !seen.renewable)
      note(false, "makes tokens that end for good: rotate sooner", `${write} renewable=true token_period=24h`);
    return findings;
  }
}

function keyOf({ accessor, creation_time: seconds, meta, ...token }: TokenSeen): ObservedKey {
  const label = meta?.[LABEL];
  const dates = datesOf({ createdAt: seconds * 1000, expiresAt: endOf(seconds, token) });
  return { keyId: accessor, ...dates, state: "enabled", ...(label && { label }) };
}

/** Whoever holds a renewable token moves its end, up to its greatest age. */
function endOf(
  seconds: number,
  {
    renewable,
    expire_time: ends,
    explicit_max_ttl: most,
  }: Pick<TokenSeen, "renewable" | "expire_time" | "explicit_max_ttl">,
): number | null {
  if (most > 0) return (seconds + most) * 1000;
  return renewable || ends === null ? null : Date.parse(ends);
}
