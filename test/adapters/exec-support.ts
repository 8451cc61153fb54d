import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { AdapterDeps } from "../../src/ports/adapter.ts";

/** The programs that people are shown. */
export const EXAMPLES = fileURLToPath(new URL("../../examples/exec/", import.meta.url));

/** @param debugged what goes to `--verbose` */
export function depsIn(folder: string, debugged: string[] = []): AdapterDeps {
  return {
    folder,
    env: { PATH: process.env["PATH"] ?? "" },
    now: Date.now,
    sleep: async (ms) => void (await sleep(ms)),
    debug: (line) => void debugged.push(line),
    announce: () => {},
  };
}
