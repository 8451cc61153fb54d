import { spawnSync } from "node:child_process";

const NAMED = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"'] as const;
const [program, ...args] = NAMED;
const canName = spawnSync(program, [...args, "of-the-test", "true"]).status === 0;

/**
 * The program that starts another as if on a machine of that name, so that nobody can see whether its process lives;
 * nothing where this is not allowed.
 */
export function machine(name: string): readonly string[] {
  return canName ? [...NAMED, name] : [];
}
