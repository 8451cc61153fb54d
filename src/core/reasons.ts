/** What a secret's turn ended in, worst first where several secrets count together: 1 > 3 > 4 > 8 > 0. */
export type Outcome = "failed" | "blocked" | "locked" | "waiting" | "done";

interface Reason {
  readonly outcome: Outcome | "found";
  readonly message: string;
  readonly hint?: string;
}

/**
 * The stable table of reasons: the same word stands in state, audit, `status`, JSON and notifications.
 * `message` is what is said when a decision brings no words of its own; `{secret}` is the secret's name.
 */
export const REASONS = {
  "not-due": { outcome: "done", message: "nothing is due" },

  "outside-window": { outcome: "waiting", message: "due, but its window is closed" },
  paused: { outcome: "waiting", message: "paused", hint: "keyturn resume {secret}" },
  settling: { outcome: "waiting", message: "an effect without an answer may still take place" },
  verifying: { outcome: "waiting", message: "the new key is being tried" },
  distributing: { outcome: "waiting", message: "stores do not all serve the new value yet" },
  "minimum-overlap": { outcome: "waiting", message: "both keys live for the minimum overlap" },
  "old-key-in-use": { outcome: "waiting", message: "the old key is still used" },
  "usage-unknown": { outcome: "waiting", message: "nobody can say yet whether the old key is used" },
  "not-adopted": {
    outcome: "waiting",
    message: "required consumers have not been seen on the new key",
    hint: "keyturn ack {secret} --consumer NAME, once it certainly uses the new key",
  },
  "replica-not-in-sync": { outcome: "waiting", message: "a replica does not have the new value yet" },
  held: { outcome: "waiting", message: "held by a person", hint: "keyturn unhold {secret}" },
  soaking: { outcome: "waiting", message: "the old key is disabled and soaks before it is deleted" },
  debt: { outcome: "waiting", message: "a key that should be dead is not proven dead; tried again later" },

  "hook-failed": { outcome: "failed", message: "a hook failed; nothing is revoked meanwhile" },
  "provider-unavailable": { outcome: "failed", message: "a provider did not do its part; the next run goes on" },
  "value-invalid": { outcome: "failed", message: "a value cannot be delivered as it is" },
  "credentials-missing": { outcome: "failed", message: "credentials of a provider are missing or refused" },

  locked: { outcome: "locked", message: "another run works on it", hint: "wait for it, or --lock-timeout 1m" },
  overdue: { outcome: "found", message: "its key is older than allowed" },

  unmanaged: {
    outcome: "blocked",
    message: "the store already serves a value that nobody adopted",
    hint: "keyturn adopt {secret}",
  },
  "slots-full-ours": {
    outcome: "blocked",
    message: "the issuer holds no more keys, and the extra one is ours",
    hint: "keyturn show {secret}",
  },
  "slots-full-foreign": {
    outcome: "blocked",
    message: "the issuer holds no more keys, and one of them is not ours",
    hint: "remove the foreign key by hand once you know whose it is",
  },
  "orphan-inferred": {
    outcome: "blocked",
    message: "a key looks like one of ours whose answer was lost",
    hint: "keyturn release {secret} KEYID when it is not ours",
  },
  "orphan-ambiguous": {
    outcome: "blocked",
    message: "several keys could be the one whose answer was lost",
    hint: "keyturn release {secret} KEYID for each that is not ours",
  },
  "identity-mismatch": {
    outcome: "blocked",
    message: "a provider is not the account, owner or address that the policy expects",
  },
  "binding-changed": {
    outcome: "blocked",
    message: "a provider or store is no longer the place where its keys were left",
    hint: "put the policy back, or keyturn forget {secret} and adopt again",
  },
  "not-in-policy": {
    outcome: "blocked",
    message: "keys are alive that the policy no longer speaks of",
    hint: "put the line back until the rotation ends",
  },
  "permission-missing": { outcome: "blocked", message: "a permission that the rotation will need is missing" },
  "foreign-pending": { outcome: "blocked", message: "somebody else is changing this secret" },
  "name-conflict": { outcome: "blocked", message: "the name in the store is taken by something else" },
  "store-unsuitable": { outcome: "blocked", message: "the store cannot hold this secret as the policy wants it" },
  "store-conflict": { outcome: "blocked", message: "the store keeps changing under our writes" },
  "store-denied": {
    outcome: "blocked",
    message: "a store refused the new value; the old one stays",
    hint: "mend the permission, then keyturn rotate {secret}",
  },
  "issuer-denied": {
    outcome: "blocked",
    message: "the issuer refused",
    hint: "mend the permission, then keyturn rotate {secret}",
  },
  drift: {
    outcome: "blocked",
    message: "a store no longer serves what was left there",
    hint: "keyturn rotate {secret} --repair pushes ours again; keyturn adopt {secret} accepts theirs",
  },
  "no-overlap-consent": {
    outcome: "blocked",
    message: "this issuer replaces the key in one step, so consumers fail for a while",
    hint: "acceptOutage: true in the policy says that this is understood",
  },
  "overlap-maximum": {
    outcome: "blocked",
    message: "the overlap has reached its maximum and the old key is still needed",
    hint: "keyturn status {secret} names who; keyturn ack {secret} --consumer NAME",
  },
  "verify-rejected": { outcome: "blocked", message: "the issuer does not accept the new key" },
  compromised: { outcome: "blocked", message: "a leaked key never comes back" },
  "is-current": {
    outcome: "blocked",
    message: "that is the version that consumers get",
    hint: "keyturn emergency {secret} replaces it first",
  },
  "no-such-version": {
    outcome: "blocked",
    message: "no such living version",
    hint: "keyturn show {secret} lists them",
  },
  "rolled-back": {
    outcome: "blocked",
    message: "rolled back; nothing rotates until a person says so",
    hint: "keyturn rotate {secret}",
  },
  "nothing-to-roll-back-to": { outcome: "blocked", message: "there is no earlier key to go back to" },
  "too-late": {
    outcome: "blocked",
    message: "the old key is being revoked at this moment",
    hint: "keyturn rollback {secret}",
  },
  "too-early": {
    outcome: "blocked",
    message: "not every store serves the new version yet",
    hint: "keyturn status {secret} says when both keys live; say it then",
  },
  "attempts-exhausted": {
    outcome: "blocked",
    message: "a step failed as often as the policy allows",
    hint: "keyturn rotate {secret} once the cause is mended",
  },
  "audit-unavailable": { outcome: "blocked", message: "the audit log does not take entries" },
  "state-without-cas": { outcome: "blocked", message: "the state backend does not refuse a stale write" },
  "state-damaged": { outcome: "blocked", message: "the state cannot be read" },
  "state-moved": {
    outcome: "blocked",
    message: "the state was moved to another place",
    hint: "name the new place in the policy's `state:`, or by --state",
  },
  "state-newer": { outcome: "blocked", message: "the state was written by a newer keyturn", hint: "update keyturn" },
} as const satisfies Record<string, Reason>;

export type ReasonCode = keyof typeof REASONS;

export function outcomeOf(reason: ReasonCode): Outcome {
  const { outcome } = REASONS[reason] as Reason;
  return outcome === "found" ? "done" : outcome;
}

export function hintOf(reason: ReasonCode, secret: string): string | null {
  return (REASONS[reason] as Reason).hint?.replaceAll("{secret}", secret) ?? null;
}
