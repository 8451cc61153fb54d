import type { Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import type { Ctx } from "../../ports/context.ts";
import { awsCodeOf, type Aws, type AwsKeys } from "../aws.ts";

const ACTION = "sts:GetCallerIdentity";
/** What STS calls a key that is not there, or inactive, or whose secret is another. */
const REJECTIONS: ReadonlySet<string> = new Set(["InvalidClientTokenId", "SignatureDoesNotMatch"]);
/** AWS refuses signatures that are five minutes off, with the very words it has for a wrong secret. */
const SKEW_AT_MOST = 4 * 60_000;

/** Whom a key turned out to be. */
export interface Caller {
  readonly account: string;
  /** `payments-app`; "" for what is no IAM user. */
  readonly user: string;
}

/**
 * Uses a key once in one region, for real, on a connection of its own: `GetCallerIdentity` needs no permission and
 * no policy can forbid it.
 *
 * @returns whose key it is; null where the region refuses it
 * @throws ProviderError where it cannot be told
 */
export async function callerOf(
  keys: AwsKeys,
  region: string,
  aws: Aws,
  ctx: Ctx,
  now: () => Instant,
): Promise<Caller | null> {
  const { GetCallerIdentityCommand } = await import("@aws-sdk/client-sts");
  let skew = 0;
  const heard = (at: Instant): void => void (skew = now() - at);
  const command = new GetCallerIdentityCommand({});
  try {
    const { Account: account, Arn: arn } = await aws
      .as(keys, region)
      .send(ACTION, command, { ctx, mutates: false, heard });
    if (!account || !arn) throw new ProviderError("unavailable", "no", `${ACTION}: not an answer of AWS`);
    return { account, user: userIn(arn) };
  } catch (error) {
    if (!REJECTIONS.has(awsCodeOf(error))) throw error;
    if (Math.abs(skew) < SKEW_AT_MOST) return null;
    const hint = "set this machine's clock";
    const message = `${ACTION}: refused in ${region}, but the clock here is ${Math.round(Math.abs(skew) / 60_000)}m off`;
    throw new ProviderError("unavailable", "no", message, { hint });
  }
}

/** The name of an IAM user in its ARN, without its path; "" for roles, root and federated users. */
export function userIn(arn: string): string {
  return /^arn:[\w-]+:iam::\d{12}:user\/(?:.*\/)?([^/]+)$/.exec(arn)?.[1] ?? "";
}
