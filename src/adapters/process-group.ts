import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Duration } from "../core/duration.ts";

const POLL: Duration = 25;

/**
 * Ends the whole group of a child that was started `detached`, not only its leader: what it started must not go on
 * deploying after the run has gone. SIGTERM first.
 *
 * @param ended settles when the leader has exited
 * @param grace until SIGKILL
 */
export async function endGroup(child: ChildProcess, ended: Promise<unknown>, grace: Duration): Promise<void> {
  let alive = signalGroup(child, "SIGTERM");
  for (let waited = 0; alive && waited < grace; waited += POLL) {
    await sleep(POLL);
    alive = signalGroup(child, 0);
  }
  if (alive) signalGroup(child, "SIGKILL");
  await ended;
}

/** @returns whether a process of the group was there to be signalled. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals | 0): boolean {
  try {
    return child.pid !== undefined && process.kill(-child.pid, signal);
  } catch {
    return false;
  }
}
