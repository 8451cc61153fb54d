import { ProviderError } from "../core/errors.ts";
import type { AwsPermission, Ctx, Finding } from "../ports/context.ts";
import type { Aws } from "./aws.ts";

/** `cannot-tell`: the simulation is not to be had, or rests on conditions that only the real request meets. */
export type Verdict = "allowed" | "denied" | "cannot-tell";

/**
 * What IAM's policy simulation says of the caller's own permissions. It changes nothing, and needs
 * `iam:SimulatePrincipalPolicy` (for a role `iam:GetRole` too, for its path); it sees the caller's own policies,
 * boundaries and organisation, but no policy of the resource.
 *
 * @param resources ARNs, or `*`
 * @returns a verdict for each action
 */
export async function simulate(
  aws: Aws,
  actions: readonly string[],
  resources: readonly string[],
  ctx: Ctx,
): Promise<ReadonlyMap<string, Verdict>> {
  const verdicts = new Map<string, Verdict>(actions.map((action) => [action, "cannot-tell"]));
  try {
    const { SimulatePrincipalPolicyCommand } = await import("@aws-sdk/client-iam");
    const source = await principalOf(aws, ctx);
    if (source === null) return verdicts;
    const everything = resources.every((arn) => arn === "*");
    const input = {
      PolicySourceArn: source,
      ActionNames: [...actions],
      ...(!everything && { ResourceArns: [...resources] }),
    };
    let marker: string | undefined;
    do {
      const command = new SimulatePrincipalPolicyCommand({ ...input, ...(marker !== undefined && { Marker: marker }) });
      const answer = await aws.send("iam:SimulatePrincipalPolicy", command, { ctx, mutates: false });
      for (const { EvalActionName: action = "", ...result } of answer.EvaluationResults ?? []) {
        const decisions = result.ResourceSpecificResults?.map((one) => one.EvalResourceDecision) ?? [];
        const all = [result.EvalDecision, ...decisions];
        const unsure = (result.MissingContextValues ?? []).length > 0;
        const allowed = all.every((decision) => decision === "allowed");
        verdicts.set(action, allowed ? "allowed" : unsure ? "cannot-tell" : "denied");
      }
      marker = answer.IsTruncated === true ? answer.Marker : undefined;
    } while (marker !== undefined);
  } catch (error) {
    // Who may not simulate, or has a server that cannot, is not told: the rotation itself would show.
    if (!(error instanceof ProviderError) || error.kind === "throttled" || error.kind === "unauthenticated")
      throw error;
    for (const action of actions) verdicts.set(action, "cannot-tell");
  }
  return verdicts;
}

/**
 * One finding for each line that is refused, naming its actions, and one that does not block for all that nobody
 * could tell.
 *
 * @param softly a refusal may be outweighed by a policy of the resource that the simulation does not see: then it
 *   does not block
 */
export async function permissionFindings(
  aws: Aws,
  permissions: readonly AwsPermission[],
  ctx: Ctx,
  softly = false,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const unsure: string[] = [];
  for (const { why, actions, resources } of permissions) {
    const verdicts = [...(await simulate(aws, actions, resources, ctx))];
    const denied = verdicts.flatMap(([action, verdict]) => (verdict === "denied" ? [action] : []));
    unsure.push(...verdicts.flatMap(([action, verdict]) => (verdict === "cannot-tell" ? [action] : [])));
    if (denied.length === 0) continue;
    const message = `not allowed: ${denied.join(", ")} on ${resources.join(", ")} (${why})`;
    const hint = "`keyturn permissions` prints the policy that is needed";
    findings.push({ reason: "permission-missing", blocks: !softly, message, hint });
  }
  if (unsure.length > 0) {
    const message = `cannot tell whether these are allowed: ${[...new Set(unsure)].join(", ")}`;
    const hint = "allow iam:SimulatePrincipalPolicy to the caller, so that it can be looked up beforehand";
    findings.push({ reason: "permission-missing", blocks: false, message, hint });
  }
  return findings;
}

/** The ARN that policies hang on; null where there is none to ask about (root, federated users). */
async function principalOf(aws: Aws, ctx: Ctx): Promise<string | null> {
  const { arn, account } = await aws.identity(ctx);
  const [, partition = "aws", service] = arn.split(":");
  if (service === "iam") return arn.includes(":user/") ? arn : null;
  const role = /:assumed-role\/([^/]+)\//.exec(arn)?.[1];
  if (role === undefined) return null;
  const { GetRoleCommand } = await import("@aws-sdk/client-iam");
  try {
    const { Role: found } = await aws.send("iam:GetRole", new GetRoleCommand({ RoleName: role }), {
      ctx,
      mutates: false,
    });
    return found?.Arn ?? null;
  } catch (error) {
    if (error instanceof ProviderError && error.kind === "denied")
      return `arn:${partition}:iam::${account}:role/${role}`;
    throw error;
  }
}
