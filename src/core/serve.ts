import type { Case, Decision } from "./case.ts";
import {
  ask,
  attempt,
  authority,
  blocked,
  canLook,
  deliveryLook,
  hook,
  isOff,
  keyOf,
  killMayLand,
  lookAtStores,
  note,
  wait,
  wanted,
} from "./case.ts";
import { bindingsOf, drifted, isAcked, mayBeStale, strays } from "./checks.ts";
import type { DeliveryState, Version } from "./model.ts";
import { deliveryOf, versionOf } from "./model.ts";
import { isStagedStill } from "./orphans.ts";
import type { DeliveryRules } from "./rules.ts";
import { LONGEST_INTENT } from "./rules.ts";

/** The wanted version gets alive, staged, proven, promoted, put everywhere: in this order, each step seen to hold. */
export function serve(c: Case): Decision | null {
  const goal = wanted(c);
  if (goal === null || c.state.rotation === null) return null;
  return (
    revive(c, goal) ??
    stage(c, goal) ??
    prove(c, goal) ??
    bindings(c, goal) ??
    keepOld(c, goal) ??
    deliver(c, goal) ??
    afterDistribute(c, goal)
  );
}

/** Rollback: the key it leads back to must be enabled first. */
function revive(c: Case, goal: Version): Decision | null {
  const comesBack =
    goal.status === "disabled" ||
    (goal.status === "retiring" &&
      (goal.verification === null || goal.verification.last === "rejected") &&
      (c.state.lookAgainAt ?? 0) <= c.now.doc);
  if (!comesBack) return null;
  if (goal.compromised) return blocked("compromised", `${goal.id} has leaked and never comes back`);
  const late = killMayLand(c, goal.id);
  if (late !== null) return late;
  const key = keyOf(c, goal);
  if (key === null) return noWayBack(c, goal, `the issuer no longer lists the key of ${goal.id}`);
  if (isValueLost(c, goal)) return noWayBack(c, goal, `the value of ${goal.id} is in no store any more`);
  // Within the issuer's own delay after our disable it still shows, and accepts, the key as it was before.
  const shows = (goal.disabledAt ?? -Infinity) + c.rules.issuer.timing.propagation;
  if (key.state === "disabled" || shows > c.now.doc) return attempt(c, { do: "enable", version: goal.id });
  return goal.status === "disabled" ? note({ fact: "key-state", version: goal.id, state: "enabled" }) : null;
}

function isValueLost(c: Case, goal: Version): boolean {
  if (c.seen.held.has(goal.id) || isStagedStill(c, goal)) return false;
  return !c.rules.deliveries.filter(canLook).some((d) => {
    const { serves } = deliveryLook(c, d.id);
    return serves === "unknown" || (typeof serves === "object" && serves.version === goal.id);
  });
}

/** The newer version stays what stores shall serve. */
function noWayBack(c: Case, goal: Version, why: string): Decision {
  return c.state.rotation?.rollback
    ? note({ fact: "rollback-failed", version: goal.id, why })
    : blocked("nothing-to-roll-back-to", why);
}

function stage(c: Case, goal: Version): Decision | null {
  if (goal.status !== "pending" || goal.staged) return null;
  return attempt(c, { do: "stage", version: goal.id, delivery: authority(c).id });
}

/** Enough successes in a row, spread over time: one answer of a replicated service proves little. */
export function isProven(c: Case, version: Version): boolean {
  const v = version.verification;
  if (version.status === "current" || isOff(c, "verify-before-promote")) return true;
  if (v === null || v.successes < c.rules.verify.successes || v.firstSuccessAt === null) return false;
  return v.lastTryAt - v.firstSuccessAt >= c.rules.verify.spread;
}

function prove(c: Case, goal: Version): Decision | null {
  if (isProven(c, goal)) return null;
  const { successes, spread, deadline } = c.rules.verify;
  const v = goal.verification;
  const late = killMayLand(c, goal.id);
  if (late !== null) return late;
  if (v === null) return attempt(c, { do: "verify", version: goal.id });
  const parked = v.last !== "accepted" && c.now.doc - v.firstTryAt >= deadline;
  const pause =
    v.last === "accepted" ? spread / Math.max(1, successes - 1) : Math.min(5000, Math.max(100, deadline / 60));
  const next = v.lastTryAt + (parked ? Math.max(pause, c.rules.retry.backoff) : pause);
  if (next <= c.now.doc) return attempt(c, { do: "verify", version: goal.id });
  if (!parked)
    return wait(
      "verifying",
      v.last === "accepted" ? `accepted ${v.successes} of ${successes} times` : "not accepted yet",
      next,
    );
  return v.last === "rejected"
    ? {
        decision: "blocked",
        reason: "verify-rejected",
        message: `the issuer refuses the key of ${goal.id}; it is kept, and tried again by the next run`,
      }
    : wait("provider-unavailable", "the issuer does not say whether it accepts the new key", next);
}

/** Looked at before the first write of this version anywhere. */
function bindings(c: Case, goal: Version): Decision | null {
  const delivered = c.rules.deliveries.every((d) => isServed(deliveryOf(c.state, d.id), goal));
  return delivered ? null : bindingsOf(c);
}

function isServed(recorded: DeliveryState | null, goal: Version): boolean {
  return recorded !== null && recorded.serves === goal.id && recorded.confirmedAt !== null;
}

/** What is replaced must stay readable: an adopted value is kept in the authority, for a rollback puts it back. */
function keepOld(c: Case, goal: Version): Decision | null {
  const old = versionOf(c.state, c.state.rotation?.from ?? null);
  const needed =
    old !== null &&
    old.id !== goal.id &&
    !old.staged &&
    !old.compromised &&
    (old.status === "current" || old.status === "retiring");
  if (!needed || c.state.rotation?.overlapFrom !== null) return null;
  const served = c.rules.deliveries.filter(canLook).some((d) => {
    const { serves } = deliveryLook(c, d.id);
    return typeof serves === "object" && serves.version === old.id;
  });
  return served ? attempt(c, { do: "stage", version: old.id, delivery: authority(c).id }) : null;
}

function deliver(c: Case, goal: Version): Decision | null {
  const missing = c.rules.deliveries.filter((d) => !isServed(deliveryOf(c.state, d.id), goal));
  // The authority alone first: the mirrors follow what it serves.
  const leads = deliveryOf(c.state, authority(c).id)?.serves !== goal.id;
  let standing: Decision | null = null;
  for (const delivery of leads ? missing.slice(0, 1) : missing) {
    const step = canLook(delivery) ? write(c, delivery, goal) : overwrite(c, delivery, goal);
    if (step?.decision === "act" || step?.decision === "note") return step;
    // A store that has to be waited for does not hold up the next.
    standing ??= step;
  }
  return standing;
}

function write(c: Case, delivery: DeliveryRules, goal: Version): Decision | null {
  const late = killMayLand(c, goal.id);
  if (late !== null) return late;
  const recorded = deliveryOf(c.state, delivery.id);
  const look = deliveryLook(c, delivery.id);
  const version = typeof look.serves === "object" ? look.serves.version : null;
  const stale = recorded?.serves === version ? null : mayBeStale(c, delivery);
  if (stale !== null) return stale;
  if (version === goal.id) {
    const lags = look.lagging.length > 0;
    if (lags && recorded?.serves === goal.id)
      return wait(
        "replica-not-in-sync",
        `${delivery.name}: ${look.lagging.join(", ")} does not have the new value yet`,
        null,
      );
    return note({ fact: "delivery-seen", delivery: delivery.id, serves: goal.id, ref: look.ref, confirmed: !lags });
  }
  const strayed = strays(c, delivery, look.serves);
  if (strayed !== null) return strayed;
  const staged = delivery.id === authority(c).id;
  return attempt(c, {
    do: staged ? "promote" : "put",
    version: goal.id,
    delivery: delivery.id,
    expected: look.ref,
    fresh: false,
  });
}

/** A mirror that cannot be read: its receipt is all there is. */
function overwrite(c: Case, delivery: DeliveryRules, goal: Version): Decision | null {
  const recorded = deliveryOf(c.state, delivery.id);
  const received = recorded?.serves === goal.id && recorded.writtenAt !== null;
  if (!received)
    return (
      killMayLand(c, goal.id) ??
      attempt(c, { do: "put", version: goal.id, delivery: delivery.id, expected: recorded?.ref ?? null, fresh: false })
    );
  if (delivery.traits.proof === "receipt")
    return note({ fact: "delivery-seen", delivery: delivery.id, serves: goal.id, ref: recorded.ref, confirmed: true });
  const acked = isAcked(c, delivery);
  const told = c.rules.hooks.afterDistribute > 0 ? hook(c, "afterDistribute") : undefined;
  if (acked || told === null)
    return note({ fact: "delivery-seen", delivery: delivery.id, serves: goal.id, ref: recorded.ref, confirmed: true });
  if (told !== undefined) return told;
  return wait(
    "distributing",
    `nothing proves that ${delivery.use} ${delivery.name} serves the new value: keyturn ack ${c.rules.name} --store ${delivery.name}`,
    null,
  );
}

/** The overlap starts once the last store's readers get the new value and its hooks are done. */
function afterDistribute(c: Case, goal: Version): Decision | null {
  if (c.state.rotation?.overlapFrom !== null) return null;
  const pending = hook(c, "afterDistribute");
  if (pending !== null) return pending;
  const ready = c.rules.deliveries.map((d) => {
    const recorded = deliveryOf(c.state, d.id);
    return (recorded?.writtenAt ?? recorded?.confirmedAt ?? c.now.doc) + d.traits.timing.propagation;
  });
  const from = Math.max(c.now.doc, ...ready);
  const again = c.state.rotation.rollback !== null || c.state.rotation.reason === "emergency";
  const settle = Math.max(c.rules.issuer.timing.settle, ...c.rules.deliveries.map((d) => d.traits.timing.settle));
  return note(
    { fact: "overlap-started", from },
    ...(again && goal.verification !== null
      ? [
          {
            fact: "look-again",
            in: Math.min(LONGEST_INTENT, c.state.lease?.duration ?? LONGEST_INTENT) + settle,
          } as const,
        ]
      : []),
  );
}

/** After a rollback, an enable, an emergency: what is served is looked at once more, when nothing older can land. */
export function lookAgain(c: Case): Decision | null {
  if (c.state.lookAgainAt === null || c.state.lookAgainAt > c.now.doc) return null;
  const goal = wanted(c);
  if (goal === null || goal.keyId === null || goal.status !== "current") return note({ fact: "looked-again" });
  const late = killMayLand(c, goal.id);
  if (late !== null) return late;
  ask(c, { look: "keys" }, { look: "accepts", version: goal.id }, ...lookAtStores(c));
  const strayed = drifted(c);
  if (strayed !== null) return strayed;
  const key = keyOf(c, goal);
  if (key?.state === "disabled" && !goal.compromised) return attempt(c, { do: "enable", version: goal.id });
  const seen = c.seen.accepts[goal.id];
  if (seen !== undefined && "value" in seen && seen.value === "rejected")
    return blocked("verify-rejected", `stores serve ${goal.id}, and the issuer does not accept it`);
  return note({ fact: "looked-again" });
}
