import type { ReasonCode } from "./reasons.ts";
/**
 * The words of keyturn, as data.
 *
 * secret     one entry of the policy: one credential owner at one issuer, delivered to one or more stores
 * issuer     who makes and kills the keys
 * key        what the issuer lists: a key id, creation time, state; ours or a stranger's
 * version    one key of ours under a version id that we mint before the issuer is asked
 * value      the secret material: named fields, see secret-value.ts; never part of this state
 * store      where consumers read; staged stores can hold a version before it is current, mirrors are overwritten
 * delivery   one secret in one store; its proof is a value read back, a digest, a receipt, or none
 * rotation   one passage from a current version to the next
 * overlap    both keys live: from the moment the last store serves the new version until the old key is disabled
 * usage      who uses a key; unknown is never silent
 * adoption   positive evidence that a named consumer uses the new version
 * soak       old key disabled but not deleted; rollback is one call
 * hold       a person's word: no disable, delete, discard or orphan clean-up of this secret
 * debt       a key that should be dead and is not proven dead
 * drift      a store or issuer no longer says what we left there, judged by our fields' values
 * binding    where a version or delivery really lives, recorded with it
 *
 * Two clocks stand in this state. Instants called `…At`, `since`, `until` without further word are on the
 * DOCUMENT's clock: the sum of the ages of its revisions by the backend's clock. It never runs faster than true
 * time, whatever the runners' clocks do, and stays near wall time. Instants on the issuer's or a monitor's clock
 * say so.
 */
import type { EventType } from "./events.ts";
import type { Duration, Instant } from "./duration.ts";
import type { KeyId, Ref } from "./observed.ts";

export type VersionId = string;
export type DeliveryId = string;

export const STATUSES = ["minting", "pending", "current", "retiring", "disabled", "abandoned", "destroyed"] as const;
export type VersionStatus = (typeof STATUSES)[number];

/** What the document remembers of one monitor's answers about one key. Instants but `at` are the monitor's. */
export interface UsageMemory {
  readonly from: Instant;
  readonly until: Instant;
  /** How far the newest look reached, whether or not it could conclude anything, and the document's instant then. */
  readonly reached: Instant;
  readonly at: Instant;
  /** Why the newest look could conclude nothing from silence; null when it could. */
  readonly unknown: string | null;
  readonly who: Readonly<Record<string, CallerMemory>>;
  /** By consumer, whose instances may have new names each time. */
  readonly consumers?: Readonly<Record<string, ConsumerMemory>>;
  /** Added to the monitor's clock, gives the document's, as far as the newest look could tell. */
  readonly ahead?: Duration;
}

export interface ConsumerMemory {
  readonly last: Instant;
  /** The longest silence of all its instances together that was proven and then ended. */
  readonly gap: Duration;
}

export interface CallerMemory {
  /** null: only ever refused. */
  readonly last: Instant | null;
  /** The longest silence that was proven and then ended. */
  readonly gap: Duration;
  readonly count: number;
  /** The newest refused use; null: none seen. */
  readonly deniedAt: Instant | null;
  readonly own: boolean;
}

/** What is known of a mint whose answer never came. */
export interface Mint {
  /** The complete listing that the intent rests on: the issuer's clock, and the ids it had. */
  readonly listedAt: Instant;
  readonly listed: readonly KeyId[];
  /** A key of this mint is created before `listedAt` + this. */
  readonly within: Duration;
  /** Complete listings without it, taken after it may no longer land. */
  readonly absences: number;
  /** The issue was repeated (idempotent issuers): a refusal of the second says nothing of the first. */
  readonly again: boolean;
}

export interface Verification {
  readonly firstTryAt: Instant;
  readonly lastTryAt: Instant;
  readonly firstSuccessAt: Instant | null;
  readonly successes: number;
  readonly last: "accepted" | "rejected" | "unknown";
}

export interface Debt {
  readonly since: Instant;
  readonly attempts: number;
  readonly lastError: string | null;
  readonly retryAt: Instant;
}

export interface Version {
  readonly id: VersionId;
  readonly keyId: KeyId | null;
  readonly status: VersionStatus;
  readonly origin: "issued" | "adopted" | "inferred";
  /** The issuer's clock; null until known. */
  readonly createdAt: Instant | null;
  /** When the issuer ends it by itself; its clock. Left out: never, or it does not say. */
  readonly expiresAt?: Instant;
  readonly since: Instant;
  readonly compromised: boolean;
  /** A person asked for its end: minimum, usage and adoption no longer hold it back. */
  readonly expedite: boolean;
  /** The authority holds its value under the version id. */
  readonly staged: boolean;
  /** A promote or put of it was intended once: past the point of no return. */
  readonly exposed: boolean;
  /** Deliveries where a write of this version was left without an answer and no later write has succeeded. */
  readonly leftOpen: readonly DeliveryId[];
  readonly mint: Mint | null;
  readonly verification: Verification | null;
  readonly disabledAt: Instant | null;
  /** The issuer took the delete, or the key was seen gone; `destroyed` needs proof on top. */
  readonly deletedAt: Instant | null;
  readonly usage: Readonly<Record<string, UsageMemory>>;
  readonly usageLookedAt: Instant | null;
  readonly debt: Debt | null;
  /** A person says it is not ours: to be enabled again if we disabled it, then forgotten. */
  readonly handBack: boolean;
}

/** What a delivery serves: one of our versions, a value that is none of ours, nothing, or not known. */
export type Serves = { readonly version: VersionId } | "foreign" | "nothing" | "unknown";

export interface DeliveryState {
  readonly id: DeliveryId;
  /** For people: the store's name in the policy (or its type) and what is written there. */
  readonly use: string;
  readonly name: string;
  readonly binding: string | null;
  /** The version we last left there, by success or by observation; null: never delivered, or a late answer voided it. */
  readonly serves: VersionId | null;
  readonly ref: Ref | null;
  /** Our last successful write there. */
  readonly writtenAt: Instant | null;
  /** When its proof was seen for `serves`; null: not since the last write. */
  readonly confirmedAt: Instant | null;
  readonly lastError: string | null;
}

export type RotationReason = "scheduled" | "manual" | "emergency";

/** Why and since when a step keeps failing. */
export interface Failure {
  readonly step: string;
  readonly count: number;
  readonly at: Instant;
  readonly retryAt: Instant;
  readonly reason: ReasonCode;
  readonly message: string;
}

export interface Rotation {
  readonly id: string;
  readonly reason: RotationReason;
  readonly actor: string;
  readonly startedAt: Instant;
  /** The version this rotation brings; null until minted. */
  readonly to: VersionId | null;
  /** The version that was current when it began: where a rollback leads. null: there was none. */
  readonly from: VersionId | null;
  /** Set by a person's word, or by a refusal behind the mint. */
  readonly rollback: { readonly at: Instant; readonly by: string } | null;
  /** Since when the last store serves the wanted version. */
  readonly overlapFrom: Instant | null;
  /** Ids of the hooks that succeeded, for example `afterDistribute:0`. */
  readonly hooks: readonly string[];
  /** One entry for each step that keeps failing. */
  readonly failures: readonly Failure[];
  readonly remindedAt: Instant | null;
  readonly escalatedAt: Instant | null;
  /** Stores may be overwritten where they drifted: `--repair`. */
  readonly repair: boolean;
}

export type EffectKind = "issue" | "stage" | "promote" | "put" | "enable" | "disable" | "delete" | "discard";

export interface Intent {
  readonly id: string;
  readonly effect: EffectKind;
  readonly version: VersionId;
  /** Of stage, promote, put and discard. */
  readonly delivery: DeliveryId | null;
  readonly at: Instant;
  readonly duration: Duration;
  readonly runner: string;
}

/** An effect without an answer: it may take place until `until`. */
export interface MayLand {
  /** The intent it came from. */
  readonly id: string;
  readonly effect: EffectKind;
  readonly version: VersionId;
  readonly delivery: DeliveryId | null;
  readonly until: Instant;
}

export interface Paused {
  readonly reason: string;
  readonly by: string;
  readonly at: Instant;
  /** Of a blackout, which no document holds; left out: until `resume`. */
  readonly until?: Instant;
}

export interface Hold {
  readonly reason: string;
  readonly by: string;
  readonly at: Instant;
  /** null: until `unhold`. */
  readonly until: Instant | null;
}

export interface Lease {
  readonly runner: string;
  readonly host: string;
  readonly pid: number;
  readonly actor: string;
  readonly since: Instant;
  readonly renewedAt: Instant;
  readonly duration: Duration;
}

/** Consents and wishes of one incident; they bind nothing else. */
export interface Incident {
  readonly id: string;
  readonly at: Instant;
  readonly by: string;
  readonly graceUntil: Instant;
  readonly revokeFirst: boolean;
  readonly acceptOutage: boolean;
  readonly overrideHold: boolean;
}

/** Nothing new starts until a person says `rotate`. */
export interface Stopped {
  /** What is in flight stops too; else it is brought to its end (a rollback is). */
  readonly halts: boolean;
  readonly reason: ReasonCode;
  readonly message: string;
  readonly at: Instant;
}

export interface Ack {
  readonly kind: "consumer" | "store";
  readonly name: string;
  readonly version: VersionId;
  readonly by: string;
  readonly at: Instant;
}

/** A thing that happened, kept until every reader of the outbox has it. */
export interface StateEvent {
  readonly seq: number;
  readonly at: Instant;
  /** The wall clock of the runner, for people. */
  readonly wall: Instant;
  readonly actor: string;
  readonly type: EventType;
  readonly data: Readonly<Record<string, string | number | boolean | null>>;
  readonly previous: string;
  readonly hash: string;
}

export interface Outbox {
  readonly events: readonly StateEvent[];
  /** Sequence and hash of the newest event ever. */
  readonly seq: number;
  readonly hash: string;
  /** Reader (`audit`, a notifier's name) → the newest sequence it has. */
  readonly cursors: Readonly<Record<string, number>>;
  /** Notifier → not before. */
  readonly retryAt: Readonly<Record<string, { readonly at: Instant; readonly failures: number }>>;
}

export interface ActionRecord {
  readonly action: string;
  readonly wall: Instant;
  readonly version: VersionId | null;
  readonly keyId: KeyId | null;
  readonly delivery: DeliveryId | null;
}

/** `id`: of the attempt to move. */
export interface Moved {
  readonly direction: "to" | "from";
  readonly place: string;
  /** What leads there, for people. Left out: `place` does. */
  readonly address?: string;
  readonly id: string;
}

/** One document per secret. */
export interface SecretState {
  readonly schema: 1;
  readonly name: string;
  /** Random; tells whether a save of unknown outcome took. */
  readonly commitId: string;
  /** Moves with every commit but the renewal of a lease: observations rest on it. */
  readonly seq: number;
  /** The document's clock at this commit. */
  readonly clock: Instant;
  /** The clock on the wall of whoever made this commit: another machine's may tell otherwise. */
  readonly wall?: Instant;
  /** Moves when a person's word takes the work away from whoever is at it, and when a backup comes back. */
  readonly epoch: number;
  readonly lease: Lease | null;
  readonly minted: number;
  readonly versions: readonly Version[];
  readonly rotation: Rotation | null;
  readonly last: {
    readonly id: string;
    readonly reason: RotationReason;
    readonly startedAt?: Instant;
    readonly endedAt: Instant;
    readonly outcome: "done" | "rolled-back";
  } | null;
  readonly intent: Intent | null;
  readonly mayLand: readonly MayLand[];
  readonly deliveries: readonly DeliveryState[];
  readonly issuerBinding: string | null;
  readonly strangers: readonly KeyId[];
  readonly holds: readonly Hold[];
  readonly paused: Paused | null;
  readonly incident: Incident | null;
  readonly stopped: Stopped | null;
  /** What the newest run that held the lease ended in, for `status`; null once the document has moved since. */
  readonly standing: {
    readonly reason: ReasonCode;
    readonly message: string;
    readonly until: Instant | null;
    readonly at: Instant;
  } | null;
  /** A person said `rotate` while a rolled back rotation was still in flight: begin when it has ended. */
  readonly queued: { readonly id: string; readonly by: string; readonly repair: boolean } | null;
  readonly acks: readonly Ack[];
  /** The served key is looked at once more at this time: after a rollback, an enable, an emergency. */
  readonly lookAgainAt: Instant | null;
  readonly outbox: Outbox;
  readonly actions: readonly ActionRecord[];
  /** Nothing goes on here: the state is somewhere else now, or not wholly here yet. */
  readonly moved?: Moved;
}

/** The secret's versions that may still be alive at the issuer, or whose mint is not yet resolved. */
export function living(state: SecretState): readonly Version[] {
  return state.versions.filter(
    (v) => v.status !== "destroyed" && !(v.status === "abandoned" && v.keyId === null && v.mint === null),
  );
}

export function versionOf(state: SecretState, id: VersionId | null): Version | null {
  return state.versions.find((v) => v.id === id) ?? null;
}

export function deliveryOf(state: SecretState, id: DeliveryId): DeliveryState | null {
  return state.deliveries.find((d) => d.id === id) ?? null;
}

/** A secret nobody has managed yet. `clock` is the wall clock of whoever makes it. */
export function newState(name: string, clock: Instant): SecretState {
  return {
    schema: 1,
    name,
    commitId: "",
    seq: 0,
    clock,
    epoch: 0,
    lease: null,
    minted: 0,
    versions: [],
    rotation: null,
    last: null,
    intent: null,
    mayLand: [],
    deliveries: [],
    issuerBinding: null,
    strangers: [],
    holds: [],
    paused: null,
    incident: null,
    stopped: null,
    standing: null,
    queued: null,
    acks: [],
    lookAgainAt: null,
    outbox: { events: [], seq: 0, hash: "", cursors: {}, retryAt: {} },
    actions: [],
  };
}
