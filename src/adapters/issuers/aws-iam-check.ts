import type { Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import type { Ctx, Finding } from "../../ports/context.ts";
import type { Listing } from "../../ports/issuer.ts";
import { simulate, type Verdict } from "../aws-permissions.ts";
import type { Aws, AwsAction, AwsCommand } from "../aws.ts";

/** The rotation's actions on the user, in the order in which they are needed. */
export const ACTIONS = {
  user: "iam:GetUser",
  list: "iam:ListAccessKeys",
  create: "iam:CreateAccessKey",
  update: "iam:UpdateAccessKey",
  delete: "iam:DeleteAccessKey",
  lastUsed: "iam:GetAccessKeyLastUsed",
} as const satisfies Record<string, AwsAction>;

/**
 * A key id that no key can have: IAM draws them from A to Z and 2 to 7. To change it, or to delete it, changes
 * nothing, whoever is allowed to; IAM asks the policies first, so the refusal tells whether they would have let us.
 */
const NOBODY = "AKIA0000000000000000";

/**
 * Which of the actions the caller may do, found out without doing any of them: by simulation, and where that is not
 * to be had by trying. Making a key cannot be tried without making one, so that one can only be simulated.
 */
export async function verdictsOf(
  aws: Aws,
  user: { readonly UserName: string; readonly arn: string },
  listing: Listing,
  ctx: Ctx,
): Promise<ReadonlyMap<string, Verdict>> {
  const { create, update, delete: remove, lastUsed } = ACTIONS;
  const verdicts = new Map(await simulate(aws, [create, update, remove, lastUsed], [user.arn], ctx));
  const { DeleteAccessKeyCommand, GetAccessKeyLastUsedCommand, UpdateAccessKeyCommand } =
    await import("@aws-sdk/client-iam");
  const on = { UserName: user.UserName, AccessKeyId: NOBODY };
  const [key] = listing.keys;
  const attempts: readonly (readonly [AwsAction, AwsCommand<unknown> | null])[] = [
    [update, new UpdateAccessKeyCommand({ ...on, Status: "Inactive" })],
    [remove, new DeleteAccessKeyCommand(on)],
    [lastUsed, key === undefined ? null : new GetAccessKeyLastUsedCommand({ AccessKeyId: key.keyId })],
  ];
  for (const [action, command] of attempts) {
    if (command !== null && verdicts.get(action) === "cannot-tell")
      verdicts.set(action, await tried(aws, action, command, ctx));
  }
  return verdicts;
}

/** What stands in the way, and what cannot be told, of the verdicts. */
export function permissionFindings(verdicts: ReadonlyMap<string, Verdict>, arn: string): Finding[] {
  const which = (wanted: Verdict): string[] =>
    [...verdicts].flatMap(([action, verdict]) => (verdict === wanted ? [action] : []));
  const missing = which("denied").map((action) => missingFinding(action, arn));
  const unknown = which("cannot-tell");
  if (unknown.length === 0) return missing;
  const message = `cannot tell whether ${unknown.join(", ")} on ${arn} is allowed`;
  const hint = "allow iam:SimulatePrincipalPolicy on the caller to have it looked up";
  return [...missing, { reason: "permission-missing", blocks: false, message, hint }];
}

export function missingFinding(action: string, arn: string): Finding {
  const hint = "`keyturn permissions` prints all that is needed";
  return { reason: "permission-missing", blocks: true, message: `${action} on ${arn} is not allowed`, hint };
}

/** AWS takes no signature that is five minutes off. */
export function clockFindings(here: Instant, there: Instant): Finding[] {
  const off = Math.abs(here - there);
  if (off < 60_000) return [];
  const message = `the clock here is ${Math.round(off / 1000)}s off that of AWS, which refuses what is 5m off`;
  return [{ reason: "credentials-missing", blocks: false, message, hint: "set this machine's clock" }];
}

/** What is absent could have been touched. */
async function tried(aws: Aws, action: AwsAction, command: AwsCommand<unknown>, ctx: Ctx): Promise<Verdict> {
  try {
    await aws.send(action, command, { ctx, mutates: false });
    return "allowed";
  } catch (error) {
    const kind = error instanceof ProviderError ? error.kind : null;
    if (kind === "not-found") return "allowed";
    if (kind === "denied") return "denied";
    if (kind === "unavailable" || kind === "throttled") return "cannot-tell";
    throw error;
  }
}
