import type { Ctx } from "../../ports/context.ts";
import type { Discovery } from "../../ports/adapter.ts";
import type { Aws } from "../aws.ts";

/** One page, the largest there is: a list to choose from, not an inventory. */
const MOST = 1000;

/** The IAM users of the account that the environment's credentials belong to. */
export async function usersOf(aws: Aws, ctx: Ctx): Promise<Discovery> {
  const { account, arn } = await aws.identity(ctx);
  const { ListUsersCommand } = await import("@aws-sdk/client-iam");
  const answer = await aws.send("iam:ListUsers", new ListUsersCommand({ MaxItems: MOST }), { ctx, mutates: false });
  const names = (answer.Users ?? []).flatMap(({ UserName }) => UserName ?? []);
  return {
    where: `account ${account} as ${arn.replace(/^arn:[^:]*:[^:]*::\d*:/, "")}`,
    found: names.map((user) => ({
      label: `IAM user ${user}`,
      name: user,
      settings: { user, expect: { account } },
    })),
  };
}
