import { EVERYTHING } from "../commands/choose.ts";
import { isDamage } from "../commands/documents.ts";
import { rowOf } from "../commands/members.ts";
import { restOf, subjectOf } from "../commands/subject.ts";
import type { Duration } from "../core/duration.ts";
import type { UserError } from "../core/errors.ts";
import { versionOf, type SecretState } from "../core/model.ts";
import type { Now, SecretRules } from "../core/rules.ts";
import { judge } from "../core/usage.ts";
import { wantedId } from "../core/wanted.ts";
import type { Queue, Wake } from "../ports/queue.ts";
import type { Loaded } from "../ports/state.ts";
import type { Standing } from "../telemetry/metrics.ts";
import type { Generation } from "./generation.ts";
import { leaseEnd, LOOK_AGAIN } from "./turn.ts";

/** Kept before they are added. */
const MANY = 500;

export interface Swept {
  /** One error for each document that cannot be read: they keep nobody else waiting. */
  readonly damages: readonly UserError[];
  /** How long the wake that is most overdue has waited for a worker, ms. */
  readonly late: Duration;
}

/**
 * Reads every document and adds what they say is due and the queue has forgotten, or knows from an older document,
 * an older pause or another policy: a person's word comes in this way. One document at a time is held in memory.
 *
 * @throws UserError, ProviderError when the state or the queue does not answer, or the pause of everything is damaged
 */
export async function sweep(
  generation: Generation,
  queue: Queue,
  stands: (standing: Standing) => void,
): Promise<Swept> {
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
    const job = waiting.get(name);
    if (job?.isTaken) return;
    const seen = generation.stamp(name, loaded?.state ?? null, everything);
    // Whoever held its lease is gone, and what it had set itself to do with it.
    const isLeft = loaded !== null && leftOver(loaded, generation) && (job?.in ?? 0) > 0;
    if (job?.seen === seen && !isLeft) return;
    const rest = await restOf(policy, secret, loaded, generation.session.now());
    // One that ended with its work done leaves nothing to do.
    if (rest === null || (job?.seen === seen && rest !== "works")) return;
    // Set by a worker of another policy, whose word this one has overruled before: only what is late is mended.
    const isTheirs = !isLeft && generation.hasOverruled(name, job?.seen ?? null, seen);
    if (isTheirs && (job?.in ?? 0) <= (rest === "works" ? LOOK_AGAIN : rest)) return;
    wakes.push({ secret: name, in: rest === "works" ? leaseLeft(loaded, generation) : rest, seen });
    if (wakes.length >= MANY) await flush();
  };
  let damage: UserError | null = null;
  try {
    for await (const loaded of engine.state.loadAll()) {
      const { name } = loaded.state;
      await consider(name, loaded);
      if (policy.secrets.has(name)) stands(await standingOf(generation, name, loaded, everything));
    }
  } catch (error) {
    // Thrown after the others were handed out.
    if (!isDamage(error)) throw error;
    damage = error;
  }
  const damages: UserError[] = [];
  for (const name of missing) {
    try {
      const loaded = damage === null ? null : await engine.state.load(name);
      await consider(name, loaded);
      stands(await standingOf(generation, name, loaded, everything));
    } catch (error) {
      if (!isDamage(error)) throw error;
      damages.push(error);
      stands(unreadable(name, error));
    }
  }
  await flush();
  // Of a secret that this policy does not know.
  if (damage !== null && damages.length === 0) damages.push(damage);
  const overdue = [...waiting].filter(([name, { isTaken }]) => !isTaken && policy.secrets.has(name));
  return { damages, late: Math.max(0, ...overdue.map(([, job]) => -job.in)) };
}

function leftOver(loaded: Loaded, { session }: Generation): boolean {
  const now = session.now();
  const end = leaseEnd(loaded.state, now - (loaded.state.clock + loaded.age));
  return end !== null && end <= now;
}

/** Until another's lease is over, which is the soonest that anything can be done. */
function leaseLeft(loaded: Loaded | null, { session }: Generation): Duration {
  const now = session.now();
  const offset = loaded === null ? 0 : now - (loaded.state.clock + loaded.age);
  return Math.max(0, (leaseEnd(loaded?.state ?? null, offset) ?? now) - now);
}

function unreadable(secret: string, { code: reason }: UserError): Standing {
  const nothing = { phase: null, issuedAt: null, nextDue: null, debt: 0, stragglers: 0 };
  return { secret, outcome: "blocked", reason, ...nothing };
}

/** Where a secret stands, as `status` tells it. */
async function standingOf(
  generation: Generation,
  name: string,
  loaded: Loaded | null,
  everything: SecretState | null,
): Promise<Standing> {
  const { session, policy } = generation;
  const rules = generation.rules.get(name) ?? null;
  const subject = await subjectOf(session, name, loaded, rules, everything?.paused ?? null);
  const { member } = rowOf(subject);
  const secret = policy.secrets.get(name);
  const isInOverlap = member.phase === "overlap" && secret !== undefined;
  const known = isInOverlap ? (rules ?? (await generation.ports(secret).catch(() => null))?.rules ?? null) : null;
  const failure = generation.failures.get(name);
  const hasFailed = failure !== undefined && failure.seq === (loaded?.state.seq ?? 0);
  const { outcome, reason } = hasFailed ? failure : member;
  return {
    secret: name,
    phase: member.phase,
    outcome,
    reason,
    issuedAt: instant(member.current?.issuedAt ?? null),
    nextDue: instant(member.nextDue),
    debt: member.debt.length,
    stragglers: known === null || loaded === null ? 0 : stragglersOf(loaded.state, known, subject.now),
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
