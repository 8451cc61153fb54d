import { spawnSync } from "node:child_process";

const canName = spawnSync("unshare", ["--uts", "hostname", "of-the-test"]).status === 0;

/**
 * The program that starts another as if on a machine of that name, so that nobody can see whether its process lives;
 * nothing where this is not allowed.
 */
export function machines(name: string): readonly string[] {
  return canName ? ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name] : [];
}
