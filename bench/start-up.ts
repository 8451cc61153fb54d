import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Documents } from "./latency.ts";
import { openBenchState } from "./state.ts";

/** One command's start-up beside that of a bare node, both measured in the same rounds. */
export interface StartUp {
  readonly name: string;
  /** Median, ms. */
  readonly ms: number;
  /** Median over rounds of (this command / `node -e 0`). */
  readonly ratio: number;
  /** The ratio that we mean to stay below; null: none. */
  readonly goal: number | null;
}

interface Case {
  readonly name: string;
  readonly args: readonly string[];
  readonly folder: string;
  readonly goal: number | null;
}

/** Ratios, for milliseconds say more about the machine than about us. */
export async function startUp(cli: string, rounds: number, documents: Documents): Promise<StartUp[]> {
  const root = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  try {
    const cases: Case[] = [
      { name: "--version", args: ["--version"], folder: root, goal: 1.4 },
      { name: "--help", args: ["--help"], folder: root, goal: 1.75 },
      { name: "status, 10 secrets", args: ["status"], folder: await project(root, 10, 10, documents), goal: 3.5 },
      { name: "status, 1,000 secrets", args: ["status"], folder: await project(root, 1000, 10, documents), goal: 8 },
      {
        name: "status, 1,000 secrets, all in flight",
        args: ["status"],
        folder: await project(root, 1000, 1, documents),
        goal: null,
      },
    ];
    const bare = ["-e", "0"];
    const times = cases.map(() => ({ own: [] as number[], ratio: [] as number[] }));
    for (const { args, folder } of cases) timed([cli, ...args], folder);
    for (let round = 0; round < rounds; round += 1) {
      const base = timed(bare, root);
      for (const [at, { args, folder }] of cases.entries()) {
        const ms = timed([cli, ...args], folder);
        times[at]?.own.push(ms);
        times[at]?.ratio.push(ms / base);
      }
    }
    return cases.map(({ name, goal }, at) => ({
      name,
      ms: median(times[at]?.own ?? []),
      ratio: median(times[at]?.ratio ?? []),
      goal,
    }));
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function timed(args: readonly string[], cwd: string): number {
  const started = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { cwd, env: { ...process.env, TOKEN: "t" } });
  const ms = performance.now() - started;
  if (status !== 0) throw new Error(`${args.join(" ")} exited with ${status}: ${stderr.toString()}`);
  return ms;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** A folder with a policy of so many secrets, all of them in the state, one in `every` in its overlap. */
async function project(root: string, secrets: number, every: number, documents: Documents): Promise<string> {
  const folder = join(root, `${secrets}-${every}`);
  mkdirSync(folder);
  const names = Array.from({ length: secrets }, (_, at) => `secret-${at}`);
  const entries = names.map((name) => {
    const issuer = `{ type: api-keys, url: "http://127.0.0.1:9", client: ${name}, adminToken: "\${env:TOKEN}" }`;
    return `  ${name}:\n    issuer: ${issuer}\n    stores: [{ type: local }]\n`;
  });
  writeFileSync(join(folder, "rotation.config.yaml"), `version: 1\nsecrets:\n${entries.join("")}`);
  const state = openBenchState(folder);
  for (const [at, name] of names.entries()) {
    const document = at % every === 0 ? documents.overlapping : documents.idle;
    await state.save(name, { ...document, name }, null);
  }
  await state.close();
  return folder;
}
