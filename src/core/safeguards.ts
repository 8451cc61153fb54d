/**
 * The safeguards that the simulation switches off one by one: without any of them some schedule must break a
 * promise, or the safeguard is not tested. Nothing outside the tests passes a non-empty set.
 */
export const SAFEGUARDS = [
  /** An intent found open is observed afresh, never performed again. */
  "no-replay",
  /** The last look at the clock before a request leaves. */
  "fence-at-send",
  /** Others' open intents are waited out before anything is destroyed, minted or finished. */
  "may-land",
  /** Absence counts only in listings taken after the mint can no longer land. */
  "absence-late",
  /** A leaked version is stamped with the request and never promoted or enabled. */
  "compromised-stamp",
  /** A hold is honoured by the commit of a destructive intent, not only by the decision before it. */
  "intent-rests-on-revision",
  /** A store write left open is written over before its version is revoked. */
  "rewrite-before-revoke",
  /** Every store is seen to serve another version right before a destructive call. */
  "stores-confirmed",
  /** The wanted key is accepted by the issuer right before a destructive call. */
  "new-key-verified",
  /** The minimum overlap is waited for. */
  "minimum-overlap",
  /** The old key is silent for each consumer. */
  "old-key-quiet",
  /** Unknown usage is not silence. */
  "unknown-is-not-silent",
  /** Required consumers were seen on the new key. */
  "adoption",
  /** Own holds stop destructive calls. */
  "holds",
  /** A value in a store that is none of ours stops everything. */
  "drift",
  /** A lost value's key is destroyed before the next mint. */
  "orphan-first",
  /** The new key is verified before any store serves it. */
  "verify-before-promote",
  /** Propagation delays of stores are part of the overlap's start. */
  "propagation",
  /** Dead means seen gone in a listing that can be believed. */
  "proof-of-death",
] as const;

export type Safeguard = (typeof SAFEGUARDS)[number];
