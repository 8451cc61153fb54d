import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const BIN = join(ROOT, "bin/keyturn.js");

/** Builds when a source is newer than what was built. */
export function build(): void {
  const built = statSync(join(ROOT, "dist/cli.js"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  if (sources.some((name) => statSync(join(ROOT, "src", name)).mtimeMs > built))
    execFileSync(process.execPath, [join(ROOT, "bin/build.mjs")]);
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

// oxlint-disable-next-line typescript/no-explicit-any -- the shape is what the tests are about
export type Json = any;

export interface Bench {
  readonly folder: string;
  readonly authority: TestAuthority;
  readonly env: Record<string, string>;
  /** Everything that any command printed. */
  readonly printed: string[];
  policy(text: string): void;
  start(...args: string[]): ChildProcess;
  run(...args: string[]): Promise<Ended>;
  /** With --json: the exit code and the one document. */
  json(...args: string[]): Promise<{ code: number; document: Json }>;
  /** The value that the consumer reads. */
  served(secret?: string): string;
  close(): Promise<void>;
}

/** A folder with a policy, and a real authority with the clients `one` and `two`. */
export async function bench(): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-cli-"));
  const authority = await startTestAuthority();
  for (const client of ["one", "two"]) await authority.addClient(client);
  const env = { PATH: process.env["PATH"] ?? "", HOME: folder, ADMIN: authority.adminToken };
  const printed: string[] = [];
  const start: Bench["start"] = (...args) =>
    spawn(process.execPath, [BIN, ...args], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  const run: Bench["run"] = async (...args) => {
    const ended = await ending(start(...args));
    printed.push(ended.stdout, ended.stderr);
    return ended;
  };
  return {
    folder,
    authority,
    env,
    printed,
    start,
    run,
    policy: (text) => writeFileSync(join(folder, "rotation.config.yaml"), text),
    json: async (...args) => {
      const { code, stdout } = await run("--json", ...args);
      return { code, document: JSON.parse(stdout) };
    },
    served: (secret = "one") => /^API_KEY=(.+)$/m.exec(readFileSync(join(folder, `${secret}.env`), "utf8"))?.[1] ?? "",
    close: async () => {
      await authority.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function ending(child: ChildProcess): Promise<Ended> {
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name]?.setEncoding("utf8").on("data", (text: string) => (texts[name] += text));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code: code ?? -1, ...texts }));
  });
}

export interface Times {
  readonly minimum?: string;
  readonly quiet?: string;
  readonly soak?: string;
  readonly every?: string | null;
}

/** A policy with the secrets `one` and `two`, local store as authority and a dotenv file each. */
export function policyOf(
  url: string,
  { minimum = "1h", quiet = "1s", soak = "0s", every = "90d" }: Times = {},
): string {
  const secret = (name: string) => `
  ${name}:
    issuer: { type: api-keys, url: "${url}", client: ${name}, adminToken: "\${env:ADMIN}" }
    stores:
      - { type: local }
      - { type: dotenv, path: ${name}.env, fields: { API_KEY: apiKey } }
    consumers: [{ name: app, required: false }]
    owner: team-${name}
    tags: [${name}, all]`;
  return `version: 1
defaults:
  ${every === null ? "" : `schedule: { every: ${every} }`}
  verify: { successes: 1, spread: 0s, deadline: 5s }
  overlap: { minimum: ${minimum}, quiet: ${quiet}, maximum: 1d }
  soak: { for: ${soak} }
secrets:${secret("one")}${secret("two")}
`;
}
