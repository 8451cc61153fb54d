import type { Instant, Duration } from "./duration.ts";
import type { KeyId } from "./observed.ts";
import type { VersionId } from "./model.ts";

/**
 * What people say about one secret, at any moment, whoever holds the lease. A word is a commit of its own; a runner
 * that was about to act finds its document moved and decides afresh.
 */
export type Word =
  | { readonly word: "rotate"; readonly repair: boolean }
  | { readonly word: "hold"; readonly reason: string; readonly until: Instant | null }
  | { readonly word: "unhold" }
  | { readonly word: "ack"; readonly kind: "consumer" | "store"; readonly name: string }
  | { readonly word: "rollback" }
  | { readonly word: "revoke"; readonly version: VersionId; readonly compromised: boolean }
  | {
      readonly word: "emergency";
      /** null: every living version counts as leaked. */
      readonly versions: readonly VersionId[] | null;
      readonly grace: Duration;
      readonly revokeFirst: boolean;
      readonly acceptOutage: boolean;
      readonly overrideHold: boolean;
    }
  | { readonly word: "pause"; readonly reason: string }
  | { readonly word: "resume" }
  | { readonly word: "unlock" }
  /** The last one: its document goes. */
  | { readonly word: "forget" }
  | { readonly word: "release"; readonly keyId: KeyId };
