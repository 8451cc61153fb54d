import { createHash, createHmac } from "node:crypto";
import type { Instant } from "../core/duration.ts";
import { ProviderError } from "../core/errors.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import { AwsTransport } from "./aws-transport.ts";

const BODY = "Action=GetCallerIdentity&Version=2011-06-15";

export interface AwsCaller {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/**
 * Who we are to AWS, signed for Vault to ask STS itself: the members of a login by `aws` with type `iam`
 * (developer.hashicorp.com/vault/api-docs/auth/aws#login). Nothing is sent here. Vault takes no header of
 * `X-Amz-` that it does not know, so only those that the signature needs are there.
 */
export async function signedIdentity(
  how: { readonly region?: string | undefined; readonly serverId?: string | undefined },
  deps: AdapterDeps,
): Promise<Record<string, string>> {
  const url = how.region === undefined ? "https://sts.amazonaws.com/" : `https://sts.${how.region}.amazonaws.com/`;
  const headers = signed(
    new URL(url),
    how.region ?? "us-east-1",
    await caller(how.region, deps),
    deps.now(),
    how.serverId,
  );
  return {
    iam_http_request_method: "POST",
    iam_request_url: base64(url),
    iam_request_body: base64(BODY),
    iam_request_headers: base64(JSON.stringify(headers)),
  };
}

/** The headers of a GetCallerIdentity with AWS's signature, version 4. */
export function signed(
  url: URL,
  region: string,
  keys: AwsCaller,
  now: Instant,
  serverId?: string,
): Record<string, string> {
  const stamp = new Date(now).toISOString().replace(/[-:]|\.\d{3}/g, "");
  const headers: Record<string, string> = {
    "Content-Length": String(BODY.length),
    "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
    Host: url.host,
    "X-Amz-Date": stamp,
    ...(keys.sessionToken !== undefined && { "X-Amz-Security-Token": keys.sessionToken }),
    ...(serverId !== undefined && { "X-Vault-AWS-IAM-Server-ID": serverId }),
  };
  const lines = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
  lines.sort(([a], [b]) => (a < b ? -1 : 1));
  const names = lines.map(([name]) => name).join(";");
  const canonical = ["POST", "/", "", ...lines.map(([name, value]) => `${name}:${value}`), "", names, hash(BODY)];
  const scope = [stamp.slice(0, 8), region, "sts", "aws4_request"];
  const text = ["AWS4-HMAC-SHA256", stamp, scope.join("/"), hash(canonical.join("\n"))].join("\n");
  const key = scope.reduce<string | Buffer>((secret, part) => hmac(secret, part), `AWS4${keys.secretAccessKey}`);
  const signature = hmac(key, text).toString("hex");
  const credential = `${keys.accessKeyId}/${scope.join("/")}`;
  const authorization = `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names}, Signature=${signature}`;
  return { ...headers, Authorization: authorization };
}

/** The environment's keys, else the SDK's own chain. */
async function caller(region: string | undefined, { env }: AdapterDeps): Promise<AwsCaller> {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: token } = env;
  if (!env["AWS_PROFILE"] && accessKeyId && secretAccessKey)
    return { accessKeyId, secretAccessKey, ...(token && { sessionToken: token }) };
  const { STSClient } = await import("@aws-sdk/client-sts");
  const requestHandler = new AwsTransport(env) as object;
  const client = new STSClient({ region: region ?? "us-east-1", maxAttempts: 1, requestHandler });
  try {
    return await client.config.credentials();
  } catch {
    const hint = "aws sts get-caller-identity shows what this process runs as";
    throw new ProviderError("unauthenticated", "no", "no AWS credentials to log in to Vault with", { hint });
  }
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
