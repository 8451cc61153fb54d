import * as z from "zod";
import type { Ctx, Description, Finding, VaultPermission } from "../ports/context.ts";
import { isAbsent } from "./vault-answer.ts";
import {
  bindingOf,
  clusterOf,
  identityFindings,
  mountAt,
  permissionFindings,
  unlessNowhere,
  type Cluster,
} from "./vault-checks.ts";
import { segments } from "./vault-connection.ts";
import type { Vault } from "./vault.ts";
import type { KvPlace } from "./vault-kv-place.ts";

const lifetime = z.object({ data: z.object({ delete_version_after: z.string() }) });

/** Everything about a path of KV that would spoil a rotation, looked at and left as it is. */
export async function describeKv(
  vault: Vault,
  place: KvPlace,
  permissions: readonly VaultPermission[],
  ctx: Ctx,
): Promise<Description> {
  const cluster = await clusterOf(vault, ctx);
  const where = bindingOf(vault, cluster, place.mount, place.path);
  return unlessNowhere(where, () => describeIn(cluster, vault, place, permissions, ctx));
}

async function describeIn(
  cluster: Cluster,
  vault: Vault,
  place: KvPlace,
  permissions: readonly VaultPermission[],
  ctx: Ctx,
): Promise<Description> {
  const mount = await mountAt(vault, place.mount, ctx);
  const findings = [
    ...(await identityFindings(vault, place.expect, cluster, mount, ctx)),
    ...(await permissionFindings(vault, permissions, ctx)),
  ];
  const unsuitable = (message: string, hint: string): void => {
    findings.push({ reason: "store-unsuitable", blocks: true, message, hint });
  };
  if (mount === null)
    unsuitable(`there is no mount ${place.mount}/ that the token may use`, "check `mount:`; vault secrets list");
  else if (mount.type !== "kv" && mount.type !== "generic")
    unsuitable(`${place.mount}/ holds no key-value secrets but ${mount.type}`, "vault secrets list");
  else if ((mount.version ?? "1") !== String(place.kvVersion)) {
    const version = mount.version ?? "1";
    unsuitable(
      `${place.mount}/ is a KV engine of version ${version}, the policy takes it for ${place.kvVersion}`,
      `write \`kvVersion: ${version}\`, or: vault kv enable-versioning ${place.mount}`,
    );
  } else if (place.kvVersion === 2) findings.push(...(await lifetimeFindings(vault, place, ctx)));
  return { binding: bindingOf(vault, cluster, mount?.id ?? place.mount, place.path), findings };
}

/** Versions that Vault deletes by itself: a staged one would be lost, a served one missed. */
async function lifetimeFindings(vault: Vault, place: KvPlace, ctx: Ctx): Promise<Finding[]> {
  const { mount, path, staging } = place;
  const findings: Finding[] = [];
  const refuse = (where: string, after: string, hint: string): void => {
    const message = `versions under ${where} are deleted by themselves after ${after}`;
    findings.push({ reason: "store-unsuitable", blocks: true, message, hint });
  };
  if (path === staging || path.startsWith(`${staging}/`)) {
    const message = `${mount}/${path} is where versions wait that nobody may read yet`;
    findings.push({ reason: "store-unsuitable", blocks: true, message, hint: "write another `path:` or `staging:`" });
  }
  // Not everybody may read a mount's settings; then the first staged version shows it.
  const ofMount = await deletedAfter(vault, segments(mount, "config"), ctx);
  if (ofMount !== null) refuse(`${mount}/`, ofMount, `vault write ${mount}/config delete_version_after=0s`);
  const ofPath = await deletedAfter(vault, segments(mount, "metadata", path), ctx);
  if (ofPath !== null)
    refuse(`${mount}/${path}`, ofPath, `vault kv metadata put -mount=${mount} -delete-version-after=0s ${path}`);
  return findings;
}

async function deletedAfter(vault: Vault, path: string, ctx: Ctx): Promise<string | null> {
  const call = { method: "GET", path, what: "asking how long versions are kept", needs: ["read"] } as const;
  const answer = await vault.ask(call, ctx);
  if (answer.status === 403 || isAbsent(answer)) return null;
  const found = lifetime.safeParse(answer.body);
  if (answer.status !== 200 || !found.success) throw vault.failure(answer, call);
  const after = found.data.data.delete_version_after;
  return /[1-9]/.test(after) ? after : null;
}
