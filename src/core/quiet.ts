import type { Case, Decision } from "./case.ts";
import { ask, failed, isOff, note, wait, wanted } from "./case.ts";
import { formatAgo, formatDuration } from "./duration.ts";
import type { Fact } from "./facts.ts";
import type { Failed } from "./observed.ts";
import type { UsageMemory, Version, VersionId } from "./model.ts";
import { versionOf } from "./model.ts";
import type { Judgement } from "./usage.ts";
import { judge, nextLookAt, rememberAll } from "./usage.ts";

/** Looks at usage when it is time, and says whether anybody still needs the victim. */
export function quiet(c: Case, victim: Version): Decision | null {
  if (c.rules.usage === "none") return isOff(c, "adoption") ? null : blindly(c, victim);
  const before = judge(victim, wanted(c), c);
  if (c.seen.usage === null) {
    const next = nextLookAt(victim, before, c.rules);
    if (next > c.now.doc)
      return (
        overdue(c, before) ??
        standing(c, victim, before, next, []) ??
        wait("settling", "usage was looked at a moment ago", next)
      );
  }
  ask(c, { look: "usage" });
  const looked = afterLook(c, victim);
  const old = versionOf(looked.state, victim.id) as Version;
  const judgements = judge(old, versionOf(looked.state, wanted(c)?.id ?? null), { ...c, state: looked.state });
  const stands = standing({ ...c, state: looked.state }, old, judgements, nextLookAt(old, judgements, c.rules), [
    looked.fact,
    ...reminders(c, judgements),
  ]);
  // News is remembered before it is acted on: a refused use speaks up once, and adoption stays known.
  const news = refusals(old) > refusals(victim) || adopted(judgements) > adopted(before);
  return stands ?? (news ? note(looked.fact) : null);
}

/** No signal exists: acks stand in, and reminders and the maximum hold as ever. */
function blindly(c: Case, victim: Version): Decision | null {
  const judgements = judge(victim, wanted(c), c);
  const missing = judgements.filter((j) => j.mustAdopt && !j.adopted);
  if (missing.length === 0) return null;
  return overdue(c, judgements) ?? atMaximum(c, missing, []) ?? adoption(judgements, []);
}

function adopted(judgements: readonly Judgement[]): number {
  return judgements.filter((j) => j.adopted).length;
}

function refusals(version: Version): number {
  return Math.max(
    -Infinity,
    ...Object.values(version.usage).flatMap((memory) => Object.values(memory.who).map((m) => m.deniedAt ?? -Infinity)),
  );
}

/** The document as it will be once the look is recorded. */
function afterLook(c: Case, victim: Version): { readonly state: Case["state"]; readonly fact: Fact } {
  const memories: Record<VersionId, Readonly<Record<string, UsageMemory>>> = {};
  for (const version of [victim, wanted(c)])
    if (version !== null) memories[version.id] = rememberAll(version, c.rules, c.seen, c.now.doc);
  const versions = c.state.versions.map((v) =>
    memories[v.id] === undefined ? v : { ...v, usage: memories[v.id] ?? v.usage, usageLookedAt: c.now.doc },
  );
  return { state: { ...c.state, versions }, fact: { fact: "usage-looked", memories } };
}

function standing(
  c: Case,
  victim: Version,
  judgements: readonly Judgement[],
  next: number,
  facts: readonly Fact[],
): Decision | null {
  const unlooked = failedLook(c);
  if (!isOff(c, "old-key-quiet")) {
    if (unlooked !== null && judgements.some((j) => j.verdict !== "quiet")) {
      const known = judgements.map((j) => sentence(c, victim, { ...j, why: null })).join("; ");
      const message = `usage cannot be looked at: ${unlooked.message}; last known: ${known}`;
      const decision = failed({ ...unlooked, message });
      return decision.decision === "wait" ? { ...decision, until: next, facts } : { ...decision, facts };
    }
    const users = judgements.filter((j) => j.verdict === "in-use");
    const unknown = judgements.filter((j) => j.verdict === "unknown");
    if (users.length > 0)
      return (
        atMaximum(c, users, facts) ??
        wait("old-key-in-use", users.map((j) => sentence(c, victim, j)).join("; "), next, facts)
      );
    if (unknown.length > 0)
      return (
        atMaximum(c, unknown, facts) ??
        wait("usage-unknown", unknown.map((j) => sentence(c, victim, j)).join("; "), next, facts)
      );
  }
  // Without a wanted key (an incident frees a slot) there is nothing to be adopted yet.
  if (isOff(c, "adoption") || wanted(c) === null) return null;
  const late = adoption(judgements, facts, next);
  return late === null
    ? null
    : (atMaximum(
        c,
        judgements.filter((j) => j.mustAdopt && !j.adopted),
        facts,
      ) ?? late);
}

function adoption(
  judgements: readonly Judgement[],
  facts: readonly Fact[],
  next: number | null = null,
): Decision | null {
  const missing = judgements.filter((j) => j.mustAdopt && !j.adopted).map((j) => j.name);
  return missing.length === 0
    ? null
    : wait("not-adopted", `${missing.join(", ")} not yet seen on the new key`, next, facts);
}

/** The newest look failed: that is today's news, whatever was known before. */
function failedLook(c: Case): Failed | null {
  if (c.rules.usage === "none" || c.seen.usage === null) return null;
  for (const { id, optional } of c.rules.usage) {
    const seen = c.seen.usage[id];
    if (!optional && seen !== undefined && "failed" in seen) return seen.failed;
  }
  return null;
}

/** One consumer in the words of `status`: the floor explains itself. */
export function sentence(c: Pick<Case, "now">, victim: Version, j: Judgement): string {
  const key = `old key …${(victim.keyId ?? victim.id).slice(-4)}`;
  const used =
    j.lastAt === null
      ? `${j.name} never seen`
      : `${j.name} ${formatAgo(c.now.doc - j.lastAt)}${j.by === null ? "" : ` by ${j.by}`}`;
  const gap = j.longestGap > 0 ? `, longest gap ${formatDuration(j.longestGap)}` : "";
  const by = j.quietBy === null ? "" : `; quiet in ${formatDuration(j.quietBy - c.now.doc)} at the earliest`;
  return `${key}: ${used}${gap}${j.verdict === "unknown" && j.why !== null ? ` (${j.why})` : ""}${by}`;
}

function maximumAt(c: Case): number {
  return (c.state.rotation?.overlapFrom ?? c.now.doc) + c.rules.overlap.maximum;
}

/** At the maximum nothing is revoked: a person is asked (`block`), or told and the waiting goes on (`alert`). */
function atMaximum(c: Case, who: readonly Judgement[], facts: readonly Fact[]): Decision | null {
  if (maximumAt(c) > c.now.doc || c.rules.overlap.onMaximum === "alert") return null;
  return {
    decision: "blocked",
    reason: "overlap-maximum",
    message: `${who.map((j) => j.name).join(", ")} still needs the old key after ${formatDuration(c.rules.overlap.maximum)}`,
    facts,
  };
}

/** A maximum reached between two looks is told at once. */
function overdue(c: Case, judgements: readonly Judgement[]): Decision | null {
  const facts = reminders(c, judgements);
  return facts.length === 0 ? null : note(...facts);
}

/** Stragglers are named once the overlap has lasted `remind`, then every `remind`, and at the maximum. */
function reminders(c: Case, judgements: readonly Judgement[]): readonly Fact[] {
  const { rotation } = c.state;
  const who = judgements.filter((j) => j.verdict === "in-use" || (j.mustAdopt && !j.adopted)).map((j) => j.name);
  if (rotation === null || rotation.overlapFrom === null || who.length === 0) return [];
  if (maximumAt(c) <= c.now.doc && rotation.escalatedAt === null) return [{ fact: "escalated", who }];
  const since = rotation.remindedAt ?? rotation.overlapFrom;
  return since + c.rules.overlap.remind <= c.now.doc ? [{ fact: "reminded", who }] : [];
}
