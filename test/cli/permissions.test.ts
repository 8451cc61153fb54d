import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { merged } from "../../src/commands/privileges.ts";
import { BIN, build } from "./harness.ts";

const POLICY = `version: 1
stores:
  prod: { type: aws-secrets-manager, region: eu-west-1, expect: { account: "123456789012" } }
  vault: { type: vault-kv, mount: secret, address: "http://127.0.0.1:8200" }
secrets:
  payments:
    issuer: { type: aws-iam, user: payments-app, expect: { account: "123456789012" } }
    stores:
      - { use: prod, name: prod/payments }
      - { use: vault, path: payments/aws }
  mail:
    issuer: { type: aws-iam, user: mail-app, expect: { account: "123456789012" } }
    stores: [{ use: prod, name: prod/mail }]
  search:
    issuer: { type: aws-iam, user: search-app, expect: { account: "123456789012" } }
    stores: [{ use: vault, path: search/aws }]
`;

let folder: string;
beforeAll(() => {
  build();
  folder = mkdtempSync(join(tmpdir(), "keyturn-permissions-"));
  writeFileSync(join(folder, "rotation.config.yaml"), POLICY);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function keyturn(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, "permissions", ...args], {
    cwd: folder,
    env: { PATH: process.env["PATH"], HOME: folder },
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

test("an IAM policy names every action of the job, and no resource but the policy's own", () => {
  const { status, stdout } = keyturn("--format", "iam");
  expect(status).toBe(0);
  const { Statement } = JSON.parse(stdout) as { Statement: { Effect: string; Action: string[]; Resource: string[] }[] };
  expect(new Set(Statement.map(({ Effect }) => Effect))).toEqual(new Set(["Allow"]));
  const allowed = new Map(Statement.flatMap(({ Action, Resource }) => Action.map((action) => [action, Resource])));
  const users = ["payments", "mail", "search"].map((name) => `arn:aws:iam::123456789012:user/${name}-app`);
  const stores = ["prod/payments", "prod/mail"].map(
    (name) => `arn:aws:secretsmanager:eu-west-1:123456789012:secret:${name}-??????`,
  );
  expect(Object.fromEntries(allowed)).toEqual({
    ...Object.fromEntries(
      [
        "GetUser",
        "ListAccessKeys",
        "CreateAccessKey",
        "UpdateAccessKey",
        "DeleteAccessKey",
        "GetAccessKeyLastUsed",
      ].map((action) => [`iam:${action}`, users]),
    ),
    ...Object.fromEntries(
      ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"].map((action) => [
        `secretsmanager:${action}`,
        stores,
      ]),
    ),
  });
});

test("one secret alone, and nothing of another's", () => {
  const { stdout } = keyturn("mail", "--format", "iam");
  expect(stdout).toContain("user/mail-app");
  expect(stdout).not.toContain("payments");
});

test("a Vault policy: the delivery's path, and the staging entries where versions wait", () => {
  const { stdout } = keyturn("search", "--format", "vault");
  expect(stdout).toContain('path "secret/data/search/aws" {\n  capabilities = ["create", "read", "update"]\n}');
  const paths = (text: string) => text.match(/^path .*$/gm);
  expect(paths(stdout)).toEqual([
    'path "secret/data/search/aws" {',
    'path "secret/metadata/search/aws" {',
    'path "secret/data/keyturn/search/*" {',
    'path "secret/metadata/keyturn/search/*" {',
  ]);
  expect(paths(keyturn("payments", "--format", "vault").stdout)).toEqual([
    'path "secret/data/payments/aws" {',
    'path "secret/metadata/payments/aws" {',
  ]);
});

test("the state's own place, on whatever it is", () => {
  const { Statement } = JSON.parse(
    keyturn("mail", "--state", "s3://ops/team?region=eu-west-1", "--format", "iam").stdout,
  );
  expect(Statement).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ Action: ["s3:GetObject", "s3:PutObject"], Resource: ["arn:aws:s3:::ops/team/*"] }),
      expect.objectContaining({ Action: ["s3:ListBucket"], Resource: ["arn:aws:s3:::ops"] }),
    ]),
  );
  const vault = keyturn("mail", "--state", "vault-kv:ops?address=http://127.0.0.1:8200", "--format", "vault");
  expect(vault.stdout).toContain('path "secret/data/ops/*" {\n  capabilities = ["create", "read", "update"]\n}');
  expect(keyturn("mail", "--format", "iam").stdout).not.toContain("s3:");
});

test("Terraform has both", () => {
  const { stdout } = keyturn("--format", "terraform");
  expect(stdout).toContain('data "aws_iam_policy_document" "keyturn"');
  expect(stdout).toContain('resource "vault_policy" "keyturn"');
  expect(stdout.match(/\{/g)?.length).toBe(stdout.match(/\}/g)?.length);
});

test("a format that nothing of the policy is for, and one that does not exist", () => {
  expect(keyturn("mail", "--format", "vault")).toMatchObject({ status: 2, stdout: "" });
  expect(keyturn("--format", "xml").stderr).toContain('--format: "xml" is none of iam, vault, terraform');
});

test("what people and scripts read names everything", () => {
  expect(keyturn().stdout).toContain("aws: make the new key\n  iam:CreateAccessKey\n");
  const document = JSON.parse(keyturn("--json").stdout) as { permissions: { aws: unknown[]; vault: unknown[] } };
  expect([document.permissions.aws.length, document.permissions.vault.length]).toEqual([5, 6]);
});

test("lines of one place, or of the same actions, become one", () => {
  const place = { for: "vault", address: "https://v", namespace: "team", path: "secret/data/a" } as const;
  const at = (name: string) => ({ for: "aws", why: "list", actions: ["iam:B", "iam:A"], resources: [name] }) as const;
  expect(
    merged([
      { ...place, why: "read", capabilities: ["read"] },
      at("x"),
      { ...place, why: "write", capabilities: ["read", "update"] },
      at("y"),
      at("x"),
    ]),
  ).toEqual({
    aws: [{ for: "aws", why: "list", actions: ["iam:A", "iam:B"], resources: ["x", "y"] }],
    vault: [{ ...place, why: "read; write", capabilities: ["read", "update"] }],
  });
});
