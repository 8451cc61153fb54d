import type { Description, Ref } from "../core/observed.ts";
import type { StoreTraits } from "../core/rules.ts";
import type { SecretValue } from "../core/secret-value.ts";
import type { Ctx, Permission } from "./context.ts";

export type { Ref } from "../core/observed.ts";
export type { StoreTraits } from "../core/rules.ts";

export interface Served {
  readonly ref: Ref;
  /** Our fields only, under the issuer's names. */
  readonly value: SecretValue;
  /** Replicas that do not have it yet, by name. */
  readonly lagging?: readonly string[];
}

/**
 * ONE delivery: one secret in one store. Values go in and come out under the issuer's field names.
 * What is not ours (sibling fields, tags, comments, mode) stays as it is.
 *
 * Failures are `ProviderError`s; `conflict` with applied `no` where the compare-and-set refused.
 */
export interface Store {
  readonly traits: StoreTraits;
  /** Equal for deliveries that write the same object (one JSON secret, one file): the engine serialises them. */
  readonly objectKey: string;
  describe(ctx: Ctx): Promise<Description>;
  /** The least that this delivery has to be allowed, from the check to the discard. */
  permissions?(): readonly Permission[];
  /** The provider's regions that it is read from, replicas included, where it has such. */
  regions?(ctx: Ctx): Promise<readonly string[]>;
  /** Names that stand there beside ours, in any order; none of their values. Missing: the object is ours alone. */
  others?(ctx: Ctx): Promise<readonly string[]>;
  /** What consumers get. null: proven absent. Only for proof `value`; others throw `invalid`. */
  current(ctx: Ctx): Promise<Served | null>;
  /**
   * Makes `value` what consumers get. `expected` is the ref it replaces (null: nothing there), compared by the
   * store where it can. A staged store promotes the staged `version`. With `fresh` a new revision is written
   * even when the value is already served, so that older writes still under way lose their compare-and-set.
   */
  put(version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh?: boolean): Promise<Ref>;
  /** For proof `digest`: compares without reading back. */
  check?(value: SecretValue, ref: Ref | null, ctx: Ctx): Promise<"same" | "changed" | "cannot-tell">;
}

/** A store that can hold versions no consumer sees yet. */
export interface StagedStore extends Store {
  /** Create-only: the same version again with the same value is success, with another is `conflict`. */
  stage(version: string, value: SecretValue, ctx: Ctx): Promise<void>;
  /** The value held for a version, served or not. null: proven absent. */
  read(version: string, ctx: Ctx): Promise<SecretValue | null>;
  /** Removes a version that is not served. Absent is success; the served one is refused with `invalid`. */
  discard(version: string, ctx: Ctx): Promise<void>;
}

export function isStaged(store: Store): store is StagedStore {
  return store.traits.staged;
}
