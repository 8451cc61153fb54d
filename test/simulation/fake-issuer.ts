import { ProviderError } from "../../src/core/errors.ts";
import type { Description, KeyId, Listing } from "../../src/core/observed.ts";
import type { IssuerTraits } from "../../src/core/rules.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import type { Process } from "./process.ts";
import { EPOCH } from "./process.ts";
import { ask, change } from "./provider.ts";
import { CANARY } from "./names.ts";
import type { World } from "./world.ts";

export interface IssuerSpec extends IssuerTraits {
  /** Its clock against true time. */
  readonly skew: number;
  /** Inside the propagation, answers alternate instead of turning once. */
  readonly alternating: boolean;
}

export interface Use {
  readonly at: number;
  readonly who: string;
  readonly ok: boolean;
  readonly own: boolean;
}

/** A key as it really is. */
export interface TruthKey {
  readonly id: KeyId;
  readonly value: SecretValue;
  readonly owner: "ours" | "stranger";
  readonly label: string | null;
  readonly rotation: string | null;
  readonly createdAt: number;
  /** Missing from listings until then. */
  readonly listedFrom: number;
  enabled: boolean;
  deletedAt: number | null;
  /** The last change of whether it is accepted, and when everybody knows of it. */
  changedAt: number;
  settledAt: number;
  /** Somebody switched it off at the console: no doing of ours. */
  byHand?: boolean;
  disabledFirstAt: number | null;
  readonly uses: Use[];
}

export class IssuerTruth {
  readonly keys = new Map<KeyId, TruthKey>();
  readonly #byMaterial = new Map<string, TruthKey>();
  /** Since when every slot has been taken; null: one is free. */
  fullSince: number | null = null;

  constructor(
    readonly world: World,
    readonly spec: IssuerSpec,
  ) {}

  clock(): number {
    return EPOCH + this.world.now + this.spec.skew;
  }

  alive(): TruthKey[] {
    return [...this.keys.values()].filter((k) => k.deletedAt === null);
  }

  /** The very first key is older than time: everybody knows of it. */
  create(owner: TruthKey["owner"], label: string | null, rotation: string | null): TruthKey {
    const { world, spec } = this;
    if (this.alive().length >= spec.maxKeys) throw new ProviderError("quota", "no", "no more keys");
    const id = `K${this.keys.size + 1}${world.random.hex(2)}`;
    const value = SecretValue.of({ id, secret: `${CANARY}-${id}-${world.random.hex(4)}` });
    const { now } = world;
    const key: TruthKey = {
      id,
      value,
      owner,
      label,
      rotation,
      createdAt: now,
      listedFrom: now === 0 ? 0 : now + world.random.skewed(spec.timing.listSettle),
      enabled: true,
      deletedAt: null,
      changedAt: now,
      settledAt: now === 0 ? 0 : now + world.random.skewed(spec.timing.propagation),
      disabledFirstAt: null,
      uses: [],
    };
    this.keys.set(id, key);
    this.#byMaterial.set(value.reveal()["secret"] as string, key);
    this.#slots();
    return key;
  }

  of(value: SecretValue): TruthKey | null {
    return this.#byMaterial.get(value.reveal()["secret"] ?? "") ?? null;
  }

  /** The settled truth, whoever has heard of it. */
  accepts(key: TruthKey): boolean {
    return key.enabled && key.deletedAt === null;
  }

  /** What one request with this key is answered: for a while after a change it may be the old truth. */
  answers(key: TruthKey): boolean {
    const { now, random } = this.world;
    const truth = this.accepts(key);
    if (now >= key.settledAt) return truth;
    return this.spec.alternating && random.chance(0.5) ? truth : !truth;
  }

  /** Somebody uses a key for real. */
  use(key: TruthKey, who: string, own = false): boolean {
    const ok = this.answers(key);
    key.uses.push({ at: this.world.now, who, ok, own });
    return ok;
  }

  turn(key: TruthKey, enabled: boolean): void {
    if (key.deletedAt !== null || key.enabled === enabled) return;
    key.enabled = enabled;
    if (!enabled) key.disabledFirstAt = this.world.now;
    this.#changed(key);
  }

  remove(key: TruthKey): void {
    if (key.deletedAt !== null) return;
    const accepted = key.enabled;
    key.deletedAt = this.world.now;
    if (accepted) this.#changed(key);
    this.#slots();
  }

  #changed(key: TruthKey): void {
    key.changedAt = this.world.now;
    key.settledAt = this.world.now + this.world.random.skewed(this.spec.timing.propagation);
  }

  #slots(): void {
    const full = this.alive().length >= this.spec.maxKeys;
    this.fullSince = full ? (this.fullSince ?? this.world.now) : null;
  }

  listing(): Listing {
    const { now, random } = this.world;
    const { timeGranularity: grain, propagation } = this.spec.timing;
    const asOf = this.clock();
    const keys = [...this.keys.values()]
      .filter((k) =>
        k.deletedAt === null ? now >= k.listedFrom : now < k.deletedAt + propagation && random.chance(0.3),
      )
      .map((k) => {
        const created = EPOCH + k.createdAt + this.spec.skew;
        const enabled =
          now < k.settledAt && k.deletedAt === null && random.chance(0.5) && k.changedAt !== k.createdAt
            ? !k.enabled
            : k.enabled;
        return {
          keyId: k.id,
          createdAt: grain > 0 ? Math.floor(created / grain) * grain : created,
          state: enabled ? ("enabled" as const) : ("disabled" as const),
          ...(this.spec.labels && k.label !== null ? { label: k.label } : {}),
        };
      });
    return { keys, asOf };
  }
}

/** One process's connection to the issuer. */
export class FakeIssuer implements Issuer {
  readonly traits: IssuerTraits;

  constructor(
    readonly world: World,
    readonly process: Process,
  ) {
    const { maxKeys, valueFrom, canDisable, labels, issueIdempotent, timing } = world.issuer.spec;
    this.traits = { maxKeys, valueFrom, canDisable, labels, issueIdempotent, timing };
  }

  describe(ctx: Ctx): Promise<Description> {
    return ask(this.world, this.process, ctx, "describe", () =>
      this.world.invariants.wrongIdentity()
        ? {
            binding: "issuer:other",
            findings: [{ reason: "identity-mismatch", blocks: true, message: "another account" }],
          }
        : { binding: "issuer:main", findings: [] },
    );
  }

  list(ctx: Ctx): Promise<Listing> {
    return ask(this.world, this.process, ctx, "list", () => this.world.issuer.listing());
  }

  issue(
    label: string,
    _chosen: SecretValue | null,
    ctx: Ctx,
  ): Promise<{ keyId: KeyId; value: SecretValue; createdAt: number }> {
    const truth = this.world.issuer;
    const { rotationId } = ctx;
    return change(
      this.world,
      this.process,
      ctx,
      { effect: "issue", object: label, version: label, settle: this.traits.timing.settle },
      () => {
        const again = this.traits.issueIdempotent ? truth.alive().find((k) => k.label === label) : undefined;
        if (!again) this.world.invariants.issuing(label, rotationId);
        const key = again ?? truth.create("ours", label, rotationId);
        const grain = this.traits.timing.timeGranularity;
        const created = EPOCH + key.createdAt + truth.spec.skew;
        return {
          keyId: key.id,
          value: key.value,
          createdAt: grain > 0 ? Math.floor(created / grain) * grain : created,
        };
      },
    );
  }

  async verify(value: SecretValue, ctx: Ctx): Promise<"accepted" | "rejected"> {
    const truth = this.world.issuer;
    const key = truth.of(value);
    // The use may be on record although its answer is lost.
    if (key !== null && this.process.random.chance(0.05)) truth.use(key, "keyturn", true);
    return ask(this.world, this.process, ctx, "verify", () =>
      key !== null && truth.use(key, "keyturn", true) ? "accepted" : "rejected",
    );
  }

  disable(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#turn("disable", keyId, ctx, (key) => {
      if (!this.traits.canDisable) throw new ProviderError("invalid", "no", "keys cannot be disabled here");
      if (key === undefined || !key.enabled) return;
      this.world.issuer.turn(key, false);
    });
  }

  enable(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#turn("enable", keyId, ctx, (key) => {
      if (key === undefined) throw new ProviderError("not-found", "no", "no such key");
      this.world.issuer.turn(key, true);
    });
  }

  delete(keyId: KeyId, ctx: Ctx): Promise<void> {
    // Now and then an issuer says yes and forgets: the listing is the proof, not the answer.
    const forgets = !this.world.calm && this.process.random.chance(0.03);
    return this.#turn("delete", keyId, ctx, (key) => !forgets && key && this.world.issuer.remove(key));
  }

  async identify(value: SecretValue, ctx: Ctx): Promise<KeyId | null> {
    return ask(this.world, this.process, ctx, "identify", () => this.world.issuer.of(value)?.id ?? null);
  }

  #turn(
    effect: "disable" | "enable" | "delete",
    keyId: KeyId,
    ctx: Ctx,
    apply: (key: TruthKey | undefined) => void,
  ): Promise<void> {
    const { world } = this;
    const key = world.issuer.keys.get(keyId);
    const intended = world.intents.get(this.process.id);
    return change(
      world,
      this.process,
      ctx,
      { effect, object: keyId, version: world.invariants.versionOf(keyId), settle: this.traits.timing.settle },
      () => {
        const living = key !== undefined && key.deletedAt === null ? key : undefined;
        const alters = living !== undefined && (effect === "delete" || living.enabled !== (effect === "enable"));
        const before = living?.disabledFirstAt ?? null;
        apply(living);
        if (alters && (effect !== "delete" || living?.deletedAt !== null) && living !== undefined)
          world.invariants.turned(effect, living, before, intended);
        else if (world.violation === null) world.invariants.served();
      },
    );
  }
}
