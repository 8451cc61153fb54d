import type { Action, Case, Decision } from "./case.ts";
import {
  ask,
  attempt,
  blocked,
  canLook,
  deliveryLook,
  hook,
  listing,
  lookAtStores,
  note,
  unsettled,
  wait,
} from "./case.ts";
import { bindingsOf, drifted, guardPause, outageAccepted, writeOver } from "./checks.ts";
import { granule, isStagedStill, leaving, leftover, livingLeftover } from "./orphans.ts";
import type { Version, VersionId } from "./model.ts";
import { deliveryOf, living, versionOf } from "./model.ts";
import { datesOf, type Listing } from "./observed.ts";
import { revoke } from "./retire.ts";
import { rememberAll } from "./usage.ts";

/** A new key, once everything that could spoil it has been looked at: promise 8. */
export function mint(c: Case): Decision | null {
  const { state } = c;
  const { rotation } = state;
  if (rotation === null || rotation.rollback !== null || rotation.to !== null) return null;
  if (state.stopped !== null) return blocked(state.stopped.reason, state.stopped.message);
  const paused = guardPause(c);
  if (paused !== null) return paused;
  const left = livingLeftover(c);
  if (left !== null) return left;
  // What the preflight found wrong is told before a look that fails of it.
  const preflight = bindingsOf(c);
  if (preflight !== null) return preflight;
  ask(c, { look: "keys" }, ...lookAtStores(c));
  const standing =
    unmanaged(c) ?? drifted(c) ?? unsettled(c) ?? gauge(c) ?? ghosts(c) ?? slots(c) ?? hook(c, "beforeRotate");
  if (standing !== null) return standing;
  return laterGranule(c) ?? attempt(c, issue(c, listing(c)));
}

function issue(c: Case, listed: Listing): Action {
  const { settle, timeGranularity } = c.rules.issuer.timing;
  const mint = { listedAt: listed.asOf, listed: listed.keys.map((key) => key.keyId), within: settle + timeGranularity };
  return { do: "issue", version: versionName(c), mint };
}

function versionName(c: Case): VersionId {
  return `v${c.state.minted + 1}-${c.fresh.slice(0, 8)}`;
}

/** Without labels the key of this mint must be tellable by its creation time. */
function laterGranule(c: Case): Decision | null {
  const grain = c.rules.issuer.timing.timeGranularity;
  if (c.rules.issuer.labels || grain === 0) return null;
  const { asOf } = listing(c);
  if (granule(asOf + c.seen.keysAge, grain) > granule(asOf, grain)) return null;
  const until = c.now.doc + (grain - (asOf % grain)) - c.seen.keysAge + 1;
  return {
    decision: "wait",
    reason: "settling",
    message: "a new key is issued in the issuer's next second, so that it can be told from others",
    until,
    keep: true,
  };
}

function unmanaged(c: Case): Decision | null {
  if (c.state.versions.some((v) => v.keyId !== null)) return null;
  for (const delivery of c.rules.deliveries.filter(canLook)) {
    if (deliveryLook(c, delivery.id).serves !== "nothing")
      return blocked("unmanaged", `${delivery.use} ${delivery.name} already serves a value that nobody adopted`);
  }
  return null;
}

/** Usage is looked at when a rotation starts: what is learnt of gaps now shortens or lengthens the overlap. */
function gauge(c: Case): Decision | null {
  const from = versionOf(c.state, c.state.rotation?.from ?? null);
  if (
    c.rules.usage === "none" ||
    from === null ||
    (from.usageLookedAt ?? -Infinity) >= (c.state.rotation?.startedAt ?? 0)
  )
    return null;
  ask(c, { look: "usage" });
  return note({ fact: "usage-looked", memories: { [from.id]: rememberAll(from, c.rules, c.seen, c.now.doc) } });
}

/** A dead key of ours that is still listed: a lagging listing, or it is not dead after all. */
function ghosts(c: Case): Decision | null {
  for (const key of listing(c).keys) {
    const dead = c.state.versions.find((v) => v.keyId === key.keyId && v.status === "destroyed");
    if (dead === undefined) continue;
    const { listSettle, settle } = c.rules.issuer.timing;
    const until = (dead.deletedAt ?? c.now.doc) + listSettle + settle;
    if (until > c.now.doc) return wait("settling", `the listing still shows ${key.keyId}, which was deleted`, until);
    return note({ fact: "key-found", version: dead.id, keyId: key.keyId, dates: datesOf(key), inferred: false });
  }
  return null;
}

function slots(c: Case): Decision | null {
  const { keys } = listing(c);
  const { maxKeys } = c.rules.issuer;
  if (keys.length < maxKeys) return null;
  const alive = living(c.state).filter((v) => keys.some((key) => key.keyId === v.keyId));
  const freed = leaving(c) ?? freeSlot(c, alive) ?? leftover(c);
  if (freed !== null) return freed;
  const strangers = keys.filter((key) => !alive.some((v) => v.keyId === key.keyId));
  if (maxKeys === 1 && strangers.length === 0)
    return blocked(
      "no-overlap-consent",
      "the issuer holds one key, so the old one has to die before the new one is made",
    );
  const which = strangers.map((key) => key.keyId).join(", ");
  return strangers.length > 0
    ? blocked("slots-full-foreign", `the issuer holds ${keys.length} of ${maxKeys} keys; not ours: ${which}`)
    : blocked(
        "slots-full-ours",
        `the issuer holds ${keys.length} of ${maxKeys} keys, all ours: ${alive.map((v) => v.id).join(", ")}`,
      );
}

/** What may go, or be gone back to, when the new key has no room. */
function freeSlot(c: Case, alive: readonly Version[]): Decision | null {
  const served = new Set(
    c.rules.deliveries.map((d) => {
      const serves = canLook(d) ? deliveryLook(c, d.id).serves : { version: deliveryOf(c.state, d.id)?.serves ?? "" };
      return typeof serves === "object" ? serves.version : "";
    }),
  );
  const leaked = alive.filter((v) => v.compromised);
  // A mirror that cannot be read and whose write was left open may serve any of them, as may one of whose value
  // nobody has the original any more.
  const sure = c.rules.deliveries.every((d) =>
    canLook(d) ? deliveryLook(c, d.id).serves !== "unknown" : deliveryOf(c.state, d.id)?.writtenAt != null,
  );
  const unserved = leaked.find((v) => !served.has(v.id) && c.rules.deliveries.every((d) => !v.leftOpen.includes(d.id)));
  if (unserved !== undefined && sure) return revoke(c, unserved);
  if (c.state.incident !== null) {
    // A write of it was left open and nothing serves it now: what is served is written once more, so that it can die.
    const open = leaked.find((v) => !served.has(v.id) && v.leftOpen.length > 0);
    const first = c.rules.deliveries[0];
    const serves = first === undefined ? null : deliveryLook(c, first.id).serves;
    const over =
      open === undefined || serves === null || typeof serves !== "object" ? null : writeOver(c, open, serves.version);
    if (over !== null) return over;
    const sound = alive.find((v) => !v.compromised && v.status !== "abandoned" && v.deletedAt === null);
    if (sound?.staged) {
      const present = isStagedStill(c, sound);
      return note(
        present ? { fact: "turned-to", version: sound.id } : { fact: "staged-seen", version: sound.id, present },
      );
    }
    if (sound?.disabledAt != null && !served.has(sound.id)) return revoke(c, sound);
    const apart = leaked.length === alive.length ? converge(c) : null;
    if (apart !== null) return apart;
  }
  const consented = alive.find((v) => outageAccepted(c, v));
  return consented === undefined ? null : revoke(c, consented);
}

/**
 * Every slot holds a leaked key that some store serves: the one the authority serves goes to the other stores too,
 * so that the other key can die and its slot be used. Never a version that no store serves.
 */
function converge(c: Case): Decision | null {
  const [first, ...mirrors] = c.rules.deliveries;
  const goal = first === undefined ? null : deliveryLook(c, first.id).serves;
  if (goal === null || typeof goal !== "object") return null;
  for (const mirror of mirrors) {
    const recorded = deliveryOf(c.state, mirror.id);
    const look = canLook(mirror)
      ? deliveryLook(c, mirror.id)
      : { serves: { version: recorded?.writtenAt == null ? "" : (recorded.serves ?? "") }, ref: null };
    if (typeof look.serves === "object" && look.serves.version === goal.version) continue;
    return attempt(c, { do: "put", version: goal.version, delivery: mirror.id, expected: look.ref, fresh: false });
  }
  return null;
}
