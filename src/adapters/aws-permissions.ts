import { ProviderError } from "../core/errors.ts";
import type { AwsPermission, Ctx, Finding } from "../ports/context.ts";
import type { Aws, AwsAction } from "./aws.ts";

const HINT = "`keyturn permissions` prints the policy that is needed";

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

/** What is known of an action apart from the simulation. */
export interface Knowledge {
  /**
   * Actions that have just been done: where the simulation denies one of them, a policy of the resource (which it does
   * not see) grants more, and nothing that it denies is believed.
   */
  readonly proven?: readonly AwsAction[];
  /** Tries an action that the simulation could not tell of, by a request that can change nothing. */
  readonly probe?: (action: string) => Promise<Verdict>;
}

/**
 * One finding for each line that is refused, naming its actions, and one that does not block for all that nobody
 * could tell.
 */
export async function permissionFindings(
  aws: Aws,
  permissions: readonly AwsPermission[],
  ctx: Ctx,
  { proven = [], probe = async () => "cannot-tell" }: Knowledge = {},
): Promise<Finding[]> {
  const lines: { readonly line: AwsPermission; readonly of: Map<string, Verdict> }[] = [];
  for (const line of permissions) {
    lines.push({ line, of: new Map(await simulate(aws, line.actions, line.resources, ctx)) });
  }
  const done: readonly string[] = proven;
  const isBlind = lines.some(({ of }) => done.some((action) => of.get(action) === "denied"));
  const findings: Finding[] = [];
  const unsure = new Set<string>();
  for (const { line, of } of lines) {
    const denied: string[] = [];
    for (const [action, simulated] of of) {
      if (done.includes(action)) continue;
      const told = simulated === "denied" && isBlind ? "cannot-tell" : simulated;
      const verdict = told === "cannot-tell" ? await probe(action) : told;
      if (verdict === "denied") denied.push(action);
      if (verdict === "cannot-tell") unsure.add(action);
    }
    if (denied.length === 0) continue;
    const message = `not allowed: ${denied.join(", ")} on ${line.resources.join(", ")} (${line.why})`;
    findings.push({ reason: "permission-missing", blocks: true, message, hint: HINT });
  }
  if (unsure.size > 0) {
    const message = `cannot tell whether these are allowed: ${[...unsure].join(", ")}`;
    const hint = "allow iam:SimulatePrincipalPolicy to the caller, so that it can be looked up beforehand";
    findings.push({ reason: "permission-missing", blocks: false, message, hint });
  }
  return findings;
}

/** The verdict of a request that cannot succeed: refused for want of permission, or for what is wrong with it. */
export async function probed(asking: Promise<unknown>): Promise<Verdict> {
  try {
    await asking;
    return "cannot-tell";
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    if (error.kind === "denied") return "denied";
    return ["invalid", "not-found", "conflict"].includes(error.kind) ? "allowed" : "cannot-tell";
  }
}

/** What ARNs of a region begin with behind `arn:`. */
export function partitionOf(region: string): string {
  if (region.startsWith("cn-")) return "aws-cn";
  return region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
}

/** A refusal of a look is a finding that blocks; the answer is then undefined. */
export async function allowed<T>(findings: Finding[], asking: () => Promise<T>): Promise<T | undefined> {
  try {
    return await asking();
  } catch (error) {
    if (!(error instanceof ProviderError) || error.kind !== "denied") throw error;
    const { hint = HINT } = error.detail;
    findings.push({ reason: "permission-missing", blocks: true, message: `not allowed: ${error.message}`, hint });
    return undefined;
  }
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
