import { ProviderError } from "../../src/core/errors.ts";
import type { Description, Ref } from "../../src/core/observed.ts";
import type { StoreTraits } from "../../src/core/rules.ts";
import type { SecretValue } from "../../src/core/secret-value.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { Served, StagedStore, Store } from "../../src/ports/store.ts";
import type { Process } from "./process.ts";
import { ask, change } from "./provider.ts";
import type { World } from "./world.ts";

export interface StoreSpec {
  readonly id: string;
  readonly traits: StoreTraits;
  /** Refuses a write whose expected revision is not the served one. */
  readonly compares: boolean;
  /** How long a replica may stay behind, longer than the propagation, and say so; 0: there is none. */
  readonly replica: number;
}

interface Held {
  readonly ref: Ref;
  readonly value: SecretValue;
}

/** What a store really holds, and what its readers may still get. */
export class StoreTruth {
  readonly staged = new Map<string, SecretValue>();
  held: Held | null = null;
  /** Values that were replaced and that some reader may still be given. */
  fading: { readonly held: Held | null; readonly until: number; readonly replica: boolean }[] = [];
  /** A field that is not ours, in the same object. */
  sibling = 0;
  damagedAt = -Infinity;
  /** Value → the last moment at which some reader might get it, where it is served no more. */
  readonly lastServable = new Map<SecretValue, number>();
  #refs = 0;

  constructor(
    readonly world: World,
    readonly spec: StoreSpec,
  ) {}

  write(given: SecretValue): Ref {
    const { world, spec } = this;
    const value = world.issuer.of(given)?.value ?? given;
    const { now, random } = world;
    const { propagation } = spec.traits.timing;
    if (this.held !== null) {
      const until = now + random.between(0, propagation);
      const behind = now + random.between(0, spec.replica);
      if (propagation > 0) this.fading.push({ held: this.held, until, replica: false });
      if (spec.replica > 0) this.fading.push({ held: this.held, until: behind, replica: true });
      this.lastServable.set(this.held.value, Math.max(until, behind));
    }
    this.held = { ref: this.#next(), value };
    return this.held.ref;
  }

  /** Somebody writes a sibling field: the revision moves, our fields stay. */
  touch(): void {
    this.sibling++;
    if (this.held !== null) this.held = { ref: this.#next(), value: this.held.value };
  }

  /** Every value that some reader may be given at this moment. */
  servable(): SecretValue[] {
    this.fading = this.fading.filter((f) => f.until > this.world.now);
    const all = new Set<SecretValue>();
    if (this.held !== null) all.add(this.held.value);
    for (const f of this.fading) if (f.held !== null) all.add(f.held.value);
    return [...all];
  }

  /** What one reader is given. */
  read(replica: boolean): Held | null {
    this.fading = this.fading.filter((f) => f.until > this.world.now);
    const visible = this.fading.filter((f) => replica || !f.replica);
    if (visible.length === 0 || this.world.random.chance(0.5)) return this.held;
    return (visible[this.world.random.between(0, visible.length - 1)] as (typeof visible)[number]).held;
  }

  lagging(): string[] {
    return this.fading.some((f) => f.replica && f.until > this.world.now) ? ["eu"] : [];
  }

  #next(): Ref {
    return `r${++this.#refs}`;
  }
}

/** Never the same twice, so that it stands in no schedule's fingerprint. */
let connections = 0;

/** One process's connection to one store. */
export class FakeStore implements StagedStore {
  readonly traits: StoreTraits;
  readonly objectKey: string;

  constructor(
    readonly world: World,
    readonly process: Process,
    readonly truth: StoreTruth,
  ) {
    this.traits = truth.spec.traits;
    // Serialising is done within a process; all simulated ones live in this one.
    this.objectKey = `${++connections}/${truth.spec.id}`;
  }

  describe(ctx: Ctx): Promise<Description> {
    return ask(this.world, this.process, ctx, `describe ${this.truth.spec.id}`, () => ({
      binding: `store:${this.truth.spec.id}`,
      findings: [],
    }));
  }

  current(ctx: Ctx): Promise<Served | null> {
    return ask(this.world, this.process, ctx, `current ${this.truth.spec.id}`, () => {
      if (this.traits.proof !== "value") throw new ProviderError("invalid", "no", "cannot be read");
      const lagging = this.truth.lagging();
      const held = this.truth.read(false);
      return held === null ? null : { ref: held.ref, value: held.value, ...(lagging.length > 0 ? { lagging } : {}) };
    });
  }

  async put(version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    const { world, truth } = this;
    const effect = this.traits.staged ? "promote" : "put";
    const intended = world.intents.get(this.process.id);
    return change(
      world,
      this.process,
      ctx,
      { effect, object: truth.spec.id, version, settle: this.traits.timing.settle },
      () => {
        const { held } = truth;
        if (held !== null && !fresh && held.value.equals(value)) return held.ref;
        if (truth.spec.compares && (held?.ref ?? null) !== expected)
          throw new ProviderError("conflict", "no", "somebody else wrote");
        const same = held !== null && held.value.equals(value);
        const ref = truth.write(value);
        if (!same) world.invariants.wrote(truth, value, held?.value ?? null, intended);
        world.invariants.served();
        return ref;
      },
    );
  }

  check(value: SecretValue, _ref: Ref | null, ctx: Ctx): Promise<"same" | "changed" | "cannot-tell"> {
    return ask(this.world, this.process, ctx, `check ${this.truth.spec.id}`, () => {
      if (this.traits.proof !== "digest") return "cannot-tell";
      return this.truth.read(false)?.value.equals(value) ? "same" : "changed";
    });
  }

  stage(version: string, value: SecretValue, ctx: Ctx): Promise<void> {
    const { truth, world } = this;
    return change(
      world,
      this.process,
      ctx,
      { effect: "stage", object: truth.spec.id, version, settle: this.traits.timing.settle },
      () => {
        const there = truth.staged.get(version);
        if (there !== undefined && !there.equals(value))
          throw new ProviderError("conflict", "no", "another value is there");
        truth.staged.set(version, value);
      },
    );
  }

  read(version: string, ctx: Ctx): Promise<SecretValue | null> {
    return ask(this.world, this.process, ctx, `read ${version}`, () => this.truth.staged.get(version) ?? null);
  }

  discard(version: string, ctx: Ctx): Promise<void> {
    const { truth, world } = this;
    return change(
      world,
      this.process,
      ctx,
      { effect: "discard", object: truth.spec.id, version, settle: this.traits.timing.settle },
      () => {
        const there = truth.staged.get(version);
        if (there !== undefined && truth.held?.value.equals(there))
          throw new ProviderError("invalid", "no", "it is served");
        truth.staged.delete(version);
      },
    );
  }
}

/** A mirror has none of the methods of a staged store. */
export function mirrorOf(store: FakeStore): Store {
  return {
    traits: store.traits,
    objectKey: store.objectKey,
    describe: (ctx) => store.describe(ctx),
    current: (ctx) => store.current(ctx),
    put: (version, value, expected, ctx, fresh) => store.put(version, value, expected, ctx, fresh),
    check: (value, ref, ctx) => store.check(value, ref, ctx),
  };
}
