import type { Case, Decision } from "./case.ts";
import {
  accepts,
  ask,
  attempt,
  authority,
  blocked,
  canLook,
  deliveryLook,
  isOff,
  keyOf,
  lookAtStores,
  note,
  unsettled,
  wait,
  wanted,
} from "./case.ts";
import { formatAgo, formatDuration } from "./duration.ts";
import type { Fact } from "./facts.ts";
import type { DeliveryId, Serves, Version, VersionId } from "./model.ts";
import { deliveryOf, versionOf } from "./model.ts";
import type { Query } from "./observed.ts";
import { quiet } from "./quiet.ts";
import type { DeliveryRules } from "./rules.ts";
import { placeOf } from "./rules.ts";
import { ackedVersion } from "./wanted.ts";

/** A check of promise 4: null when it holds, else what stands in the way (or what has to be looked at first). */
export type Check = (c: Case, victim: Version) => Decision | null;

/** A leaked key in an incident, or one a person gave up: usage, adoption and minimum no longer hold it back. */
export function isHurried(c: Case, victim: Version): boolean {
  if (victim.expedite || isSpent(c, victim)) return true;
  if (!victim.compromised && outageAccepted(c, victim)) return true;
  if (!victim.compromised) return false;
  return c.state.incident === null || c.now.doc >= c.state.incident.graceUntil;
}

/** An incident needs its slot, and nobody could go back to it: it is disabled, and its value is gone. */
export function isSpent(c: Case, victim: Version): boolean {
  return c.state.incident !== null && wanted(c) === null && victim.disabledAt !== null && !victim.staged;
}

/**
 * Consent to break promise 1 for this victim: of the incident, for its leaked keys alone; or of the policy, where the
 * issuer holds one key and the old one has to die before the new one is made.
 */
export function outageAccepted(c: Case, victim: Version): boolean {
  const oneSlot =
    c.rules.acceptOutage && c.rules.issuer.maxKeys === 1 && wanted(c) === null && c.state.rotation?.rollback === null;
  return oneSlot || (victim.compromised && (c.state.incident?.acceptOutage ?? false));
}

export const guardHolds: Check = (c, victim) => {
  const hold = c.state.holds.find((h) => h.until === null || h.until > c.now.doc);
  // The value of a dead key keeps nobody: where a person overrides holds it goes, too.
  const overridden = (victim.compromised || victim.status === "destroyed") && c.state.incident?.overrideHold;
  if (hold === undefined || isOff(c, "holds") || overridden) return null;
  const message = `held by ${hold.by}: ${hold.reason}`;
  return c.state.incident === null ? wait("held", message, null) : blocked("held", message);
};

/** A pause starts nothing and destroys nothing; an emergency works all the same. */
export function guardPause(c: Case): Decision | null {
  if (c.state.paused === null || c.state.incident !== null) return null;
  return wait("paused", `paused by ${c.state.paused.by}: ${c.state.paused.reason}`, c.state.paused.until ?? null);
}

export const minimumOver: Check = (c, victim) => {
  if (isHurried(c, victim) || victim.compromised || isOff(c, "minimum-overlap")) return null;
  const from = c.state.rotation?.overlapFrom ?? c.now.doc;
  const blind = c.rules.usage === "none";
  const until = from + c.rules.overlap.minimum * (blind ? 2 : 1);
  return until > c.now.doc
    ? wait(
        "minimum-overlap",
        `both keys live for ${formatDuration(until - from)}${blind ? " (blind: no usage signal)" : ""}`,
        until,
      )
    : null;
};

/** The overlap has begun: every store serves the wanted version, its delay to readers included. */
export const overlapBegun: Check = (c) => {
  const from = c.state.rotation?.overlapFrom ?? null;
  if (from !== null && from > c.now.doc && !isOff(c, "propagation"))
    return wait("distributing", "the last store's readers may still get the old value", from);
  return null;
};

/** A store that lost our value keeps consumers from moving: looked at when a person asks, and at the maximum. */
export const storesLookedAt: Check = (c, victim) => {
  const { rotation } = c.state;
  const maximum = (rotation?.overlapFrom ?? c.now.doc) + c.rules.overlap.maximum;
  return rotation?.repair || maximum <= c.now.doc ? storesConfirmed(c, victim) : null;
};

/** Before a straggler is reminded the stores are looked at: a value put back may be what keeps it on the old key. */
export const oldKeyQuiet: Check = (c, victim) => {
  if (isHurried(c, victim)) return null;
  const stands = quiet(c, victim);
  const facts = stands !== null && "facts" in stands ? (stands.facts ?? []) : [];
  if (!facts.some(({ fact }) => fact === "reminded")) return stands;
  return putBack(c, facts) ?? stands;
};

/** Drift, with what is news beside the reminder. A store that does not answer is no reason to keep that back. */
function putBack(c: Case, facts: readonly Fact[]): Decision | null {
  const unseen = c.rules.deliveries.filter((d) => canLook(d) && c.seen.deliveries[d.id] === undefined);
  if (unseen.length > 0)
    return { decision: "look", queries: unseen.map(({ id }) => ({ look: "delivery", delivery: id })) };
  for (const delivery of c.rules.deliveries) {
    const look = c.seen.deliveries[delivery.id];
    const strayed = look !== undefined && "value" in look ? strays(c, delivery, look.value.serves) : null;
    if (strayed?.decision === "blocked") return { ...strayed, facts: facts.filter(({ fact }) => fact !== "reminded") };
  }
  return null;
}

export const nothingMayLand: Check = (c) => unsettled(c);

/** Store lines taken out of the policy in flight may still serve the victim. */
export const nothingForgotten: Check = (c, victim) => {
  const known = new Set(c.rules.deliveries.map((d) => d.id));
  const lost = c.state.deliveries.find(
    (d) =>
      !known.has(d.id) &&
      !isAcked(c, d) &&
      (d.serves === null || d.serves === victim.id || victim.leftOpen.includes(d.id)),
  );
  if (lost === undefined || outageAccepted(c, victim)) return null;
  const serves = lost.serves === null ? "and nobody knows what it serves" : `while it served ${lost.serves}`;
  return blocked(
    "not-in-policy",
    `${lost.use} ${lost.name} was taken out of the policy ${serves}: put it back, or keyturn ack ${c.rules.name} --store ${lost.name} when nobody reads it`,
  );
};

/** A person's word about one store: what it serves is no longer asked. */
export function isAcked(c: Case, delivery: { readonly use: string; readonly name: string }): boolean {
  const goal = ackedVersion(c.state);
  const names = new Set(
    [...c.rules.deliveries, ...c.state.deliveries].flatMap((d) => (d.use === delivery.use ? [d.name] : [])),
  );
  const known = names.size === 1 ? [delivery.use, delivery.name] : [delivery.name];
  return c.state.acks.some((ack) => ack.kind === "store" && ack.version === goal && known.includes(ack.name));
}

/** A write of the victim without an answer is written over before it is revoked: authority first, then the mirrors. */
export const writtenOver: Check = (c, victim) => {
  if (isOff(c, "rewrite-before-revoke") || victim.leftOpen.length === 0) return null;
  const goal = wanted(c);
  return bindingsOf(c) ?? (goal === null ? null : writeOver(c, victim, goal.id));
};

/** Writes `version` once more, as a fresh revision, where a write of the victim may still be under way. */
export function writeOver(c: Case, victim: Version, version: VersionId): Decision | null {
  const delivery = c.rules.deliveries.find((d) => victim.leftOpen.includes(d.id));
  if (delivery === undefined) return null;
  const look = canLook(delivery) ? deliveryLook(c, delivery.id) : null;
  const strayed = look === null ? null : strays(c, delivery, look.serves);
  if (strayed !== null) return strayed;
  const expected = look === null ? (deliveryOf(c.state, delivery.id)?.ref ?? null) : look.ref;
  const effect = delivery.id === authority(c).id ? "promote" : "put";
  return attempt(c, { do: effect, version, delivery: delivery.id, expected, fresh: true });
}

/** After a rollback nobody wants the newer value back: it is taken out of the authority before its key dies. */
export const discarded: Check = (c, victim) => {
  const { rotation } = c.state;
  if (!victim.staged || !rotation?.rollback || rotation.to !== victim.id) return null;
  const serving = deliveryLook(c, authority(c).id).serves;
  if (typeof serving === "object" && serving.version === victim.id) return null;
  return attempt(c, { do: "discard", version: victim.id, delivery: authority(c).id });
};

/**
 * Every delivery is seen, by its proof, to serve the wanted version; replicas included. While an incident has none yet
 * (a slot is freed for it), any version of ours but the victim.
 */
export const storesConfirmed: Check = (c, victim) => {
  if (isOff(c, "stores-confirmed") || outageAccepted(c, victim)) return null;
  const goal = wanted(c);
  ask(c, ...lookAtStores(c));
  for (const delivery of c.rules.deliveries) {
    const recorded = deliveryOf(c.state, delivery.id);
    const visible = (recorded?.writtenAt ?? -Infinity) + delivery.traits.timing.propagation;
    if (visible > c.now.doc && !isOff(c, "propagation"))
      return wait("distributing", `readers of ${delivery.name} may still get the old value`, visible);
    const stands = (id: string | undefined): boolean =>
      goal === null ? id !== undefined && id !== victim.id : id === goal.id;
    if (!canLook(delivery)) {
      const proven = recorded !== null && (recorded.confirmedAt !== null || isAcked(c, recorded));
      if (!proven || !stands(recorded.serves ?? undefined))
        return wait("distributing", `${delivery.name} is not confirmed to serve ${goal?.id ?? "a living key"}`, null);
      continue;
    }
    const look = deliveryLook(c, delivery.id);
    if (goal === null && look.serves === "nothing" && isAsLeft(c, delivery.id, look.serves)) continue;
    if (typeof look.serves === "object" && stands(look.serves.version)) {
      if (look.lagging.length > 0)
        return wait(
          "replica-not-in-sync",
          `${delivery.name}: ${look.lagging.join(", ")} does not have the new value yet`,
          null,
        );
      continue;
    }
    if (c.state.rotation?.repair && goal !== null) return note({ fact: "delivery-lost", delivery: delivery.id });
    const stale = isOff(c, "propagation") ? null : mayBeStale(c, delivery);
    if (stale !== null) return stale;
    if (look.serves === "unknown") return wait("distributing", `nobody can tell what ${delivery.name} serves`, null);
    if (isOff(c, "drift") && !(typeof look.serves === "object" && look.serves.version === victim.id)) continue;
    const since =
      recorded?.confirmedAt == null ? "" : `, though it was right ${formatAgo(c.now.doc - recorded.confirmedAt)}`;
    return blocked(
      "drift",
      `${delivery.use} ${delivery.name} serves ${wordFor(look.serves)} instead of ${goal?.id ?? "a living key"}${since}`,
    );
  }
  return null;
};

/** What a store serves is what was left there, or what a write without an answer may have left. */
export function isAsLeft(c: Case, delivery: DeliveryId, serves: Serves): boolean {
  const left = deliveryOf(c.state, delivery)?.serves ?? null;
  if (serves === "nothing") return left === null;
  if (typeof serves !== "object") return serves === "unknown";
  return (
    left === null ||
    serves.version === left ||
    (versionOf(c.state, serves.version)?.leftOpen.includes(delivery) ?? false)
  );
}

export function wordFor(serves: unknown): string {
  if (serves !== null && typeof serves === "object" && "version" in serves) return String(serves.version);
  return serves === "nothing" ? "nothing" : "a value that is none of ours";
}

/** The issuer lists the wanted key as enabled, and accepts it, right before the call. */
export const newKeyAlive: Check = (c) => {
  const goal = wanted(c);
  // No wanted version: nothing serves the victim, or an outage was accepted; there is nothing to verify.
  if (isOff(c, "new-key-verified") || goal === null) return null;
  const key = keyOf(c, goal);
  if (key?.state !== "enabled")
    return wait("verifying", `the issuer lists the key of ${goal.id} as ${key?.state ?? "gone"}`, null);
  return accepts(c, goal.id) === "accepted"
    ? null
    : blocked("verify-rejected", `the issuer does not accept the key of ${goal.id}`);
};

/** Where the keys and stores live is what was recorded with them. */
export const bindingsHold: Check = (c) => bindingsOf(c);

/** Each store still says what was left there. Empty where nothing was ever delivered is no drift. */
export function drifted(c: Case): Decision | null {
  for (const delivery of c.rules.deliveries.filter(canLook)) {
    const strayed = strays(c, delivery, deliveryLook(c, delivery.id).serves);
    if (strayed !== null) return strayed;
  }
  return null;
}

/** What one delivery serves is neither what was left there nor what an open write may have left. */
export function strays(c: Case, delivery: DeliveryRules, serves: Serves): Decision | null {
  if (isOff(c, "drift") || c.state.rotation?.repair || isAsLeft(c, delivery.id, serves)) return null;
  const recorded = deliveryOf(c.state, delivery.id);
  const stale = mayBeStale(c, delivery);
  if (stale !== null) return stale;
  const since =
    recorded?.confirmedAt == null
      ? ""
      : `; it was last seen right at ${new Date(recorded.confirmedAt + c.now.wall - c.now.doc).toISOString()}`;
  return blocked(
    "drift",
    `${delivery.use} ${delivery.name} serves ${wordFor(serves)} instead of ${recorded?.serves ?? "nothing"}${since}`,
  );
}

/** A look from within the store's own delay after our write tells nothing of what it serves. */
export function mayBeStale(c: Case, delivery: DeliveryRules): Decision | null {
  const visible = (deliveryOf(c.state, delivery.id)?.writtenAt ?? -Infinity) + delivery.traits.timing.propagation;
  if (visible <= c.now.doc - c.seen.deliveriesAge) return null;
  const until = Math.max(visible, c.now.doc + 1);
  return wait("distributing", `${delivery.name} may still show what it served before our last write`, until);
}

/** Where the issuer, or one delivery, lives as far as it was described; the names that it writes are part of the place. */
function bindingOf(c: Case, what: "issuer" | DeliveryId): string | null {
  const seen = c.seen.described[what];
  if (seen === undefined || "failed" in seen) return null;
  const delivery = c.rules.deliveries.find((d) => d.id === what);
  return delivery === undefined ? seen.value.binding : placeOf(delivery, seen.value.binding);
}

export function bindingsOf(c: Case): Decision | null {
  const places: readonly { readonly what: string; readonly recorded: string | null; readonly name: string }[] = [
    { what: "issuer", recorded: c.state.issuerBinding, name: "the issuer" },
    ...c.rules.deliveries.map((d) => ({
      what: d.id,
      recorded: deliveryOf(c.state, d.id)?.binding ?? null,
      name: `${d.use} ${d.name}`,
    })),
  ];
  ask(c, ...places.map(({ what }): Query => ({ look: "describe", what })));
  for (const { what, recorded, name } of places) {
    const seen = c.seen.described[what];
    if (seen === undefined || "failed" in seen) continue;
    const binding = bindingOf(c, what);
    if (recorded !== null && recorded !== binding)
      return blocked("binding-changed", `${name} was ${recorded} and is now ${binding}`);
    const finding = seen.value.findings.find((f) => f.blocks || c.rules.strict);
    if (finding !== undefined)
      return blocked(
        finding.reason === "credentials-missing" ? "permission-missing" : finding.reason,
        finding.message,
        finding.hint,
      );
  }
  const lacks =
    c.state.issuerBinding === null ||
    c.rules.deliveries.some((d) => deliveryOf(c.state, d.id)?.binding == null) ||
    c.state.deliveries[0]?.id !== c.rules.deliveries[0]?.id;
  if (!lacks) return null;
  return note({
    fact: "bound",
    issuer: bindingOf(c, "issuer"),
    deliveries: c.rules.deliveries.map((d) => ({ id: d.id, use: d.use, name: d.name, binding: bindingOf(c, d.id) })),
  });
}

/**
 * Promise 4, in the order in which it is asked: what costs nothing first, what must be freshest last. Each runs
 * again before every destructive call, on observations of this very revision.
 */
export const PROMISE_4: readonly { readonly name: string; readonly check: Check }[] = [
  { name: "no hold", check: guardHolds },
  { name: "not paused", check: guardPause },
  { name: "no effect may still land", check: nothingMayLand },
  { name: "open writes written over", check: writtenOver },
  { name: "the last store serves the new version", check: overlapBegun },
  { name: "minimum overlap over", check: minimumOver },
  { name: "no delivery forgotten", check: nothingForgotten },
  { name: "stores looked at for a person, and at the maximum", check: storesLookedAt },
  { name: "the old key silent per consumer, required consumers adopted", check: oldKeyQuiet },
  { name: "bindings hold", check: bindingsHold },
  { name: "unwanted value discarded", check: discarded },
  { name: "every delivery confirmed by its proof, replicas in sync, no drift", check: storesConfirmed },
  { name: "the new key verified", check: newKeyAlive },
];

export function promise4(c: Case, victim: Version): Decision | null {
  for (const { check } of PROMISE_4) {
    const standing = check(c, victim);
    if (standing !== null) return standing;
  }
  return null;
}
