import type { SecretValue } from "../../src/core/secret-value.ts";
import type { TruthKey } from "./fake-issuer.ts";
import type { World } from "./world.ts";

export interface ConsumerSpec {
  readonly name: string;
  /** What a monitor that names callers calls it. */
  readonly instance: string;
  readonly store: string;
  /** It reads a replica of the store where there is one. */
  readonly replica: boolean;
  /** Shortest and longest time between two uses. */
  readonly gap: readonly [number, number];
  /** Uses in a row, seconds apart, before the next gap. */
  readonly burst: number;
  /** It keeps what it has read for so long. */
  readonly cache: number;
  /** Keeps the old value until so long after it could have read the new one; 0: it reads for itself. */
  readonly pinned: number;
  /** It does what the policy says of it: then it is never refused. */
  readonly within: boolean;
}

/** Somebody who reads a store and uses what it found there. */
export class Consumer {
  held: SecretValue | null = null;
  #readAt = 0;
  #nextAt = 0;
  #movesAt: number | null = null;
  #left = 0;
  /** A person has vouched for it wrongly: nothing is promised to it any more. */
  misled = false;

  constructor(
    readonly world: World,
    readonly spec: ConsumerSpec,
  ) {
    this.#schedule(world.random.between(0, spec.gap[0]));
  }

  /** Whether its next use will be of this key. */
  wouldUse(key: TruthKey): boolean {
    if (this.held === null || this.world.issuer.of(this.held) !== key) return false;
    if (this.spec.pinned > 0) return this.#movesAt === null || this.#nextAt < this.#movesAt;
    return this.#nextAt < this.#readAt + this.spec.cache;
  }

  #schedule(ms: number): void {
    this.#nextAt = this.world.now + ms;
    this.world.scheduler.at(this.#nextAt, () => this.#use());
  }

  #use(): void {
    const { world, spec } = this;
    const store = world.stores.get(spec.store);
    if (!store) return;
    if (spec.pinned > 0 && this.held !== null) {
      if (this.#movesAt === null && store.held !== null && store.held.value !== this.held)
        this.#movesAt = world.now + spec.pinned;
      if (this.#movesAt !== null && world.now >= this.#movesAt) this.#read();
    } else if (this.held === null || world.now >= this.#readAt + spec.cache) this.#read();
    const key = this.held === null ? null : world.issuer.of(this.held);
    let refused = false;
    if (key !== null) {
      refused = !world.issuer.use(key, spec.instance);
      if (refused) world.invariants.refused(this, key);
    }
    if (refused) this.held = null;
    if (this.#left > 0) {
      this.#left--;
      return this.#schedule(world.random.between(500, 3000));
    }
    this.#left = spec.burst;
    this.#schedule(refused ? Math.min(5000, spec.gap[0]) : world.random.between(spec.gap[0], spec.gap[1]));
  }

  #read(): void {
    const value = this.world.stores.get(this.spec.store)?.read(this.spec.replica)?.value ?? null;
    if (value !== this.held)
      this.world.say(
        this.spec.instance,
        () => `now holds ${value === null ? "nothing" : (this.world.issuer.of(value)?.id ?? "a foreign value")}`,
      );
    this.held = value;
    this.#readAt = this.world.now;
    this.#movesAt = null;
  }
}

/** Whoever has a leaked key uses it, and tries keys that are switched off, until the world grows calm. */
export function attack(world: World): void {
  const strike = (): void => {
    if (world.calm) return;
    for (const key of world.issuer.alive()) {
      const leaked = world.invariants.leaked.has(world.invariants.versionOf(key.id) ?? "");
      const seen = [...world.stores.values()].some((s) => s.lastServable.has(key.value));
      if (key.owner === "ours" && (leaked || (seen && !key.enabled))) world.issuer.use(key, "attacker");
    }
    world.scheduler.after(world.random.between(20_000, 180_000), strike);
  };
  world.scheduler.after(world.random.between(0, 180_000), strike);
}

/** Somebody else's key under the same owner, made, used and taken away without asking us. */
export function stranger(world: World, uses: boolean): void {
  if (world.calm || world.issuer.alive().length >= world.issuer.spec.maxKeys) return;
  const key = world.issuer.create("stranger", null, null);
  world.say("stranger", () => `makes ${key.id}${uses ? " and uses it" : ""}`);
  const use = (): void => {
    if (key.deletedAt !== null || world.calm) return;
    world.issuer.use(key, "stranger-app");
    world.scheduler.after(world.random.between(5000, 120_000), use);
  };
  if (uses) world.scheduler.after(world.random.between(0, 20_000), use);
}
