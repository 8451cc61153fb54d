import { spawnSync } from "node:child_process";

/** Simulated schedules per second on one core, as the simulation itself counts them. */
export function simulate(schedules: number): number {
  const args = ["bin/ts.mjs", "test/simulation/main.ts", "--schedules", String(schedules), "--jobs", "1"];
  const { stdout } = spawnSync(process.execPath, args, { encoding: "utf8" });
  // It stops early where it finds something; that is for the simulation to report, the pace holds all the same.
  const pace = /\((\d+) per core\)/.exec(stdout)?.[1];
  if (pace === undefined) throw new Error("the simulation told no pace");
  return Number(pace);
}
