import { EVERYTHING } from "../commands/choose.ts";
import { rowOf } from "../commands/members.ts";
import { subjectOf } from "../commands/subject.ts";
import type { Duration } from "../core/duration.ts";
import { UserError } from "../core/errors.ts";
import { versionOf, type SecretState } from "../core/model.ts";
import type { Now, SecretRules } from "../core/rules.ts";
import { judge } from "../core/usage.ts";
import { wantedId } from "../core/wanted.ts";
import type { Queue, Wake } from "../ports/queue.ts";
import type { Loaded } from "../ports/state.ts";
import type { Standing } from "../telemetry/metrics.ts";
import type { Generation } from "./generation.ts";
import { leaseEnd, restOf } from "./turn.ts";

/** Kept before they are added. */
const MANY = 500;

/**
 * Reads every document and adds what they say is due and the queue has forgotten, or knows from an older document,
 * an older pause or another policy: a person's word comes in this way. One document at a time is held in memory.
 *
 * @throws UserError `state-damaged` when all that can be read was, ProviderError when the state does not answer
 */
export async function sweep(generation: Generation, queue: Queue, stands: (standing: Standing) => void): Promise<void> {
  const { policy, engine } = generation;
  // Before the documents: a secret whose turn ends meanwhile may get one turn more, and none gets one too few.
  const waiting = await queue.waiting();
  const everything = (await engine.state.load(EVERYTHING))?.state ?? null;
  const missing = new Set(policy.secrets.keys());
  let wakes: Wake[] = [];
  const flush = async (): Promise<void> => {
    await queue.add(wakes);
    wakes = [];
  };
  const consider = async (name: string, loaded: Loaded | null): Promise<void> => {
    const secret = policy.secrets.get(name);
    if (secret === undefined) return;
    missing.delete(name);
    const seen = generation.stamp(name, loaded?.state ?? null, everything);
    const job = waiting.get(name);
    if (job?.isTaken) return;
    // Whoever held its lease is gone, and what it had set itself to do with it.
    const isLeft = loaded !== null && leftOver(loaded, generation) && (job?.in ?? 0) > 0;
    if (job?.seen === seen && !isLeft) return;
    const wait = await waitOf(generation, name, loaded);
    if (wait !== null) wakes.push({ secret: name, in: wait, seen });
    if (wakes.length >= MANY) await flush();
  };
  let damage: UserError | null = null;
  try {
    for await (const loaded of engine.state.loadAll()) {
      const { name } = loaded.state;
      await consider(name, loaded);
      if (policy.secrets.has(name)) stands(await standingOf(generation, loaded, everything));
    }
  } catch (error) {
    // Told after the others were handed out: one that cannot be read keeps nobody waiting.
    if (!(error instanceof UserError)) throw error;
    damage = error;
  }
  if (damage === null) for (const name of missing) await consider(name, null);
  await flush();
  if (damage !== null) throw damage;
}

function leftOver(loaded: Loaded, { session }: Generation): boolean {
  const now = session.now();
  const end = leaseEnd(loaded.state, now - (loaded.state.clock + loaded.age));
  return end !== null && end <= now;
}

async function waitOf(generation: Generation, name: string, loaded: Loaded | null): Promise<Duration | null> {
  const secret = generation.policy.secrets.get(name);
  if (secret === undefined) return null;
  const now = generation.session.now();
  const rest = await restOf(generation, secret, loaded, now);
  if (rest !== "works") return rest;
  const offset = loaded === null ? 0 : now - (loaded.state.clock + loaded.age);
  return Math.max(0, (leaseEnd(loaded?.state ?? null, offset) ?? now) - now);
}

/** Where a secret stands, as `status` tells it. */
async function standingOf(generation: Generation, loaded: Loaded, everything: SecretState | null): Promise<Standing> {
  const { session, policy } = generation;
  const { name } = loaded.state;
  const rules = generation.rules.get(name) ?? null;
  const subject = await subjectOf(session, name, loaded, rules, everything?.paused ?? null);
  const { member } = rowOf(subject);
  const secret = policy.secrets.get(name);
  const isInOverlap = member.phase === "overlap" && secret !== undefined;
  const known = isInOverlap ? (rules ?? (await generation.ports(secret).catch(() => null))?.rules ?? null) : null;
  return {
    secret: name,
    phase: member.phase,
    outcome: member.outcome,
    reason: member.reason,
    issuedAt: instant(member.current?.issuedAt ?? null),
    nextDue: instant(member.nextDue),
    debt: member.debt.length,
    stragglers: known === null ? 0 : stragglersOf(loaded.state, known, subject.now),
  };
}

function stragglersOf(state: SecretState, rules: SecretRules, now: Now): number {
  const old = state.versions.find(({ status }) => status === "retiring");
  if (old === undefined) return 0;
  const judgements = judge(old, versionOf(state, wantedId(state)), { state, rules, now });
  return judgements.filter(({ verdict }) => verdict === "in-use").length;
}

function instant(iso: string | null): number | null {
  return iso === null ? null : Date.parse(iso);
}
