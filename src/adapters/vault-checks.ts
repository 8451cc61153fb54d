import * as z from "zod";
import { ProviderError } from "../core/errors.ts";
import type { Ctx, Description, Finding, VaultPermission } from "../ports/context.ts";
import { read, type Capability } from "./vault-answer.ts";
import type { Vault } from "./vault.ts";
import { segments } from "./vault-connection.ts";

/** `expect:` of everything that speaks to Vault. */
export const expectation = {
  address: z.string().min(1).optional().describe("The address that must be spoken to."),
  cluster: z.string().min(1).optional().describe("Id or name of the cluster, as `vault status` shows it."),
  namespace: z.string().min(1).optional().describe("The namespace that must be spoken to."),
  identity: z.string().min(1).optional().describe("Entity id or display name of our own token."),
} as const;

export interface Expected {
  readonly address?: string | undefined;
  readonly cluster?: string | undefined;
  readonly namespace?: string | undefined;
  readonly identity?: string | undefined;
  /** Accessor or uuid. */
  readonly mount?: string | undefined;
}

/** A token that ends sooner than this, and cannot be renewed, may not see a rotation's next step. */
const SHORT_LIFE = 3600;

const health = z.object({ cluster_id: z.string().optional(), cluster_name: z.string().optional() });
const ourselves = z.object({
  data: z.object({
    display_name: z.string(),
    entity_id: z.string(),
    ttl: z.number(),
    renewable: z.boolean().optional(),
  }),
});
const mount = z.object({
  data: z.object({
    type: z.string(),
    accessor: z.string(),
    uuid: z.string().optional(),
    options: z.record(z.string(), z.string()).nullish(),
  }),
});

const capabilities = z.object({ data: z.record(z.string(), z.array(z.string())) });

export interface Cluster {
  readonly id: string | null;
  readonly name: string | null;
}

/** Which cluster answers, whatever address it is reached by. Needs no token. */
export async function clusterOf(vault: Vault, ctx: Ctx): Promise<Cluster> {
  const call = {
    method: "GET",
    path: "sys/health",
    what: "asking for the cluster",
    needs: [],
    token: null,
    ofCluster: true,
  } as const;
  const answer = await vault.ask(call, ctx);
  const known = health.safeParse(answer.body);
  // A standby says so by its status, and knows its cluster all the same.
  if (![200, 429, 473].includes(answer.status) || !known.success) throw vault.failure(answer, call);
  return { id: known.data.cluster_id ?? null, name: known.data.cluster_name ?? null };
}

/** A mount by its path; null where there is none, or the token may use nothing below it: Vault does not say which. */
export async function mountAt(vault: Vault, path: string, ctx: Ctx) {
  const call = {
    method: "GET",
    path: segments("sys/internal/ui/mounts", path),
    what: `asking for the mount ${path}`,
    needs: ["read"],
  } as const;
  const answer = await vault.ask(call, ctx);
  if (answer.status === 403) return null;
  if (answer.status !== 200) throw vault.failure(answer, call);
  const { data } = read(mount, answer, vault.asked(call));
  return {
    type: data.type,
    id: data.uuid ?? data.accessor,
    accessor: data.accessor,
    version: data.options?.["version"] ?? null,
  };
}

/** Where something of Vault's really lives: the cluster and the mount, not the address that they are reached by. */
export function bindingOf(vault: Vault, cluster: Cluster, ...parts: readonly string[]): string {
  const { address, namespace } = vault.connection;
  return ["vault", cluster.id ?? address, namespace, ...parts].join(":");
}

/** A description of what may lie in a namespace, or below a mount, that is not there: then that is what is found. */
export async function unlessNowhere(binding: string, looking: () => Promise<Description>): Promise<Description> {
  try {
    return await looking();
  } catch (error) {
    if (!(error instanceof ProviderError) || error.kind !== "not-found") throw error;
    const { message, detail } = error;
    const hint = detail.hint ?? "check `mount:` and `namespace:`";
    return { binding, findings: [{ reason: "identity-mismatch", blocks: true, message, hint }] };
  }
}

export async function identityFindings(
  vault: Vault,
  expected: Expected,
  cluster: Cluster,
  found: { readonly id: string; readonly accessor: string } | null,
  ctx: Ctx,
): Promise<Finding[]> {
  const { address, namespace } = vault.connection;
  const findings: Finding[] = [];
  const differs = (what: string, is: string, wanted: string): void => {
    const message = `${what} is ${is}, the policy expects ${wanted}`;
    findings.push({
      reason: "identity-mismatch",
      blocks: true,
      message,
      hint: "check VAULT_ADDR, VAULT_NAMESPACE and `auth:`",
    });
  };
  const slashless = (text: string): string => text.replace(/^\/+|\/+$/g, "");
  if (expected.address !== undefined && slashless(expected.address) !== slashless(address))
    differs("the address of Vault", address, expected.address);
  if (expected.namespace !== undefined && slashless(expected.namespace) !== namespace)
    differs("the namespace of Vault", namespace || "the root", expected.namespace);
  if (expected.cluster !== undefined && expected.cluster !== cluster.id && expected.cluster !== cluster.name)
    differs("the cluster", cluster.id ?? "unknown", expected.cluster);
  if (
    expected.mount !== undefined &&
    found !== null &&
    expected.mount !== found.id &&
    expected.mount !== found.accessor
  )
    differs("the mount", found.id, expected.mount);
  const ofToken = await ownToken(vault, expected.identity, differs, ctx);
  return [...findings, ...ofToken];
}

async function ownToken(
  vault: Vault,
  expected: string | undefined,
  differs: (what: string, is: string, wanted: string) => void,
  ctx: Ctx,
): Promise<Finding[]> {
  const call = {
    method: "GET",
    path: "auth/token/lookup-self",
    what: "looking at our own token",
    needs: ["read"],
  } as const;
  const { data } = await vault.get(ourselves, call, ctx);
  const { display_name: name, entity_id: entity, ttl, renewable = false } = data;
  vault.session.learn(await vault.session.token(ctx), ttl, renewable);
  if (expected !== undefined && expected !== name && expected !== entity) differs("our own token", name, expected);
  if (renewable || ttl === 0 || ttl >= SHORT_LIFE || vault.session.logsInAgain) return [];
  const message = `our token for Vault ends in ${Math.ceil(ttl / 60)} min and cannot be renewed`;
  return [{ reason: "credentials-missing", blocks: false, message, hint: "write `auth:`, or use a renewable token" }];
}

/** Which of the permissions our token lacks, a line for each; "cannot tell" where it may not even ask. */
export async function permissionFindings(
  vault: Vault,
  permissions: readonly VaultPermission[],
  ctx: Ctx,
): Promise<Finding[]> {
  const paths = permissions.map(({ path }) => path.replaceAll("*", "keyturn-check"));
  const call = {
    method: "POST",
    path: "sys/capabilities-self",
    body: { paths },
    what: "asking what the token may do",
    needs: ["update"],
  } as const;
  const answer = await vault.ask(call, ctx);
  if (answer.status === 403) {
    const message = "cannot tell whether the token may do all that the rotation needs: it may not ask";
    const hint = "let it use the default policy, or sys/capabilities-self";
    return [{ reason: "permission-missing", blocks: false, message, hint }];
  }
  if (answer.status !== 200) throw vault.failure(answer, call);
  const { data } = read(capabilities, answer, vault.asked(call));
  return permissions.flatMap((permission, index): Finding[] => {
    const has = data[paths[index] as string] ?? [];
    const missing = permission.capabilities.filter((capability) => !covers(has, capability));
    if (missing.length === 0) return [];
    const where = permission.namespace === "" ? "" : ` in namespace ${permission.namespace}`;
    const message = `the token may not ${missing.join(", ")} ${permission.path}${where} (${permission.why})`;
    return [{ reason: "permission-missing", blocks: true, message, hint: `add to its policy: ${lineOf(permission)}` }];
  });
}

function covers(has: readonly string[], capability: Capability): boolean {
  return has.includes("root") || (has.includes(capability) && !has.includes("deny"));
}

function lineOf({ path, capabilities }: VaultPermission): string {
  return `path "${path}" { capabilities = [${capabilities.map((capability) => `"${capability}"`).join(", ")}] }`;
}
