import type { Case, Decision } from "./case.ts";
import {
  accepts,
  ask,
  attempt,
  authority,
  blocked,
  deliveryLook,
  isOff,
  keyOf,
  listing,
  lookAtStores,
  note,
  open,
  Unanswered,
  unsettled,
  wait,
  wanted,
} from "./case.ts";
import { drifted, guardHolds, guardPause } from "./checks.ts";
import type { Duration, Instant } from "./duration.ts";
import type { Version } from "./model.ts";
import { datesOf, type ObservedKey } from "./observed.ts";
import { rememberAll } from "./usage.ts";

/** Mints whose answer never came: found by label or by inference, or proven absent. */
export function resolveMints(c: Case): Decision | null {
  for (const version of c.state.versions) {
    if (version.status === "minting" && version.keyId === null) return resolve(c, version);
    if (version.status === "pending" && !version.staged && !c.seen.held.has(version.id)) return valueLost(c, version);
  }
  return null;
}

function resolve(c: Case, version: Version): Decision {
  const trusting = isOff(c, "absence-late");
  const entry = open(c).find((e) => e.effect === "issue" && e.version === version.id);
  if (entry !== undefined && !trusting) {
    return wait("settling", `no answer came for the issue of ${version.id}; its key may still appear`, entry.until);
  }
  if (version.mint === null) return note({ fact: "given-up", version: version.id, why: "never issued" });
  const wantedNow = c.state.rotation?.to === version.id && c.state.rotation.rollback === null && !version.compromised;
  const { keys } = listing(c);
  const candidates = c.rules.issuer.labels
    ? keys.filter((key) => key.label === version.id)
    : inferred(c, version, keys);
  const [only] = candidates;
  if (only !== undefined && candidates.length === 1) {
    if (c.rules.issuer.issueIdempotent && wantedNow)
      return guardPause(c) ?? attempt(c, { do: "issue", version: version.id, mint: version.mint });
    if (!c.rules.issuer.labels && c.rules.orphans === "block" && !version.expedite)
      return blocked(
        "orphan-inferred",
        `key ${only.keyId} looks like ${version.id}, whose answer was lost`,
        `keyturn revoke ${c.rules.name} --key-version ${version.id} when it is yours`,
      );
    return note({
      fact: "key-found",
      version: version.id,
      keyId: only.keyId,
      dates: datesOf(only),
      inferred: !c.rules.issuer.labels,
    });
  }
  if (candidates.length > 1)
    return blocked(
      "orphan-ambiguous",
      `one of ${candidates.map((key) => key.keyId).join(", ")} may be ${version.id}, whose answer was lost`,
    );
  if (version.mint.absences === 0 && !trusting) return note({ fact: "key-absent", version: version.id });
  return note({ fact: "given-up", version: version.id, why: "no key appeared" });
}

/** Keys that the listing before the mint did not have, made in a strictly later granule and not too late to be it. */
function inferred(c: Case, version: Version, keys: readonly ObservedKey[]): readonly ObservedKey[] {
  const mint = version.mint as NonNullable<Version["mint"]>;
  const grain = c.rules.issuer.timing.timeGranularity;
  const ours = new Set(c.state.versions.map((v) => v.keyId));
  return keys.filter(
    (key) =>
      !mint.listed.includes(key.keyId) &&
      !ours.has(key.keyId) &&
      !c.state.strangers.includes(key.keyId) &&
      granule(key.createdAt, grain) > granule(mint.listedAt, grain) &&
      key.createdAt <= mint.listedAt + mint.within,
  );
}

export function granule(at: Instant, size: Duration): number {
  return size === 0 ? at : Math.floor(at / size);
}

export function isStagedStill(c: Case, version: Version): boolean {
  ask(c, { look: "staged", version: version.id });
  return (c.seen.staged[version.id] as { value: boolean }).value;
}

/** The key is known, but its value is not in this process: is it in the authority? */
function valueLost(c: Case, version: Version): Decision {
  const present = isStagedStill(c, version);
  if (present) return note({ fact: "staged-seen", version: version.id, present });
  const entry = open(c).find((e) => e.effect === "stage" && e.version === version.id);
  if (entry !== undefined)
    return wait("settling", `no answer came for the stage of ${version.id}; it may still take place`, entry.until);
  return note({ fact: "given-up", version: version.id, why: "its value is lost" });
}

/**
 * Keys nobody will ever use: made, but their value lost or unwanted before a store was asked to serve it. One that
 * cannot be removed now holds up no more than it has to, see {@link leftover}.
 */
export function cleanUp(c: Case): Decision | null {
  for (const version of unwanted(c)) {
    const decision = removal(c, version);
    if (decision.decision !== "wait" && decision.decision !== "blocked") return decision;
  }
  return null;
}

/** What keeps a key that nobody will use, or the value of a dead one: no rotation ends, and none begins, before it. */
export function leftover(c: Case): Decision | null {
  for (const version of unwanted(c)) return removal(c, version);
  return null;
}

/**
 * The same where the key may live: none is made beside it. An emergency that has room for one waits for those alone
 * that it made itself.
 */
export function livingLeftover(c: Case): Decision | null {
  const { incident, rotation } = c.state;
  const since = incident === null ? -Infinity : Math.min(incident.at, rotation?.startedAt ?? Infinity);
  for (const version of unwanted(c))
    if (version.status === "abandoned" && version.since >= since) return removal(c, version);
  return null;
}

/** One that is deleted and still listed: its slot is about to be free. */
export function leaving(c: Case): Decision | null {
  for (const version of unwanted(c)) {
    const decision = version.deletedAt === null ? null : removal(c, version);
    if (decision?.decision === "wait" && decision.reason === "settling") return decision;
  }
  return null;
}

function unwanted(c: Case): readonly Version[] {
  if (isOff(c, "orphan-first")) return [];
  return c.state.versions.filter((version) => {
    // Where an outage was accepted a store may still serve a dead key: its value stays until it is replaced.
    if (version.status === "destroyed")
      return version.staged && !c.state.deliveries.some((d) => d.serves === version.id);
    return version.status === "abandoned" && (version.keyId !== null || version.staged);
  });
}

/** A look that fails is what keeps it, and is no reason to hold up the rest. */
function removal(c: Case, version: Version): Decision {
  try {
    return remove(c, version);
  } catch (thrown) {
    if (thrown instanceof Unanswered) return thrown.decision;
    throw thrown;
  }
}

function remove(c: Case, version: Version): Decision {
  const stay = unsettled(c) ?? guardHolds(c, version) ?? guardPause(c) ?? backOff(c, version);
  if (stay !== null) return stay;
  ask(c, { look: "keys" }, ...lookAtStores(c));
  for (const delivery of c.rules.deliveries) {
    const look = c.seen.deliveries[delivery.id] === undefined ? null : deliveryLook(c, delivery.id);
    if (
      look !== null &&
      typeof look.serves === "object" &&
      look.serves.version === version.id &&
      wanted(c)?.id !== version.id
    ) {
      return blocked("drift", `${delivery.name} serves ${version.id}, which no store was asked to serve`);
    }
  }
  const strayed = version.status === "destroyed" ? drifted(c) : null;
  if (strayed !== null) return strayed;
  const key = version.keyId === null ? null : keyOf(c, version);
  if (version.handBack) {
    return key?.state === "disabled" && !version.compromised
      ? attempt(c, { do: "enable", version: version.id })
      : note({ fact: "handed-back", version: version.id });
  }
  if (version.origin === "inferred" && key !== null && !version.compromised && usedByAnybody(c, version)) {
    return note({ fact: "said", word: { word: "release", keyId: key.keyId }, by: "keyturn", id: c.fresh });
  }
  if (version.origin === "inferred" && key !== null && !isProvable(c, version)) {
    return blocked(
      "orphan-inferred",
      `${key.keyId} looks like ${version.id}, whose answer was lost, and nothing can show that nobody uses it`,
      `keyturn revoke ${c.rules.name} --key-version ${version.id} when it is yours`,
    );
  }
  if (version.staged) return attempt(c, { do: "discard", version: version.id, delivery: authority(c).id });
  return kill(c, version, key);
}

function kill(c: Case, version: Version, key: ObservedKey | null): Decision {
  if (version.deletedAt !== null || key === null) return believeGone(c, version, key);
  if (c.rules.issuer.canDisable && version.disabledAt === null) {
    return key.state === "disabled"
      ? note({ fact: "key-state", version: version.id, state: "disabled" })
      : attempt(c, { do: "disable", version: version.id });
  }
  if (version.origin === "inferred" && !c.rules.exclusive && version.disabledAt !== null) {
    const watch = version.disabledAt + usageDelay(c);
    if (watch > c.now.doc)
      return wait(
        "settling",
        `${version.keyId} was inferred to be ours and is disabled; watched a while before it is deleted`,
        watch,
      );
  }
  return attempt(c, { do: "delete", version: version.id });
}

/**
 * Dead: a complete listing without the key, taken when a listing can no longer lag behind its creation, and the value,
 * where it can still be read, refused.
 */
export function believeGone(c: Case, version: Version, key: ObservedKey | null): Decision {
  const { listSettle, propagation, settle } = c.rules.issuer.timing;
  if (isOff(c, "proof-of-death") && version.deletedAt !== null) return note({ fact: "dead", version: version.id });
  if (key !== null) {
    const again = (version.deletedAt ?? c.now.doc) + Math.max(listSettle, propagation, settle);
    return again > c.now.doc
      ? wait("settling", `${version.keyId} is deleted but still listed`, again)
      : note(
          { fact: "key-state", version: version.id, state: key.state },
          { fact: "debt", version: version.id, error: "still listed after its delete", retryIn: c.rules.retry.backoff },
        );
  }
  const trustFrom = (version.createdAt ?? 0) + listSettle + c.rules.issuer.timing.timeGranularity;
  const { asOf } = listing(c);
  if (asOf < trustFrom)
    return wait(
      "settling",
      `${version.keyId} is not listed, but listings may lag behind its creation`,
      c.now.doc + (trustFrom - asOf),
    );
  if (version.deletedAt === null) return note({ fact: "key-state", version: version.id, state: "gone" });
  // A discard without an answer may have taken the value: what cannot be read cannot be tried.
  if (version.staged && !isStagedStill(c, version))
    return note({ fact: "staged-seen", version: version.id, present: false });
  if (version.staged && accepts(c, version.id) === "accepted") {
    const again = version.deletedAt + Math.max(propagation, settle);
    return again > c.now.doc
      ? wait("settling", `${version.keyId} is deleted but still accepted`, again)
      : wait("debt", `${version.keyId} is deleted but still accepted`, c.now.doc + c.rules.retry.backoff, [
          { fact: "debt", version: version.id, error: "accepted after its delete", retryIn: c.rules.retry.backoff },
        ]);
  }
  return note({ fact: "dead", version: version.id });
}

/** A revocation that failed is tried again later, not at once. */
export function backOff(c: Case, version: Version): Decision | null {
  const { debt } = version;
  if (debt === null || debt.retryAt <= c.now.doc) return null;
  const what =
    version.status === "destroyed"
      ? `${version.id} is dead, but its value is still stored`
      : `${version.keyId ?? version.id} should be dead`;
  return wait("debt", `${what}: ${debt.lastError ?? "not proven"}`, debt.retryAt);
}

/** An inference is acted on where it can be undone and watched, or where a person says that the key is ours. */
function isProvable(c: Case, version: Version): boolean {
  const watched = c.rules.issuer.canDisable && c.rules.usage !== "none";
  return watched || c.rules.exclusive || version.expedite || version.compromised;
}

function usageDelay(c: Case): Duration {
  return c.rules.usage === "none" ? 0 : Math.max(0, ...c.rules.usage.map((m) => m.traits.granularity + m.traits.lag));
}

/** The value of an inferred orphan never left the process that lost it: whoever uses the key is a stranger. */
function usedByAnybody(c: Case, version: Version): boolean {
  if (c.rules.usage === "none") return false;
  ask(c, { look: "usage" });
  return Object.values(rememberAll(version, c.rules, c.seen, c.now.doc)).some((memory) =>
    Object.values(memory.who).some((m) => m.count > 0 || m.deniedAt !== null),
  );
}
