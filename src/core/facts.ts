import type { ReasonCode } from "./reasons.ts";
import type { EventType } from "./events.ts";
import type { Duration, Instant } from "./duration.ts";
import type {
  DeliveryId,
  Failure,
  Intent,
  Lease,
  Mint,
  Outbox,
  RotationReason,
  Stopped,
  UsageMemory,
  VersionId,
} from "./model.ts";
import type { KeyDates, KeyId, Ref } from "./observed.ts";
import type { Word } from "./words.ts";

/** How an effect ended for its sender. `refused`: it certainly changed nothing. `unknown`: it may have, or may yet. */
export type Closing =
  | {
      readonly how: "done";
      readonly keyId?: KeyId;
      readonly dates?: KeyDates;
      readonly ref?: Ref;
      readonly confirmed?: boolean;
    }
  | { readonly how: "refused" }
  | { readonly how: "unknown"; readonly settle: Duration };

/** Everything that changes a document. `transition` applies them; nothing else does. */
export type Fact =
  | { readonly fact: "leased"; readonly lease: Omit<Lease, "since" | "renewedAt"> }
  | { readonly fact: "renewed"; readonly runner: string }
  | { readonly fact: "released"; readonly runner: string }
  | { readonly fact: "said"; readonly word: Word; readonly by: string; readonly id: string }
  | {
      readonly fact: "begun";
      readonly id: string;
      readonly reason: RotationReason;
      readonly actor: string;
      /** The key ends by itself at this time, before the schedule would have replaced it. Wall clock. */
      readonly expiresAt?: Instant;
    }
  | { readonly fact: "intended"; readonly intent: Intent; readonly mint: Omit<Mint, "absences" | "again"> | null }
  | { readonly fact: "closed"; readonly intent: Intent; readonly closing: Closing }
  | {
      readonly fact: "key-found";
      readonly version: VersionId;
      readonly keyId: KeyId;
      readonly dates: KeyDates;
      readonly inferred: boolean;
    }
  | { readonly fact: "key-absent"; readonly version: VersionId }
  | { readonly fact: "given-up"; readonly version: VersionId; readonly why: string }
  | { readonly fact: "key-state"; readonly version: VersionId; readonly state: "enabled" | "disabled" | "gone" }
  | { readonly fact: "staged-seen"; readonly version: VersionId; readonly present: boolean }
  | {
      readonly fact: "delivery-seen";
      readonly delivery: DeliveryId;
      readonly serves: VersionId;
      readonly ref: Ref | null;
      readonly confirmed: boolean;
    }
  /** It drifted, and a person wants ours pushed again. */
  | { readonly fact: "delivery-lost"; readonly delivery: DeliveryId }
  | { readonly fact: "verified"; readonly version: VersionId; readonly result: "accepted" | "rejected" | "unknown" }
  | { readonly fact: "hook-done"; readonly hook: string; readonly rotation: string | null }
  | { readonly fact: "overlap-started"; readonly from: Instant }
  | {
      readonly fact: "usage-looked";
      readonly memories: Readonly<Record<VersionId, Readonly<Record<string, UsageMemory>>>>;
    }
  | { readonly fact: "reminded"; readonly who: readonly string[] }
  | { readonly fact: "escalated"; readonly who: readonly string[] }
  | {
      readonly fact: "failed";
      /** Whose step it is: another rotation has nothing to do with it. */
      readonly rotation: string | null;
      readonly failure: Omit<Failure, "count" | "at" | "retryAt">;
      readonly retryIn: Duration;
      readonly counts: boolean;
    }
  | { readonly fact: "debt"; readonly version: VersionId; readonly error: string; readonly retryIn: Duration }
  | {
      readonly fact: "refused";
      readonly stopped: Omit<Stopped, "at" | "halts">;
      /** What was asked, and for which rotation; without a delivery it was asked of the issuer. */
      readonly rotation: string | null;
      readonly version: VersionId;
      readonly delivery: DeliveryId | null;
    }
  | { readonly fact: "stopped"; readonly stopped: Omit<Stopped, "at" | "halts"> }
  | { readonly fact: "dead"; readonly version: VersionId }
  | { readonly fact: "handed-back"; readonly version: VersionId }
  /** The key that a rollback leads to is gone: the newer one stays. */
  | { readonly fact: "rollback-failed"; readonly version: VersionId; readonly why: string }
  | { readonly fact: "looked-again" }
  /** An incident leaves no slot for a new key, but an earlier key is not leaked: it is wanted from now on. */
  | { readonly fact: "turned-to"; readonly version: VersionId }
  | { readonly fact: "look-again"; readonly in: Duration }
  | { readonly fact: "ended" }
  | { readonly fact: "read"; readonly cursors: Outbox["cursors"]; readonly retryAt: Outbox["retryAt"] }
  | { readonly fact: "stood"; readonly reason: ReasonCode; readonly message: string; readonly until: Instant | null }
  | {
      readonly fact: "noticed";
      readonly event: EventType;
      readonly data: Readonly<Record<string, string | number | boolean | null>>;
    }
  | {
      readonly fact: "bound";
      readonly issuer: string | null;
      readonly deliveries: readonly {
        readonly id: DeliveryId;
        readonly use: string;
        readonly name: string;
        readonly binding: string | null;
      }[];
    }
  | {
      readonly fact: "adopted";
      readonly version: VersionId;
      readonly keyId: KeyId;
      readonly dates: KeyDates;
      /** Id of the rotation that ends what it takes the place of, should there be anything. */
      readonly rotation: string;
      readonly by: string;
      readonly serving: readonly { readonly delivery: DeliveryId; readonly ref: Ref | null }[];
    };
