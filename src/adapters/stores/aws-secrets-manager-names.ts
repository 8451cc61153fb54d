import type { Discovery, Found } from "../../ports/adapter.ts";
import type { Ctx } from "../../ports/context.ts";
import type { Aws } from "../aws.ts";

/** A list to choose from, not an inventory. */
const MOST_PAGES = 5;
const PAGE = 100;

/** The names of the secrets in one region, as far as five pages go. */
export async function secretsOf(aws: Aws, ctx: Ctx): Promise<Discovery> {
  const { account, arn } = await aws.identity(ctx);
  const { ListSecretsCommand } = await import("@aws-sdk/client-secrets-manager");
  const settings = { region: aws.region, expect: { account } };
  const found: Found[] = [];
  let NextToken: string | undefined;
  for (let page = 0; page < MOST_PAGES && (page === 0 || NextToken !== undefined); page++) {
    const asked = new ListSecretsCommand({ MaxResults: PAGE, ...(NextToken !== undefined && { NextToken }) });
    const answer = await aws.send("secretsmanager:ListSecrets", asked, { ctx, mutates: false });
    const names = (answer.SecretList ?? []).flatMap(({ Name }) => Name ?? []);
    found.push(...names.map((name) => ({ label: `secret ${name}`, name, settings, delivery: { name } })));
    NextToken = answer.NextToken;
  }
  return { where: `account ${account} as ${arn.replace(/^arn:[^:]*:[^:]*::\d*:/, "")}, ${aws.region}`, found };
}
