import { ProviderError } from "../core/errors.ts";
import type { AwsPermission, Ctx, Description, Finding } from "../ports/context.ts";
import { ourFields } from "./aws-body.ts";
import { allowed, partitionOf, permissionFindings, type Verdict } from "./aws-permissions.ts";
import { accountFindings, type Aws } from "./aws.ts";
import { CURRENT, LARGEST, type SecretInfo, type SecretVersion, type SecretPlace } from "./aws-secret-client.ts";

const PENDING = "AWSPENDING";
/** Room for what a new value may be longer than the one it replaces. */
const MARGIN = 512;

/** What has to be read for it: each one call at most. */
export interface Reads {
  /** null: no such secret. */
  readonly info: () => Promise<SecretInfo | null>;
  /** null: no version is current. */
  readonly current: () => Promise<SecretVersion | null>;
}

/** Everything that would go wrong later, found now. */
export async function describeSecret(
  place: SecretPlace,
  aws: Aws,
  reads: Reads,
  probe: (action: string) => Promise<Verdict>,
  ctx: Ctx,
): Promise<Description> {
  const findings: Finding[] = [];
  const info = await allowed(findings, reads.info);
  const account = info?.account ?? (await aws.identity(ctx)).account;
  const name = info?.answer.Name ?? nameIn(place.name);
  const binding = `aws-secrets-manager:${aws.region}:${account}:${name}`;
  const what = `secret ${name} (${aws.region})`;
  findings.push(...accountFindings(place.account, account, what));
  if (info === undefined) return { binding, findings };
  findings.push(...(info === null ? absence(place, aws.region) : standing(info, what, aws.region)));
  if (info !== null && info.answer.DeletedDate === undefined) await read(findings, place, reads.current);
  if (!findings.some(({ blocks }) => blocks)) {
    const permissions = permissionsOf(place, aws.region, account);
    const there = { proven: ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], probe } as const;
    findings.push(...(await permissionFindings(aws, permissions, ctx, info === null ? {} : there)));
  }
  return { binding, findings };
}

/** @param account the one it is in, where that is known */
export function permissionsOf(place: SecretPlace, region: string, account = place.account ?? "*"): AwsPermission[] {
  const isArn = place.name.startsWith("arn:");
  // Secrets Manager ends each ARN with a hyphen and six signs of its own.
  const arn = `arn:${partitionOf(region)}:secretsmanager:${region}:${account}:secret:${place.name}-??????`;
  const resources = [isArn ? place.name : arn];
  const lines: AwsPermission[] = [
    {
      for: "aws",
      why: "look at the secret, hold new versions in it, promote them, put old ones back, let go of dead ones",
      actions: ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"].map(
        (action) => `secretsmanager:${action}`,
      ),
      resources,
    },
  ];
  const { make } = place;
  if (make !== null) {
    const tags = Object.keys(make.tags ?? {}).length > 0 ? ["secretsmanager:TagResource"] : [];
    const actions = ["secretsmanager:CreateSecret", ...tags];
    lines.push({ for: "aws", why: "make the secret where there is none", actions, resources });
  }
  if (make?.kmsKey?.startsWith("arn:")) {
    const actions = ["kms:GenerateDataKey", "kms:Decrypt"];
    lines.push({ for: "aws", why: "encrypt it under its KMS key", actions, resources: [make.kmsKey] });
  }
  return lines;
}

function absence({ name, make }: SecretPlace, region: string): Finding[] {
  if (make !== null) return [];
  const message = `there is no secret ${name} in ${region}`;
  const hint = "check the region, make the secret, or write `create: true` beside its name";
  return [{ reason: "store-unsuitable", blocks: true, message, hint }];
}

function standing(info: SecretInfo, what: string, region: string): Finding[] {
  const { DeletedDate, RotationEnabled, OwningService, PrimaryRegion } = info.answer;
  const findings: Finding[] = [];
  const unsuitable = (message: string, hint: string): void =>
    void findings.push({ reason: "store-unsuitable", blocks: true, message: `${what} ${message}`, hint });
  if (DeletedDate !== undefined)
    unsuitable("is scheduled for deletion", "`aws secretsmanager restore-secret` keeps it");
  if (OwningService) unsuitable(`is managed by ${OwningService}`, "that service alone may write it");
  if (PrimaryRegion !== undefined && PrimaryRegion !== region) {
    unsuitable(`is a replica of the one in ${PrimaryRegion}`, `write \`region: ${PrimaryRegion}\``);
  }
  const pending = info.holderOf(PENDING);
  if (RotationEnabled === true) {
    const hint = "two rotators of one secret take each other's keys away: `aws secretsmanager cancel-rotate-secret`";
    findings.push({ reason: "foreign-pending", blocks: true, message: `${what} is rotated by AWS itself`, hint });
  } else if (pending !== null && pending !== info.holderOf(CURRENT)) {
    const message = `${what} has a version labelled ${PENDING}: somebody else's rotation is under way`;
    const hint = "finish it, or take that label away with `aws secretsmanager update-secret-version-stage`";
    findings.push({ reason: "foreign-pending", blocks: true, message, hint });
  }
  return findings;
}

async function read(findings: Finding[], { name, layout }: SecretPlace, reading: Reads["current"]): Promise<void> {
  const unfit = (reason: Finding["reason"], message: string, hint?: string): void =>
    void findings.push({ reason, blocks: true, message, ...(hint !== undefined && { hint }) });
  if (layout.plain && Object.keys(layout.fields).length !== 1) {
    unfit("name-conflict", `${name} is plain text, which holds one field`, "name that one in `fields`");
  }
  try {
    const current = await allowed(findings, reading);
    if (!current || current.text === null) return;
    const size = Buffer.byteLength(current.text);
    const present = ourFields(current.text, layout);
    if (size + (present === null ? MARGIN : 0) > LARGEST)
      unfit("store-unsuitable", `${name} has no room: ${size} bytes`);
    if (layout.plain && isObject(current.text)) {
      unfit("name-conflict", `${name} holds a JSON object, which a plain text would replace`, "leave `plain` away");
    }
  } catch (error) {
    if (!(error instanceof ProviderError) || error.kind !== "invalid") throw error;
    const about = error.message.startsWith(name) ? error.message : `${name}: ${error.message}`;
    const isMember = error.message.startsWith("its member");
    unfit(isMember ? "name-conflict" : "store-unsuitable", about, error.detail.hint);
  }
}

function isObject(text: string): boolean {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null;
  } catch {
    return false;
  }
}

/** `arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf` is `prod/db`. */
function nameIn(name: string): string {
  return name.startsWith("arn:") ? (name.split(":")[6] ?? name).replace(/-[A-Za-z0-9]{6}$/, "") : name;
}
