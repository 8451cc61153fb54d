import * as z from "zod";
import { ProviderError } from "../core/errors.ts";
import type { VaultPermission } from "../ports/context.ts";
import { failureOf } from "./http.ts";
import type { Granted } from "./vault-auth.ts";
import type { Received } from "./vault-connection.ts";

export type Capability = VaultPermission["capabilities"][number];

/** One call as errors speak of it. */
export interface Asked {
  /** In our words: "listing secret ids". */
  readonly what: string;
  /** Below `/v1/`, encoded. */
  readonly path: string;
  readonly needs: readonly Capability[];
  readonly mutates: boolean;
  readonly namespace: string;
}

const refusal = z.object({ errors: z.array(z.string()) });
const granted = z.object({
  auth: z.object({ client_token: z.string().min(1), lease_duration: z.number(), renewable: z.boolean() }),
});

/** What Vault itself said of a refusal: for telling cases apart, never for people. null: this is no refusal of Vault's. */
export function refusalIn(body: unknown): string | null {
  const found = refusal.safeParse(body);
  return found.success ? found.data.errors.join("\n").toLowerCase() : null;
}

/** A 404 of Vault's that says nothing else than that there is nothing at a path that it has. */
export function isAbsent({ status, body }: Received): boolean {
  return status === 404 && refusalIn(body) === "";
}

/** A write to KV whose `cas` is not the newest version. */
export function isCasRefusal({ status, body }: Received): boolean {
  return status === 400 && (refusalIn(body)?.includes("check-and-set parameter did not match") ?? false);
}

/** Success as Vault answers it, not whatever stands in front of it. */
export function isDone({ status, body }: Received): boolean {
  return status === 204 || (status === 200 && z.object({ request_id: z.string() }).safeParse(body).success);
}

export function authIn(body: unknown): Granted | null {
  const found = granted.safeParse(body);
  if (!found.success) return null;
  const { client_token: token, lease_duration: ttl, renewable } = found.data.auth;
  return { token, ttl, renewable };
}

/** @throws ProviderError `unavailable` where a success does not look like Vault's. */
export function read<T extends z.ZodType>(schema: T, answer: Received, asked: Asked): z.output<T> {
  const found = schema.safeParse(answer.body);
  if (found.success) return found.data;
  throw new ProviderError(
    "unavailable",
    asked.mutates ? "maybe" : "no",
    `${asked.what}: answered ${answer.status}, but not as Vault does`,
  );
}

/** What an answer other than success means, with what a person can do about it. */
export function vaultFailure(answer: Received, asked: Asked): ProviderError {
  const { status } = answer;
  const { what, mutates } = asked;
  const said = refusalIn(answer.body);
  const plain = decodeURIComponent(asked.path.replace(/\?.*/, ""));
  const refused = (kind: ProviderError["kind"], why: string, hint: string): ProviderError =>
    new ProviderError(kind, mutates && status >= 500 ? "maybe" : "no", `${what}: ${why}`, { hint });

  if (status === 503 && (said === null || said.includes("sealed")))
    return refused("unavailable", "Vault is sealed, or no node is active", "vault status; vault operator unseal");
  if (status === 501) return refused("unavailable", "Vault is not initialised", "vault status");
  if (status === 472 || status === 473)
    return refused("unavailable", "this is a standby of another cluster", "set VAULT_ADDR to the primary cluster");
  if (status === 412 || (status === 429 && said === ""))
    return refused("unavailable", "this node has not got our last write yet", "ask the active node");
  if (said === null) {
    if (status >= 200 && status < 300) return unlike(asked, status);
    const failure = failureOf(answer, what, mutates);
    // A page of somebody in between says nothing about what Vault has.
    return failure.kind === "not-found" ? unlike(asked, status) : failure;
  }
  if (status === 403 || (status === 400 && said.includes("missing client token"))) {
    const line = `path "${plain}" { capabilities = [${asked.needs.map((need) => `"${need}"`).join(", ")}] }`;
    const where = asked.namespace === "" ? "" : ` in namespace ${asked.namespace}`;
    return refused(
      "denied",
      `the token may not ${asked.needs.join(" or ")} ${plain}${where}`,
      `its policy needs ${line}`,
    );
  }
  if (status === 404 && said.includes("namespace"))
    return refused("not-found", `there is no namespace ${asked.namespace}`, "check `namespace:` or VAULT_NAMESPACE");
  if (status === 404 && said.includes("no handler for route"))
    return refused(
      "not-found",
      `nothing is mounted at ${plain}`,
      "check `mount:` and `namespace:`; vault secrets list; vault auth list",
    );
  return failureOf(answer, what, mutates);
}

function unlike({ what, mutates }: Asked, status: number): ProviderError {
  return new ProviderError(
    "unavailable",
    mutates ? "maybe" : "no",
    `${what}: answered ${status}, but not as Vault does`,
  );
}
