import type { Description, KeyDates, KeyId, Listing } from "../core/observed.ts";
import type { IssuerTraits } from "../core/rules.ts";
import type { SecretValue } from "../core/secret-value.ts";
import type { Ctx, Permission } from "./context.ts";
import type { UsageMonitor } from "./usage.ts";

export { datesOf } from "../core/observed.ts";
export type { KeyDates, KeyId, Listing, ObservedKey } from "../core/observed.ts";
export type { IssuerTiming, IssuerTraits } from "../core/rules.ts";

/**
 * Makes and kills the keys of ONE credential owner.
 *
 * Failures are `ProviderError`s; a call that may have taken effect says applied `maybe`. Nothing is retried inside.
 */
export interface Issuer {
  readonly traits: IssuerTraits;
  /** Identity, permissions (revoke and restore included) and binding; changes nothing. */
  describe(ctx: Ctx): Promise<Description>;
  /** The least that this owner's rotation has to be allowed, from the check to the delete, restore included. */
  permissions?(): readonly Permission[];
  /** ALL keys of the owner. A partial page throws: an absence is only believed from a complete listing. */
  list(ctx: Ctx): Promise<Listing>;
  /** A new enabled key. `chosen` is the value when `valueFrom` is `caller`, else null. */
  issue(
    label: string,
    chosen: SecretValue | null,
    ctx: Ctx,
  ): Promise<KeyDates & { readonly keyId: KeyId; readonly value: SecretValue }>;
  /** Uses the key once, for real. Throws when it cannot tell. */
  verify(value: SecretValue, ctx: Ctx): Promise<"accepted" | "rejected">;
  /** Already so, or absent, is success. */
  disable(keyId: KeyId, ctx: Ctx): Promise<void>;
  /** Already so is success; absent is `not-found`. */
  enable(keyId: KeyId, ctx: Ctx): Promise<void>;
  /** Absent is success. */
  delete(keyId: KeyId, ctx: Ctx): Promise<void>;
  /** The key id inside or behind a value; null when it is none of the owner's. What `adopt` needs. */
  identify?(value: SecretValue, ctx: Ctx): Promise<KeyId | null>;
  /** Where the issuer itself can say who uses a key. */
  readonly usage?: UsageMonitor;
}
