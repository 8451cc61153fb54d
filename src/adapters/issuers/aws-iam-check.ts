import type { Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import type { Ctx, Finding } from "../../ports/context.ts";
import type { Listing } from "../../ports/issuer.ts";
import type { Aws, AwsAction } from "../aws.ts";

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

export type Verdict = "allowed" | "denied" | "cannot-tell";

/**
 * Which of the actions the caller may do, found out without doing any of them. Making a key cannot be tried without
 * making one, so that one can only be simulated.
 */
export async function probe(aws: Aws, user: string, listing: Listing, ctx: Ctx): Promise<Map<AwsAction, Verdict>> {
  const { DeleteAccessKeyCommand, GetAccessKeyLastUsedCommand, UpdateAccessKeyCommand } =
    await import("@aws-sdk/client-iam");
  const on = { UserName: user, AccessKeyId: NOBODY };
  const look = { ctx, mutates: false };
  const tried = async (call: Promise<unknown>): Promise<Verdict> => verdictOf(await call.then(() => null, caught));
  const [key] = listing.keys;
  return new Map<AwsAction, Verdict>([
    [ACTIONS.create, "cannot-tell"],
    [
      ACTIONS.update,
      await tried(aws.send(ACTIONS.update, new UpdateAccessKeyCommand({ ...on, Status: "Inactive" }), look)),
    ],
    [ACTIONS.delete, await tried(aws.send(ACTIONS.delete, new DeleteAccessKeyCommand(on), look))],
    [
      ACTIONS.lastUsed,
      key === undefined
        ? "cannot-tell"
        : await tried(aws.send(ACTIONS.lastUsed, new GetAccessKeyLastUsedCommand({ AccessKeyId: key.keyId }), look)),
    ],
  ]);
}

/** What stands in the way, and what cannot be told, of the verdicts. */
export function permissionFindings(verdicts: ReadonlyMap<AwsAction, Verdict>, arn: string): Finding[] {
  const which = (wanted: Verdict): AwsAction[] =>
    [...verdicts].flatMap(([action, verdict]) => (verdict === wanted ? [action] : []));
  const missing = which("denied").map((action) => missingFinding(action, arn));
  const unknown = which("cannot-tell");
  if (unknown.length === 0) return missing;
  const message = `cannot tell whether ${unknown.join(", ")} on ${arn} is allowed`;
  const hint = "allow iam:SimulatePrincipalPolicy on the caller to have it looked up";
  return [...missing, { reason: "permission-missing", blocks: false, message, hint }];
}

export function missingFinding(action: AwsAction, arn: string): Finding {
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

function verdictOf(error: ProviderError | null): Verdict {
  if (error === null || error.kind === "not-found") return "allowed";
  if (error.kind === "denied") return "denied";
  throw error;
}

function caught(error: unknown): ProviderError {
  if (error instanceof ProviderError) return error;
  throw error;
}
