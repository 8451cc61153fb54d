import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { baoProgram } from "./openbao.ts";
import { venv } from "./python.ts";
import { needs } from "./require.ts";

const PINS = ["boto3==1.44.5", "awscli==1.46.3", "aws-secretsmanager-caching==1.2.0", "hvac==2.4.0"];
const SCRIPT = fileURLToPath(new URL("consumers.py", import.meta.url));

/** What a consumer saw from its start to its end. */
export interface Seen {
  readonly kind: string;
  readonly uses: number;
  /** Different keys that it was served. */
  readonly keys: number;
  /** Each refused read or use, in its own words. */
  readonly failures: readonly string[];
}

export interface Consumer {
  readonly end: () => Promise<Seen>;
}

/** The folder with a Python that has boto3, the AWS CLI, the caching client and hvac; null where it cannot be had. */
export async function consumerPython(): Promise<string | null> {
  const bin = await venv("consumers", PINS).catch(() => null);
  return needs("boto3, AWS CLI and hvac (python3 with venv and pip)", bin !== null) ? bin : null;
}

/** A consumer of `consumers.py` in a process of its own. Resolves once it has used its first key. */
export async function startConsumer(
  given: { readonly kind: string; readonly every: number } & Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string>>,
): Promise<Consumer> {
  const bin = await consumerPython();
  if (bin === null) throw new Error("ask consumerPython() first");
  const child = spawn(join(bin, "python"), [SCRIPT, JSON.stringify(given)], {
    env: { PATH: process.env["PATH"] ?? "", PYTHONWARNINGS: "ignore", ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const problems: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => void problems.push(text));
  const lines: string[] = [];
  const reader = createInterface(child.stdout).on("line", (line) => void lines.push(line));
  const closed = once(child, "close");
  await Promise.race([once(reader, "line"), closed]);
  if (lines[0] !== "ready") throw new Error(`${given.kind}: ${problems.join("").slice(-2000)}`);
  return {
    end: async () => {
      child.stdin.end();
      await closed;
      return { kind: given.kind, ...JSON.parse(lines[1] ?? "null") };
    },
  };
}

/** OpenBao's agent, which renders a template to a file whenever it sees another value. Resolves once it is there. */
export async function startAgent(
  folder: string,
  template: string,
  every: string,
  { VAULT_ADDR = "", VAULT_TOKEN = "" }: Readonly<Record<string, string>>,
): Promise<{ readonly file: string; readonly child: ChildProcess }> {
  const bin = await baoProgram();
  if (bin === null) throw new Error("ask baoProgram() first");
  const [token, config, file] = ["agent.token", "agent.hcl", "rendered.json"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(token, VAULT_TOKEN, { mode: 0o600 });
  await writeFile(
    config,
    `vault { address = "${VAULT_ADDR}" }
auto_auth {
  method "token_file" { config = { token_file_path = "${token}" } }
}
template_config { static_secret_render_interval = "${every}" }
template {
  contents = ${JSON.stringify(template)}
  destination = "${file}"
}
`,
  );
  const child = spawn(join(bin, "bao"), ["agent", `-config=${config}`], {
    env: { PATH: process.env["PATH"] ?? "", HOME: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => void said.push(text));
  for (let waited = 0; !existsSync(file); waited += 50) {
    if (waited > 20_000 || child.exitCode !== null)
      throw new Error(`bao agent rendered nothing: ${said.join("").slice(-2000)}`);
    await sleep(50);
  }
  return { file, child };
}
