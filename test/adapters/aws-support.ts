import type { AdapterDeps } from "../../src/ports/adapter.ts";

/** An adapter's world in which AWS is where `env` says. */
export function depsOf(env: Readonly<Record<string, string>>, said: string[] = []): AdapterDeps {
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  const say = (line: string): void => void said.push(line);
  return { folder: "/", env: { ...env }, now: Date.now, sleep, debug: say, announce: say };
}
