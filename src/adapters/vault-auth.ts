import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import { ProviderError } from "../core/errors.ts";
import { credential, path, type AdapterDeps } from "../ports/adapter.ts";
import type { Ctx } from "../ports/context.ts";
import { failureOf, request } from "./http.ts";
import { segments, type VaultConnection } from "./vault-connection.ts";
import { authIn, vaultFailure } from "./vault-answer.ts";
import { signedIdentity } from "./vault-aws.ts";

const mountOf = (name: string) =>
  z.string().min(1).default(name).describe(`Where the auth method is mounted. Default: ${name}.`);
const role = z.string().min(1).describe("The role to log in as.");

/** `auth:` of everything that speaks to Vault. */
export const auth = z
  .discriminatedUnion("method", [
    z.strictObject({
      method: z.literal("token"),
      token: credential().optional().describe("The token. Default: VAULT_TOKEN, else ~/.vault-token."),
      wrapped: z
        .boolean()
        .default(false)
        .describe("The token is a wrapping token, to be unwrapped once. Default: false."),
    }),
    z.strictObject({
      method: z.literal("approle"),
      mount: mountOf("approle"),
      roleId: z.string().min(1).describe("The role id."),
      secretId: credential().optional().describe("The secret id; none where the role does without."),
      wrapped: z
        .boolean()
        .default(false)
        .describe("The secret id is a wrapping token, to be unwrapped once. Default: false."),
    }),
    z.strictObject({
      method: z.literal("kubernetes"),
      mount: mountOf("kubernetes"),
      role,
      tokenPath: path()
        .default("/var/run/secrets/kubernetes.io/serviceaccount/token")
        .describe("File with the service account's token. Default: where Kubernetes puts it."),
    }),
    z.strictObject({
      method: z.literal("jwt"),
      mount: mountOf("jwt"),
      role,
      token: credential()
        .optional()
        .describe("The JWT. Default: GitHub's own where a job may ask for one, else VAULT_ID_TOKEN."),
      audience: z.string().min(1).optional().describe("The audience that GitHub is asked for. Default: GitHub's."),
    }),
    z.strictObject({
      method: z.literal("aws"),
      mount: mountOf("aws"),
      role,
      region: z.string().min(1).optional().describe("Region of the STS that Vault asks. Default: the global one."),
      serverId: z.string().min(1).optional().describe("What Vault wants in X-Vault-AWS-IAM-Server-ID, if anything."),
    }),
    z.strictObject({
      method: z.literal("userpass"),
      mount: mountOf("userpass"),
      username: z.string().min(1).describe("The user's name."),
      password: credential().describe("The user's password."),
    }),
  ])
  .describe("How to log in to Vault. Default: the token of VAULT_TOKEN or ~/.vault-token.");

export type Auth = z.output<typeof auth>;

/** A token and how long it holds. */
export interface Granted {
  readonly token: string;
  /** Seconds; 0: for ever, or nobody said. */
  readonly ttl: number;
  readonly renewable: boolean;
}

/** Whether a new token can be had once this one has ended. */
export function canLogInAgain(how: Auth): boolean {
  return how.method !== "token" && !("wrapped" in how && how.wrapped);
}

/**
 * Gets a token. AWS and Kubernetes are held to Vault's published requests
 * (developer.hashicorp.com/vault/api-docs/auth/aws#login, /kubernetes#login) and were not run against a live login.
 *
 * A token got here is not revoked at the end, for nobody says when that is: give the role a short `token_ttl`, or
 * batch tokens.
 */
export async function logIn(how: Auth, connection: VaultConnection, deps: AdapterDeps, ctx: Ctx): Promise<Granted> {
  const at = (name: string): string => segments("auth", how.method === "token" ? "token" : how.mount, name);
  const login = (path: string, body: object): Promise<Granted> => postLogin(connection, path, body, ctx);
  switch (how.method) {
    case "token": {
      const token = how.token ?? tokenOf(deps);
      return how.wrapped ? tokenIn(await unwrap(token, connection, ctx)) : { token, ttl: 0, renewable: false };
    }
    case "approle": {
      const given = how.secretId;
      const secretId = how.wrapped && given !== undefined ? secretIdIn(await unwrap(given, connection, ctx)) : given;
      return login(at("login"), { role_id: how.roleId, ...(secretId !== undefined && { secret_id: secretId }) });
    }
    case "kubernetes":
      return login(at("login"), { role: how.role, jwt: fileText(how.tokenPath, "the service account's token") });
    case "jwt":
      return login(at("login"), { role: how.role, jwt: how.token ?? (await idToken(how.audience, deps, ctx)) });
    case "aws":
      return login(at("login"), { role: how.role, ...(await signedIdentity(how, deps)) });
    case "userpass":
      return login(at(`login/${how.username}`), { password: how.password });
  }
}

async function postLogin(connection: VaultConnection, path: string, body: object, ctx: Ctx): Promise<Granted> {
  const what = "logging in to Vault";
  const answer = await connection.send({ method: "POST", path, body, token: null, mutates: false }, ctx);
  const granted = answer.status === 200 ? authIn(answer.body) : null;
  if (granted !== null) return granted;
  if (answer.status === 400 || answer.status === 401 || answer.status === 403) {
    const hint = "check role, mount and credentials under `auth:`";
    throw new ProviderError("unauthenticated", "no", `${what}: ${decodeURIComponent(path)} refuses the credentials`, {
      hint,
    });
  }
  throw vaultFailure(answer, { what, path, needs: [], mutates: false, namespace: connection.namespace });
}

function tokenOf({ env }: AdapterDeps): string {
  const set = env["VAULT_TOKEN"] || env["BAO_TOKEN"];
  if (set) return set.trim();
  const kept = join(env["HOME"] || homedir(), ".vault-token");
  try {
    const token = readFileSync(kept, "utf8").trim();
    if (token !== "") return token;
  } catch {
    // As if it were empty.
  }
  const hint = "vault login, set VAULT_TOKEN, or write `auth:`";
  throw new ProviderError("unauthenticated", "no", "no token for Vault: neither VAULT_TOKEN nor ~/.vault-token", {
    hint,
  });
}

/** A wrapping token works once: a failure to unwrap may mean that somebody else has read what is inside. */
async function unwrap(token: string, connection: VaultConnection, ctx: Ctx): Promise<unknown> {
  const path = "sys/wrapping/unwrap";
  const answer = await connection.send({ method: "POST", path, body: {}, token, mutates: false }, ctx);
  if (answer.status === 200) return answer.body;
  if (answer.status === 400 || answer.status === 403) {
    const hint = "it works once and for its TTL only; if nobody here used it, somebody else has";
    throw new ProviderError("unauthenticated", "no", "the wrapping token for Vault is used up or expired", { hint });
  }
  throw vaultFailure(answer, { what: "unwrapping a token", path, needs: [], mutates: false, namespace: "" });
}

function tokenIn(body: unknown): Granted {
  const inside = authIn(body) ?? z.object({ data: z.object({ token: z.string().min(1) }) }).safeParse(body).data?.data;
  if (inside === undefined) throw wrongInside("token");
  return "ttl" in inside ? inside : { token: inside.token, ttl: 0, renewable: false };
}

function secretIdIn(body: unknown): string {
  const inside = z.object({ data: z.object({ secret_id: z.string().min(1) }) }).safeParse(body).data;
  if (inside === undefined) throw wrongInside("secret id");
  return inside.data.secret_id;
}

function wrongInside(what: string): ProviderError {
  return new ProviderError("unauthenticated", "no", `what the wrapping token for Vault held is no ${what}`);
}

/**
 * GitHub hands a job's own token out on request
 * (docs.github.com/en/actions/security-for-github-actions/security-hardening-your-deployments); GitLab puts it into
 * a variable that the job names under `id_tokens:`, by custom VAULT_ID_TOKEN.
 */
async function idToken(audience: string | undefined, { env }: AdapterDeps, ctx: Ctx): Promise<string> {
  const url = env["ACTIONS_ID_TOKEN_REQUEST_URL"];
  const bearer = env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"];
  if (url && bearer) {
    const wanted = new URL(url);
    if (audience !== undefined) wanted.searchParams.set("audience", audience);
    const headers = { authorization: `Bearer ${bearer}`, accept: "application/json" };
    const answer = await request({ method: "GET", url: wanted.href, headers, ctx, mutates: false });
    const what = "asking GitHub for the job's token";
    if (answer.status !== 200) throw failureOf(answer, what, false);
    const token = z.object({ value: z.string().min(1) }).safeParse(answer.json()).data?.value;
    if (token === undefined) throw new ProviderError("unavailable", "no", `${what}: no token in the answer`);
    return token;
  }
  const given = env["VAULT_ID_TOKEN"];
  if (given) return given;
  const hint =
    "GitHub: `permissions: { id-token: write }`; GitLab: `id_tokens: { VAULT_ID_TOKEN: { aud: … } }`; else `token:`";
  throw new ProviderError("unauthenticated", "no", "no JWT to log in to Vault with", { hint });
}

function fileText(name: string, what: string): string {
  try {
    return readFileSync(name, "utf8").trim();
  } catch {
    throw new ProviderError("unauthenticated", "no", `${what} cannot be read from ${name}`);
  }
}
