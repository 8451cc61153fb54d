import { setTimeout as sleep } from "node:timers/promises";
import type { Issue } from "../config/issues.ts";
import { resolveReferences } from "../config/references.ts";
import { ProviderError, UserError } from "../core/errors.ts";
import type { AdapterDeps, Discovery, StoreAdapter } from "../ports/adapter.ts";
import { outside } from "../ports/context.ts";
import type { Catalogue, World } from "../wire.ts";

/** What one type of adapter saw when it looked round. */
export interface Look {
  readonly kind: "issuer" | "store";
  readonly type: string;
  /** null: nothing could be looked at. */
  readonly seen: Discovery | null;
  /** For people: who answered and how much there is, or why nobody did. */
  readonly told: string;
}

const LONGEST = 3_000;

function depsOf(folder: string, world: World): AdapterDeps {
  return { ...world, folder, sleep: async (ms, over) => void (await sleep(ms, null, { signal: over })) };
}

/** Lets every type that can look round, all at once and for three seconds at the most. Changes nothing. */
export async function lookRound(all: Catalogue, folder: string, world: World, signal: AbortSignal): Promise<Look[]> {
  const deps = depsOf(folder, world);
  const kinds = (["issuer", "store"] as const).flatMap((kind) => [...all[kind].values()].map((one) => ({ kind, one })));
  const looks = kinds.flatMap(({ kind, one: { type, discover } }) =>
    discover === undefined
      ? []
      : [
          bounded((over) => discover(deps, outside(over)), signal).then(
            (seen) => ({ kind, type, seen, told: toldOf(seen) }),
            (error: unknown) => ({ kind, type, seen: null, told: ProviderError.from(error).message }),
          ),
        ],
  );
  return Promise.all(looks);
}

/** Where a delivery would go, its references unresolved. */
export interface Target {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly delivery: Readonly<Record<string, unknown>>;
}

/** Names that stand there already, as far as they can be read with what is at hand; at most three seconds. */
export async function namesAt(
  adapter: StoreAdapter,
  target: Target,
  folder: string,
  world: World,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const missing: Issue[] = [];
  const resolved = resolveReferences(target, [], { env: world.env, folder }, missing);
  const [settings, delivery] = [
    adapter.settings.safeParse(resolved.settings),
    adapter.delivery.safeParse(resolved.delivery),
  ];
  if (missing.length > 0 || !settings.success || !delivery.success) return [];
  try {
    const place = { secret: "new", fields: {}, mirror: true };
    const store = adapter.create(settings.data, delivery.data, place, depsOf(folder, world));
    return await bounded(async (over) => (await store.others?.(outside(over))) ?? [], signal);
  } catch (error) {
    if (error instanceof ProviderError || error instanceof UserError) return [];
    throw error;
  }
}

async function bounded<T>(look: (over: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  const over = new AbortController();
  const end = () => over.abort();
  const timer = setTimeout(end, LONGEST);
  signal.addEventListener("abort", end, { once: true });
  const late = new Promise<never>((_, reject) => {
    const message = `no answer within ${LONGEST / 1000} s`;
    over.signal.addEventListener("abort", () => reject(new ProviderError("unavailable", "no", message)));
  });
  try {
    return await Promise.race([late, look(over.signal)]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

const MOST_NAMES = 3;

function toldOf({ where, found }: Discovery): string {
  const names = found.slice(0, MOST_NAMES).map(({ label }) => label);
  const more = found.length > names.length ? ` and ${found.length - names.length} more` : "";
  return `${where}: ${names.length === 0 ? "nothing found" : names.join(", ") + more}`;
}
