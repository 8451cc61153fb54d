import { setTimeout as sleep } from "node:timers/promises";
import { SqliteState } from "../src/adapters/state/sqlite.ts";

/** The state where a policy in this folder would have it. */
export function openBenchState(folder: string): SqliteState {
  return new SqliteState(".keyturn/state.db", {
    env: {},
    now: Date.now,
    folder,
    sleep: (ms) => sleep(ms),
    debug: () => {},
    announce: () => {},
  });
}
