import type { Case, Decision } from "./case.ts";
import { ask, attempt, hook, keyOf, killMayLand, note, wait, wanted } from "./case.ts";
import { guardHolds, isSpent, outageAccepted, promise4 } from "./checks.ts";
import { formatDuration } from "./duration.ts";
import type { Fact } from "./facts.ts";
import type { Version } from "./model.ts";
import type { ObservedKey } from "./observed.ts";
import type { ReasonCode } from "./reasons.ts";
import { believeGone, backOff } from "./orphans.ts";
import { nextLookAt, rememberAll } from "./usage.ts";

/** Every key of ours but the wanted one ends: leaked ones first, then the oldest. */
export function retireOthers(c: Case): Decision | null {
  const goal = wanted(c)?.id;
  const victims = c.state.versions.filter(
    (v) =>
      v.id !== goal &&
      v.keyId !== null &&
      (v.status === "retiring" || v.status === "disabled" || v.status === "current"),
  );
  const urgent = [...victims].sort((a, b) => Number(b.compromised) - Number(a.compromised));
  let standing: Decision | null = null;
  for (const victim of urgent) {
    const decision = revoke(c, victim);
    // One that has to wait does not hold up another.
    if (
      decision !== null &&
      (decision.decision === "act" || decision.decision === "look" || decision.decision === "note")
    )
      return decision;
    standing = soonest(standing, decision);
  }
  return standing;
}

function soonest(a: Decision | null, b: Decision | null): Decision | null {
  if (a === null || b === null) return a ?? b;
  if (a.decision === "blocked" || b.decision === "blocked") return a.decision === "blocked" ? a : b;
  if (a.decision !== "wait" || b.decision !== "wait") return a;
  return (b.until ?? Infinity) < (a.until ?? Infinity) ? b : a;
}

/** The next step that takes one key out of service for good, or what it waits for. */
export function revoke(c: Case, victim: Version): Decision | null {
  return capAtGrace(c, victim, next(c, victim));
}

function next(c: Case, victim: Version): Decision | null {
  if (victim.deletedAt !== null)
    return guardHolds(c, victim) ?? backOff(c, victim) ?? believeGone(c, victim, keyOf(c, victim));
  const { canDisable } = c.rules.issuer;
  if (canDisable && victim.status !== "disabled") return backOff(c, victim) ?? disable(c, victim);
  return (canDisable ? soak(c, victim) : null) ?? backOff(c, victim) ?? end(c, victim);
}

/** What nobody can answer any more, or nobody has to, once the key is gone. */
const MOOT: ReadonlySet<ReasonCode> = new Set(["usage-unknown", "overlap-maximum"]);

/** Of a key that is gone nobody can say any more how it was used: a delete whose answer was lost, or a stranger's. */
function beforeRevoke(c: Case, victim: Version): Decision | null {
  const standing = promise4(c, victim);
  const isMoot = standing === null || ("reason" in standing && MOOT.has(standing.reason));
  const isGone = isMoot && keyOf(c, victim) === null;
  return isGone ? note({ fact: "key-state", version: victim.id, state: "gone" }) : standing;
}

function disable(c: Case, victim: Version): Decision | null {
  const standing = beforeRevoke(c, victim);
  if (standing !== null) return standing;
  const key = keyOf(c, victim) as ObservedKey;
  if (key.state === "disabled") return note({ fact: "key-state", version: victim.id, state: "disabled" });
  return hook(c, "beforeRevoke") ?? attempt(c, { do: "disable", version: victim.id });
}

function end(c: Case, victim: Version): Decision | null {
  const standing = beforeRevoke(c, victim);
  if (standing !== null) return standing;
  const key = keyOf(c, victim) as ObservedKey;
  const shows = (victim.disabledAt ?? -Infinity) + c.rules.issuer.timing.propagation;
  if (key.state === "enabled" && shows > c.now.doc)
    return wait("settling", `the listing may still show ${victim.keyId} as it was before its disable`, shows);
  // A leaked key that somebody switched on again never counts as revived: it is switched off once more.
  if (key.state === "enabled" && c.rules.issuer.canDisable && victim.compromised)
    return attempt(c, { do: "disable", version: victim.id });
  if (key.state === "enabled" && c.rules.issuer.canDisable)
    return note({ fact: "key-state", version: victim.id, state: "enabled" });
  return hook(c, "beforeRevoke") ?? attempt(c, { do: "delete", version: victim.id });
}

/** Disabled, not deleted: rollback is one call, and a failed use may still speak up. */
function soak(c: Case, victim: Version): Decision | null {
  if (victim.compromised || isSpent(c, victim) || outageAccepted(c, victim)) return null;
  const until = (victim.disabledAt ?? c.now.doc) + c.rules.soak.for;
  if (until <= c.now.doc) return null;
  const resting = (next: number, facts: readonly Fact[] = []): Decision =>
    wait("soaking", `the old key is disabled and is deleted in ${formatDuration(until - c.now.doc)}`, next, facts);
  const glance = nextGlance(c, victim, until);
  if (!watches(c) || glance > c.now.doc) return resting(glance);
  ask(c, { look: "usage" });
  const memories = rememberAll(victim, c.rules, c.seen, c.now.doc);
  const looked = { fact: "usage-looked", memories: { [victim.id]: memories } } as const;
  // Only what is newer than the look before: each refused use speaks up once.
  const refused = Object.entries(memories).flatMap(([id, memory]) =>
    Object.entries(memory.who).filter(
      ([who, m]) => !m.own && (m.deniedAt ?? -Infinity) > (victim.usage[id]?.who[who]?.deniedAt ?? -Infinity),
    ),
  );
  const told =
    refused.length === 0
      ? []
      : [
          {
            fact: "noticed",
            event: "failed-use",
            data: { version: victim.id, who: refused.map(([who]) => who).join(", ") },
          } as const,
        ];
  const ours = refused.some(([, m]) => m.count > 0);
  // In a pause, too: to switch on neither starts nor destroys anything.
  if (ours && c.rules.soak.onFailedUse === "reenable" && !victim.expedite) return reenable(c, victim, looked);
  return resting(nextGlance(c, { ...victim, usageLookedAt: c.now.doc }, until), [looked, ...told]);
}

/** Only for a caller that used this key before it was disabled; a leaked key never gets here. */
function reenable(c: Case, victim: Version, looked: Fact): Decision {
  const key = keyOf(c, victim);
  if (key?.state === "enabled") return note(looked, { fact: "key-state", version: victim.id, state: "enabled" });
  return killMayLand(c, victim.id) ?? attempt(c, { do: "enable", version: victim.id });
}

function watches(c: Case): boolean {
  return c.rules.usage !== "none" && c.rules.usage.some((m) => m.traits.seesDenied);
}

function nextGlance(c: Case, victim: Version, until: number): number {
  if (!watches(c)) return until;
  return Math.min(until, Math.max(nextLookAt(victim, [], c.rules), (victim.usageLookedAt ?? 0) + c.rules.soak.for / 8));
}

/** Inside the grace of an incident usage is waited for; at its end it no longer is. */
function capAtGrace(c: Case, victim: Version, decision: Decision | null): Decision | null {
  const grace = c.state.incident?.graceUntil;
  if (decision?.decision !== "wait" || grace === undefined || !victim.compromised || grace <= c.now.doc)
    return decision;
  return decision.until === null || decision.until > grace ? { ...decision, until: grace } : decision;
}
