import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SecretState } from "../src/core/model.ts";
import { openBenchState } from "./state.ts";

/** Durable saves of one document per second, each on top of the one before, as a rotation makes them. */
export async function commits(document: SecretState, count: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  const state = openBenchState(folder);
  try {
    let revision: string | null = null;
    const began = performance.now();
    for (let at = 0; at < count; at += 1) {
      const saved = await state.save(document.name, { ...document, commitId: String(at), seq: at }, revision);
      if (saved.result !== "saved") throw new Error(`save ${at}: ${saved.result}`);
      revision = saved.revision;
    }
    return (1000 * count) / (performance.now() - began);
  } finally {
    await state.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
