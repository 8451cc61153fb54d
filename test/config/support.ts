import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import type { Registry } from "../../src/adapters/registry.ts";
import { loadPolicy, type LoadedPolicy } from "../../src/config/load.ts";
import type { Env } from "../../src/config/references.ts";
import { UserError } from "../../src/core/errors.ts";

/** A folder with these files, gone after the test. */
export function folderWith(files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-config-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

export interface Given {
  readonly env?: Env;
  readonly registry?: Registry;
  readonly file?: string;
}

export async function load(text: string | Record<string, string>, given: Given = {}): Promise<LoadedPolicy> {
  const cwd = folderWith(typeof text === "string" ? { "rotation.config.yaml": text } : text);
  return loadPolicy({ cwd, env: {}, ...given });
}

/** The error that loading ends in; a policy that loads is a failure of the test. */
export async function refusal(text: string | Record<string, string>, given: Given = {}): Promise<UserError> {
  const outcome = await load(text, given).catch((error: unknown) => error);
  if (outcome instanceof UserError) return outcome;
  throw outcome instanceof Error ? outcome : new Error("the policy was accepted");
}

/** A whole policy around the lines of one secret called `payments`. */
export function policyWith(secret: string, top = ""): string {
  return `version: 1\n${top}secrets:\n  payments:\n${secret.replace(/^/gm, "    ")}\n`;
}

export const ISSUER = `issuer: { type: api-keys, url: "http://localhost", client: payments, adminToken: "\${env:TOKEN}" }`;
export const STORES = `stores: [{ type: local }]`;
