import { spawn, type ChildProcess, type StdioOptions } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "../cli/harness.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export interface Ended {
  /** null: ended by a signal. */
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  /** What it has printed on stderr so far. */
  readonly said: () => string;
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<Ended>;
}

// oxlint-disable-next-line typescript/no-explicit-any -- the shape is what the tests are about
export type Json = any;

/**
 * The built command line, copied: a build under way elsewhere takes no chunk away from a process that is running.
 * Lies where the packages are found.
 */
export class CommandLine {
  readonly #folder: string;
  readonly bin: string;
  readonly #alive = new Set<ChildProcess>();
  /** Everything that any process printed. */
  readonly printed: string[] = [];

  constructor() {
    build();
    const cache = join(ROOT, "node_modules/.cache");
    mkdirSync(cache, { recursive: true });
    this.#folder = mkdtempSync(join(cache, "keyturn-live-"));
    // Others may start it, too: what root may do cannot be forbidden to root.
    chmodSync(this.#folder, 0o755);
    cpSync(join(ROOT, "dist"), join(this.#folder, "dist"), { recursive: true });
    mkdirSync(join(this.#folder, "bin"));
    cpSync(join(ROOT, "bin/keyturn.js"), join(this.#folder, "bin/keyturn.js"));
    cpSync(join(ROOT, "package.json"), join(this.#folder, "package.json"));
    this.bin = join(this.#folder, "bin/keyturn.js");
  }

  /** @param prefix a program that starts it, with its arguments: `["setpriv", "--reuid", "65534"]` */
  start(
    place: Pick<Place, "folder" | "env">,
    args: readonly string[],
    { prefix = [], stdin = "ignore" }: { prefix?: readonly string[]; stdin?: "ignore" | "pipe" } = {},
  ): Running {
    const [file = "", ...rest] = [...prefix, process.execPath, this.bin, ...args];
    const stdio: StdioOptions = [stdin, "pipe", "pipe"];
    const child = spawn(file, rest, { cwd: place.folder, env: place.env, stdio });
    this.#alive.add(child);
    const texts = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const)
      child[name]?.setEncoding("utf8").on("data", (text: string) => (texts[name] += text));
    const ended = new Promise<Ended>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        this.#alive.delete(child);
        this.printed.push(texts.stdout, texts.stderr);
        resolve({ code, signal, ...texts });
      });
    });
    return { child, pid: child.pid ?? 0, said: () => texts.stderr, ended };
  }

  run(place: Pick<Place, "folder" | "env">, ...args: string[]): Promise<Ended> {
    return this.start(place, args).ended;
  }

  /** With --json: the exit code and the one document. */
  async json(
    place: Pick<Place, "folder" | "env">,
    ...args: string[]
  ): Promise<{ code: number | null; stderr: string; document: Json }> {
    const { code, stdout, stderr } = await this.run(place, "--json", ...args);
    return { code, stderr, document: JSON.parse(stdout) };
  }

  /** Of the processes that run now. */
  pids(): number[] {
    return [...this.#alive].flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
  }

  /** Ends what still runs, too. */
  remove(): void {
    for (const child of this.#alive) child.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A folder with a policy, as a team would have it. */
export class Place {
  readonly folder = mkdtempSync(join(tmpdir(), "keyturn-live-"));
  readonly env: Record<string, string>;

  constructor(env: Readonly<Record<string, string>>) {
    this.env = { PATH: process.env["PATH"] ?? "", HOME: this.folder, ...env };
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  policy(text: string): void {
    writeFileSync(this.path("rotation.config.yaml"), text);
  }

  /** The policy as it stands. */
  read(): string {
    return readFileSync(this.path("rotation.config.yaml"), "utf8");
  }

  /** What consumers of the .env file read; null while there is nothing to read. */
  dotenv(secret: string): string | null {
    const file = this.path(`${secret}.env`);
    if (!statSync(file, { throwIfNoEntry: false })?.isFile()) return null;
    return /^API_KEY=(.+)$/m.exec(readFileSync(file, "utf8"))?.[1] ?? null;
  }

  /** The bytes of everything that is state: database, its journal, and whatever else lies beside it. */
  stateBytes(): Buffer {
    const at = this.path(".keyturn");
    if (!existsSync(at)) return Buffer.alloc(0);
    const files = readdirSync(at).filter((name) => name.startsWith("state.db"));
    return Buffer.concat(files.map((name) => readFileSync(join(at, name))));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface SecretText {
  readonly name: string;
  readonly client?: string;
  readonly maxKeys?: number;
  readonly usage?: string;
  readonly stores?: string;
  readonly more?: string;
}

export interface PolicyText {
  readonly minimum?: string;
  readonly soak?: string;
  readonly every?: string | null;
  readonly lease?: string;
  /** Where the state lives: members of the policy's `state`. */
  readonly state?: string;
  readonly more?: string;
}

/** A policy whose waits are as short as they may be: local store and a .env file each. */
export function policyText(
  url: string,
  secrets: readonly SecretText[],
  {
    minimum = "0s",
    soak = "0s",
    every = null,
    lease = "1s",
    state = "type: sqlite, path: .keyturn/state.db",
    more = "",
  }: PolicyText = {},
): string {
  const secret = ({
    name,
    client = name,
    maxKeys = 2,
    usage = QUICK,
    stores,
    more: extra = "",
  }: SecretText): string => `
  ${name}:
    issuer:
      type: api-keys
      url: "${url}"
      client: ${client}
      adminToken: "\${env:ADMIN}"
      maxKeys: ${maxKeys}
      timing: { settle: 0s }
    stores: ${stores ?? `[{ type: local }, { type: dotenv, path: ${name}.env, fields: { API_KEY: apiKey } }]`}
    usage: ${usage}
    consumers: [{ name: app, required: false }]${extra}`;
  return `version: 1
state: { ${state}, lease: ${lease} }
defaults:
  ${every === null ? "" : `schedule: { every: ${every} }`}
  verify: { successes: 1, spread: 0s, deadline: 5s }
  overlap: { minimum: ${minimum}, quiet: 0s, maximum: 1d }
  soak: { for: ${soak} }
  retry: { attempts: 5, backoff: 100ms }
${more}secrets:${secrets.map(secret).join("")}
`;
}

const QUICK = "[{ type: issuer, granularity: 0s, lag: 0s }]";
