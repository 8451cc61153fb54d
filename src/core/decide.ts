import type { Case, Decision } from "./case.ts";
import { ask, blocked, hook, isOff, lookAtStores, note, unsettled, Unanswered, wait, wanted } from "./case.ts";
import { bindingsOf, drifted, guardPause, newKeyAlive, storesConfirmed } from "./checks.ts";
import { formatDuration } from "./duration.ts";
import { mint } from "./mint.ts";
import type { Intent } from "./model.ts";
import { deliveryOf, living } from "./model.ts";
import { cleanUp, leftover, resolveMints } from "./orphans.ts";
import { retireOthers, revoke } from "./retire.ts";
import { settleOf } from "./rules.ts";
import { lookAgain, serve } from "./serve.ts";

/** One reasoned rule: a decision, or null when it has nothing to say. */
type Rule = (c: Case) => Decision | null;

/**
 * The rules in the order in which they are asked; the first with something to say decides.
 *
 * The goal never changes within a rotation but by a person's word: one wanted version, alive, proven and served by
 * every store; every other key of ours dead. Each rule closes one gap between the world and that goal, so it does not
 * matter who closed the earlier ones, or how often this was asked before.
 */
export const RULES: readonly { readonly name: string; readonly rule: Rule }[] = [
  { name: "an intent found open is closed as unknown, never performed again", rule: openIntent },
  { name: "mints without an answer are resolved", rule: resolveMints },
  { name: "keys nobody will use are removed", rule: cleanUp },
  { name: "leaked keys die first when a person asked for it", rule: revokeFirst },
  { name: "a rotation begins when it is due", rule: beginWhenDue },
  { name: "a new key is minted", rule: mint },
  { name: "the wanted version is served everywhere", rule: serve },
  { name: "what is served is looked at once more", rule: lookAgain },
  { name: "every other key is retired", rule: retireOthers },
  { name: "the rotation ends", rule: finish },
];

/** What to do next for one secret. Pure: time, randomness and everything observed are arguments. */
export function decide(c: Case): Decision {
  try {
    for (const { rule } of RULES) {
      const decision = rule(c);
      if (decision !== null) return decision;
    }
  } catch (thrown) {
    if (thrown instanceof Unanswered) return thrown.decision;
    throw thrown;
  }
  return { decision: "done", reason: "not-due", message: "nothing is due" };
}

/** Whether the world is still as the document says, for people who ask while nothing is to be done. */
export function inspect(c: Case): Decision {
  try {
    const goal = wanted(c);
    if (goal !== null) {
      ask(c, ...lookAtStores(c));
      const strayed = bindingsOf(c) ?? drifted(c) ?? newKeyAlive(c, goal);
      if (strayed !== null && strayed.decision !== "note") return strayed;
    }
  } catch (thrown) {
    if (thrown instanceof Unanswered) return thrown.decision;
    throw thrown;
  }
  return { decision: "done", reason: "not-due", message: "nothing is due" };
}

/** Replaying it could kill a key that a person brought back meanwhile; the world is looked at instead. */
function openIntent(c: Case): Decision | null {
  const { intent } = c.state;
  if (intent === null) return null;
  if (isOff(c, "no-replay")) return replay(c, intent);
  return note({
    fact: "closed",
    intent,
    closing: { how: "unknown", settle: settleOf(c.rules, intent.effect, intent.delivery) },
  });
}

/** For the simulation alone: what every naive engine does. */
function replay(c: Case, { effect, version, delivery }: Intent): Decision {
  const settle = settleOf(c.rules, effect, delivery);
  if (effect === "enable" || effect === "disable" || effect === "delete")
    return { decision: "act", action: { do: effect, version } };
  if (delivery === null || effect === "issue")
    return note({ fact: "closed", intent: c.state.intent as Intent, closing: { how: "unknown", settle } });
  if (effect === "stage" || effect === "discard") return { decision: "act", action: { do: effect, version, delivery } };
  const expected = deliveryOf(c.state, delivery)?.ref ?? null;
  return { decision: "act", action: { do: effect, version, delivery, expected, fresh: false } };
}

function revokeFirst(c: Case): Decision | null {
  const { incident, rotation } = c.state;
  if (!incident?.revokeFirst || !incident.acceptOutage || rotation === null) return null;
  const goal = wanted(c)?.id;
  for (const victim of c.state.versions) {
    const alive = victim.status === "current" || victim.status === "retiring";
    if (
      !victim.compromised ||
      !alive ||
      victim.id === goal ||
      victim.keyId === null ||
      victim.disabledAt !== null ||
      victim.deletedAt !== null
    )
      continue;
    const decision = revoke(c, victim);
    if (decision !== null) return decision;
  }
  return null;
}

function beginWhenDue(c: Case): Decision | null {
  if (c.state.rotation !== null) return null;
  const left = leftover(c);
  if (left !== null) return left;
  const { stopped, paused } = c.state;
  const served = wanted(c);
  if (c.state.lookAgainAt !== null) return null;
  if (stopped !== null) return blocked(stopped.reason, stopped.message);
  if (!c.rules.enabled || c.due.at === null || !c.due.due) {
    return {
      decision: "done",
      reason: "not-due",
      message: served === null && living(c.state).length === 0 ? "nothing issued or adopted yet" : "nothing is due",
    };
  }
  if (paused !== null) return guardPause(c);
  const opens = c.due.opensAt;
  if (opens !== null)
    return wait(
      "outside-window",
      `due; its window opens in ${formatDuration(opens - c.now.wall)}`,
      c.now.doc + (opens - c.now.wall),
    );
  return note({
    fact: "begun",
    id: `r-${c.fresh.slice(0, 12)}`,
    reason: "scheduled",
    actor: "schedule",
    ...(c.due.expiresAt !== undefined && { expiresAt: c.due.expiresAt }),
  });
}

function finish(c: Case): Decision | null {
  if (c.state.rotation === null) return null;
  const goal = wanted(c);
  if (goal === null && c.state.rotation.rollback === null)
    return blocked("nothing-to-roll-back-to", "no version is wanted");
  const leaked = living(c.state).find((v) => v.compromised);
  if (leaked !== undefined)
    return blocked("compromised", `${leaked.id} has leaked and still lives`, `keyturn emergency ${c.rules.name}`);
  const landing = unsettled(c) ?? leftover(c);
  if (landing !== null) return landing;
  if (c.state.lookAgainAt !== null)
    return wait("settling", "what is served is looked at once more, later", c.state.lookAgainAt);
  // The last look of the rotation: what it leaves behind is what it meant to.
  const strayed = goal === null ? null : storesConfirmed(c, goal);
  if (strayed !== null) return strayed;
  return hook(c, "afterDone") ?? note({ fact: "ended" });
}
