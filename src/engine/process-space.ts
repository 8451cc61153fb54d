import { readFileSync, readlinkSync } from "node:fs";

/**
 * Where a process id means one process: one boot of one machine, seen from one pid namespace. Host names do not tell,
 * for containers and machines share them. null: this system does not say.
 */
export function processSpace(): string | null {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return `${boot} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return null;
  }
}

/** An id for a runner by which others see whether they are in its space; `space` is a digest of that. */
export function runnerId(random: string, space: string | null): string {
  return space === null ? random : `${random}@${space}`;
}

/** The id of one more runner in the process of another. */
export function siblingId(random: string, runner: string): string {
  const at = runner.indexOf("@");
  return at < 0 ? random : random + runner.slice(at);
}

/** Whether a runner's process is certainly dead: it would be seen from here if it lived. */
export function isDeadHere(runner: string, pid: number, space: string | null): boolean {
  return space !== null && runner.endsWith(`@${space}`) && !isRunning(pid);
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, under somebody else.
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
