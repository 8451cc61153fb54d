import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestAuthority } from "./support/authority.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FILE = "src/adapters/stores/json-file.ts";
const REGISTRY = "src/adapters/registry.ts";

let copy: string;
beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), "keyturn-provider-"));
  for (const name of ["src", "bin", "test", "package.json", "tsconfig.json"])
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  writeFileSync(join(copy, FILE), told("file"));
  const registry = readFileSync(join(ROOT, REGISTRY), "utf8");
  writeFileSync(join(copy, REGISTRY), registry.replace(/^ {2}store: \{\n/m, `$&${told("line")}`));
  writeFileSync(join(copy, "test/json-file.test.ts"), CONTRACT);
});
afterAll(() => rmSync(copy, { recursive: true, force: true }));

/** The code that CONTRIBUTING.md shows behind its `provider:NAME` comment. */
function told(name: string): string {
  const page = readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8");
  const [, code] = new RegExp(`^<!-- provider:${name} -->\\n\`\`\`ts\\n([\\s\\S]*?)^\`\`\`$`, "m").exec(page) ?? [];
  if (code === undefined) throw new Error(`CONTRIBUTING.md shows no ${name}`);
  return code;
}

const CONTRACT = `
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { adapter } from "../${FILE}";
import { storeContract } from "./contract/store.ts";

storeContract("json-file", { fields: ["apiKey", "other"] }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-json-"));
  writeFileSync(join(folder, "app.json"), '{ "debug": true, "nested": { "a": [1] } }');
  const deps = {
    folder, env: {}, now: Date.now, debug: () => {}, announce: () => {},
    sleep: (ms: number, signal?: AbortSignal) => setTimeout(ms, undefined, signal ? { signal } : {}),
  };
  return {
    open: () => adapter.create({ path: "app.json" }, {}, { secret: "s", fields: { KEY: "apiKey", OTHER: "other" } }, deps),
    siblings: async () => {
      const { KEY, OTHER, ...rest } = JSON.parse(readFileSync(join(folder, "app.json"), "utf8"));
      return [rest, readdirSync(folder)];
    },
    dispose: async () => rmSync(folder, { recursive: true, force: true }),
  };
});
`;

/** What ran, with its output where it failed. */
async function node(args: readonly string[], cwd = copy, env: Record<string, string> = {}): Promise<string> {
  const { VITEST: _, ...inherited } = process.env;
  return promisify(execFile)(process.execPath, [...args], { cwd, env: { ...inherited, ...env } }).then(
    ({ stdout }) => stdout,
    ({ stdout, stderr }: { stdout: string; stderr: string }) => {
      throw new Error(`${args.join(" ")}:\n${stdout}\n${stderr}`);
    },
  );
}

test("types and layers take the new provider as it is", async () => {
  await node(["node_modules/typescript/bin/tsc", "--noEmit", "-p", "."]);
  await node([
    "node_modules/vitest/vitest.mjs",
    "run",
    "--config",
    "test/vitest.config.ts",
    "test/architecture.test.ts",
  ]);
});

test("it keeps the contract of its port", async () => {
  const run = ["node_modules/vitest/vitest.mjs", "run", "--config", "test/vitest.config.ts", "test/json-file.test.ts"];
  expect(await node(run)).toMatch(/Tests.*passed/);
});

test("a key rotates through it, to the end", async () => {
  await node(["bin/build.mjs"]);
  const authority = await startTestAuthority();
  const folder = mkdtempSync(join(tmpdir(), "keyturn-provided-"));
  try {
    await authority.addClient("app");
    writeFileSync(join(folder, "app.json"), '{ "debug": true }\n');
    writeFileSync(
      join(folder, "rotation.config.yaml"),
      `version: 1
secrets:
  app:
    issuer: { type: api-keys, url: "${authority.url}", client: app, adminToken: "\${env:ADMIN}" }
    stores: [{ type: json-file, path: app.json, fields: { key: apiKey } }]
    verify: { successes: 1, spread: 0s }
    overlap: { minimum: 0s, quiet: 0s }
    soak: 0s
`,
    );
    const keyturn = (...args: string[]) =>
      node([join(copy, "bin/keyturn.js"), ...args], folder, { ADMIN: authority.adminToken });
    const read = () => JSON.parse(readFileSync(join(folder, "app.json"), "utf8")) as { debug: boolean; key: string };
    expect(await keyturn("schema")).toContain("json-file");
    await keyturn("validate");
    await keyturn("doctor");
    await keyturn("rotate", "app");
    const first = read();
    await keyturn("rotate", "app", "--wait");
    const second = read();
    expect([first.debug, second.debug, first.key === second.key]).toEqual([true, true, false]);
    expect((await authority.whoami(first.key)).status).toBe(401);
    expect((await authority.whoami(second.key)).status).toBe(200);
    expect(await authority.list("app")).toHaveLength(1);
    expect(await keyturn("show", "app")).toMatch(/json-file\s+app\.json/);
  } finally {
    await authority.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
