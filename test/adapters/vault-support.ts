import { setTimeout as sleep } from "node:timers/promises";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { Bao } from "../support/openbao.ts";

/** What an adapter gets, with an environment of nothing but what is given. */
export function depsOf(env: Readonly<Record<string, string>>, more: Partial<AdapterDeps> = {}): AdapterDeps {
  return {
    folder: "/nonexistent",
    env: { HOME: "/nonexistent", ...env },
    now: Date.now,
    sleep: async (ms, signal) => void (await sleep(ms, undefined, signal && { signal })),
    debug: () => {},
    announce: () => {},
    ...more,
  };
}

export function rootOf(bao: Bao, more: Partial<AdapterDeps> = {}): AdapterDeps {
  return depsOf({ VAULT_ADDR: bao.address, VAULT_TOKEN: bao.rootToken }, more);
}
