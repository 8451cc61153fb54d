import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** An install that takes longer than this has died, and its lock is nobody's. */
const STALE = 5 * 60_000;

/**
 * A Python environment with exactly these packages, made once per machine and shared by everything that asks for
 * the same pins: two test files at once, CI, the next run. Lies in `${XDG_CACHE_HOME:-~/.cache}/keyturn-test`.
 *
 * @param name what it is for: "moto"
 * @param pins as pip takes them: `moto[server]==5.2.5`
 * @returns its folder of programs
 * @throws where Python or the packages cannot be had
 */
export async function venv(name: string, pins: readonly string[]): Promise<string> {
  const cache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "keyturn-test");
  const digest = createHash("sha256").update(pins.join("\n")).digest("hex").slice(0, 12);
  const folder = join(cache, `${name}-${digest}`);
  const bin = join(folder, "bin");
  const ready = join(folder, "ready");
  const lock = `${folder}.lock`;
  await mkdir(cache, { recursive: true });
  while (!existsSync(ready)) {
    if (!(await taken(lock))) {
      await sleep(200);
      continue;
    }
    try {
      if (existsSync(ready)) break;
      await rm(folder, { recursive: true, force: true });
      await run("python3", ["-m", "venv", folder]);
      await run(join(bin, "pip"), ["install", "--quiet", "--disable-pip-version-check", ...pins]);
      await writeFile(ready, `${pins.join("\n")}\n`);
    } finally {
      await rm(lock, { recursive: true, force: true });
    }
  }
  return bin;
}

/** A folder is made by one process only. */
async function taken(lock: string): Promise<boolean> {
  try {
    await mkdir(lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const made = await stat(lock).catch(() => null);
  if (made !== null && Date.now() - made.mtimeMs > STALE) await rm(lock, { recursive: true, force: true });
  return false;
}
