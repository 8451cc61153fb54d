import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { buildSync } from "esbuild";
import { afterAll, afterEach } from "vitest";
import type { AdapterDeps } from "../../src/ports/adapter.ts";

/** Folders that go away after each test of the file. */
export function tempFolders(): () => string {
  const made: string[] = [];
  afterEach(() => {
    for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true });
  });
  return () => {
    const folder = mkdtempSync(join(realpathSync(tmpdir()), "keyturn-files-"));
    made.push(folder);
    return folder;
  };
}

export interface TestDeps extends AdapterDeps {
  readonly announced: string[];
}

export function depsIn(folder: string, more: Partial<AdapterDeps> = {}): TestDeps {
  const announced: string[] = [];
  return {
    folder,
    env: {},
    now: Date.now,
    sleep: (ms, signal) => wait(ms, undefined, signal ? { signal } : {}),
    debug: () => {},
    announce: (line) => announced.push(line),
    announced,
    ...more,
  };
}

/**
 * Whether a test that needs more of the machine can run. Where it cannot, says so in one line; with
 * KEYTURN_REQUIRE_LIVE=1 that is a failure.
 */
export function live(what: string, possible: boolean): boolean {
  if (possible) return true;
  if (process.env["KEYTURN_REQUIRE_LIVE"] === "1") throw new Error(`this test needs ${what}`);
  console.log(`not run: ${what} is needed`);
  return false;
}

export const isRoot = process.getuid?.() === 0;

/** Runs `body` as a user whom file permissions bind. */
export async function unprivileged<T>(body: () => Promise<T>): Promise<T> {
  if (!isRoot) return body();
  process.seteuid?.(65534);
  try {
    return await body();
  } finally {
    process.seteuid?.(0);
  }
}

/** Runs `body` with a file system of so many KiB at `folder`. */
export async function onSmallDisk(folder: string, kib: number, body: () => Promise<void>): Promise<void> {
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${kib}k`, "tmpfs", folder]);
  try {
    await body();
  } finally {
    execFileSync("umount", ["-l", folder]);
  }
}

/** Whether this user may mount. */
export function canMount(folder: string): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], { stdio: "ignore" });
    execFileSync("umount", ["-l", folder], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const built: string[] = [];
afterAll(() => {
  for (const file of built.splice(0)) rmSync(file, { force: true });
});

/** Bundles TypeScript text whose imports are relative to this folder into a script that `node` runs. */
export function script(source: string): string {
  const outfile = join(
    import.meta.dirname,
    "..",
    "..",
    "node_modules",
    `.keyturn-test-${process.pid}-${built.length}.mjs`,
  );
  built.push(outfile);
  buildSync({
    stdin: { contents: source, resolveDir: import.meta.dirname, loader: "ts" },
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
  });
  return outfile;
}

/** Starts the script, kills it `after` ms from its first output, and waits until it is gone. */
export async function runAndKill(file: string, args: readonly string[], after: number): Promise<void> {
  const child = spawn(process.execPath, [file, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await Promise.race([new Promise((resolve) => child.stdout.once("data", resolve)), gone]);
  await wait(after);
  child.kill("SIGKILL");
  await gone;
}

/** Runs the script to its end. @returns what it wrote to stdout */
export async function run(file: string, args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [file, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(`the script ended with ${String(code)}: ${text}`);
  return text;
}
