import type { AwsPermission, Permission, VaultPermission } from "../ports/context.ts";

/** Each line once, whoever needs it. */
export interface Privileges {
  readonly aws: readonly AwsPermission[];
  readonly vault: readonly VaultPermission[];
}

export type Format = keyof typeof FORMATS;

/** How least privilege is written down, and for which providers each form is. */
export const FORMATS = {
  iam: { needs: ["aws"], write: ({ aws }) => `${JSON.stringify(iamPolicy(aws), null, 2)}\n` },
  vault: { needs: ["vault"], write: ({ vault }) => vaultPolicies(vault) },
  terraform: { needs: ["aws", "vault"], write: terraform },
} as const satisfies Record<
  string,
  { readonly needs: readonly (keyof Privileges)[]; readonly write: (privileges: Privileges) => string }
>;

/** What several secrets need in the same place, or of the same kind, is one line. */
export function merged(permissions: readonly Permission[]): Privileges {
  const aws = permissions.filter((one) => one.for === "aws");
  const vault = permissions.filter((one) => one.for === "vault");
  const sameActions = grouped(aws, ({ actions }) => sorted(actions).join(" ")).map((group) => ({
    ...group[0],
    why: union(group, ({ why }) => [why]).join("; "),
    actions: sorted(group[0].actions),
    resources: union(group, ({ resources }) => resources),
  }));
  return {
    aws: sameActions,
    vault: grouped(vault, ({ address, namespace, path }) => `${address} ${namespace} ${path}`).map((group) => ({
      ...group[0],
      why: union(group, ({ why }) => [why]).join("; "),
      capabilities: union(group, ({ capabilities }) => capabilities),
    })),
  };
}

function iamPolicy(aws: readonly AwsPermission[]) {
  const statements = aws.map(({ actions, resources }, index) => ({
    Sid: `Keyturn${index + 1}`,
    Effect: "Allow",
    Action: actions,
    Resource: resources,
  }));
  return { Version: "2012-10-17", Statement: statements };
}

/** One policy for each namespace of each server, the lines commented with what they are for. */
function vaultPolicies(vault: readonly VaultPermission[]): string {
  return byServer(vault)
    .map((group) => `# ${serverOf(group[0])}\n\n${group.map(vaultRule).join("\n")}`)
    .join("\n");
}

function vaultRule({ why, path, capabilities }: VaultPermission): string {
  const list = capabilities.map((capability) => JSON.stringify(capability)).join(", ");
  return `# ${why}\npath ${JSON.stringify(path)} {\n  capabilities = [${list}]\n}\n`;
}

function terraform({ aws, vault }: Privileges): string {
  const list = (items: readonly string[]): string => items.map((item) => `      ${hcl(item)},\n`).join("");
  const statements = aws.map(
    ({ why, actions, resources }) =>
      `  # ${why}\n  statement {\n    actions = [\n${list(actions)}    ]\n    resources = [\n${list(resources)}    ]\n  }\n`,
  );
  const documents = aws.length === 0 ? [] : [`data "aws_iam_policy_document" "keyturn" {\n${statements.join("\n")}}\n`];
  const policies = byServer(vault).map((group, index) => {
    const name = index === 0 ? "keyturn" : `keyturn_${index + 1}`;
    const { namespace } = group[0];
    const where = namespace === "" ? "" : `  namespace = ${hcl(namespace)}\n`;
    const rules = group
      .map(vaultRule)
      .join("\n")
      .replaceAll("${", "$${")
      .replaceAll(/^(?=.)/gm, "    ");
    return `# ${serverOf(group[0])}\nresource "vault_policy" "${name}" {\n${where}  name   = "keyturn"\n  policy = <<-EOT\n${rules}  EOT\n}\n`;
  });
  return [...documents, ...policies].join("\n");
}

/** A string of HCL: `${` and `%{` would begin a template. */
function hcl(text: string): string {
  return JSON.stringify(text).replaceAll("${", "$${").replaceAll("%{", "%%{");
}

function byServer(vault: readonly VaultPermission[]): (readonly [VaultPermission, ...VaultPermission[]])[] {
  return grouped(vault, serverOf);
}

function serverOf({ address, namespace }: VaultPermission): string {
  return namespace === "" ? address : `${address}, namespace ${namespace}`;
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => string): (readonly [T, ...T[]])[] {
  const groups = new Map<string, [T, ...T[]]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return [...groups.values()];
}

function union<T, U extends string>(items: readonly T[], of: (item: T) => readonly U[]): U[] {
  return [...new Set(items.flatMap(of))];
}

function sorted<T extends string>(items: readonly T[]): T[] {
  return [...new Set(items)].sort((a, b) => a.localeCompare(b, "en"));
}
