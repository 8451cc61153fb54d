import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import { startTestAuthority, type TestAuthority } from "./authority.ts";
import { CommandLine } from "./command-line.ts";
import { postgresPrograms, startPostgres, type Postgres } from "./postgres.ts";
import { WorkerFleet } from "./workers.ts";

export const hasPostgres = postgresPrograms() !== null;
/** No key to begin with. */
export const NONE: ReadonlyMap<string, string> = new Map();

/** What the tests of one file share; there once they have begun. */
export interface Ground {
  authority: TestAuthority;
  commands: CommandLine;
  postgres: Postgres;
}

export function useGround(): Ground {
  const ground = {} as Ground;
  beforeAll(async () => {
    if (!hasPostgres) return;
    ground.authority = await startTestAuthority();
    ground.commands = new CommandLine();
    ground.postgres = await startPostgres();
  }, 120_000);
  afterAll(async () => {
    ground.commands?.remove();
    await ground.authority?.close();
    await ground.postgres?.stop();
  });
  return ground;
}

/** Until the test ends: its workers hold connections, of which the server has forty. */
export async function fleetOf(size: number, prefix: string, ground: Ground): Promise<WorkerFleet> {
  const fleet = await WorkerFleet.of(size, prefix, ground.authority, ground.commands, ground.postgres);
  onTestFinished(() => fleet.close());
  return fleet;
}

export async function until(holds: () => boolean | Promise<boolean>, what: string, within = 20_000): Promise<void> {
  for (const began = Date.now(); !(await holds()); await sleep(50))
    if (Date.now() - began > within) throw new Error(`not within ${within / 1000} s: ${what}`);
}
