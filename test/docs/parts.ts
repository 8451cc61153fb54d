import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { load } from "js-yaml";
import { loadPolicy, type LoadedPolicy } from "../../src/config/load.ts";
import { page } from "./generated.ts";

/** Keys that stand at a policy's top, not in a secret; `stores` may be either, and a list is a secret's. */
const TOP: ReadonlySet<string> = new Set(["version", "include", "state", "defaults", "notifiers", "secrets"]);

/** What a part needs around it to be a policy. */
const REST = {
  issuer: { type: "api-keys", url: "https://keys.example.com", client: "payments", adminToken: "${env:ADMIN_TOKEN}" },
  stores: [{ type: "local" }],
};

/** The yaml examples of a page, in order. */
export function examplesOf(file: string): readonly string[] {
  return [...page(file).matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(([, text = ""]) => text);
}

/** An example as a whole policy of one secret, `payments`, with all that it refers to in the environment. */
export async function policyOf(example: string): Promise<LoadedPolicy> {
  const said = Object.entries(load(example) as object);
  const isTop = ([key, value]: [string, unknown]) => TOP.has(key) || (key === "stores" && !Array.isArray(value));
  const payments = { ...REST, ...Object.fromEntries(said.filter((entry) => !isTop(entry))) };
  const whole = { version: 1, secrets: { payments }, ...Object.fromEntries(said.filter(isTop)) };
  const text = JSON.stringify(whole);
  const names = [...text.matchAll(/\$\{env:(\w+)\}/g)].map(([, name]) => [name, "from-the-environment"] as const);
  const cwd = mkdtempSync(join(tmpdir(), "keyturn-part-"));
  try {
    writeFileSync(join(cwd, "rotation.config.json"), text);
    return await loadPolicy({ cwd, env: Object.fromEntries(names) });
  } finally {
    rmSync(cwd, { recursive: true, force: true });
  }
}
