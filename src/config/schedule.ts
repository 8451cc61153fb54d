import { createHash } from "node:crypto";
import type { Cron } from "croner";
import type { Duration, Instant } from "../core/duration.ts";
import type { SecretState, Version } from "../core/model.ts";
import type { Due } from "../core/rules.ts";
import { blackoutAt, type Blackout } from "./blackouts.ts";
import type { Schedule, SecretPolicy } from "./model.ts";
import { opensAt, type Window } from "./window.ts";

type Scheduled = Pick<SecretPolicy, "name" | "schedule" | "blackouts">;
/** With what a key that ends by itself has to leave time for. */
type Expiring = Scheduled & Pick<SecretPolicy, "overlap" | "usage">;

/** Reading an expression is slow, and a thousand secrets share a few. */
const crons = new Map<string, Cron>();

/** More windows and blackouts one after the other than any calendar has. */
const MOST = 10_000;

/**
 * The schedule in the form in which the engine asks for it; wall clock. A key's age counts from the issuer's creation
 * time, else from its adoption; where there is none yet, one is due now.
 */
export async function dueBy(secret: Expiring): Promise<(state: Pick<SecretState, "versions">, wall: Instant) => Due> {
  const { schedule } = secret;
  if (schedule === null) return () => ({ at: null, due: false, opensAt: null });
  const after = await dueAfter(secret);
  return (state, wall) => {
    const current = state.versions.find((version) => version.status === "current");
    const planned = current === undefined ? wall : after(current.createdAt ?? current.since);
    const latest = current === undefined ? null : replaceBy(current, secret);
    const at = Math.min(planned, latest ?? Infinity);
    const opens = startsFrom(secret, wall);
    const expiresAt = latest !== null && latest < planned ? current?.expiresAt : undefined;
    return {
      at,
      due: at <= wall,
      opensAt: opens <= wall ? null : opens,
      ...(expiresAt !== undefined && { expiresAt }),
    };
  };
}

/**
 * When a key that ends by itself has to be replaced, so that an overlap passes while it still lives; never before
 * half its life is over. null: it does not end by itself.
 */
export function replaceBy(
  { createdAt, since, expiresAt }: Pick<Version, "createdAt" | "since" | "expiresAt">,
  { overlap, usage }: Pick<Expiring, "overlap" | "usage">,
): Instant | null {
  if (expiresAt === undefined) return null;
  const lead = overlap.minimum * (usage === "none" ? 2 : 1) + overlap.quiet;
  const made = createdAt ?? since;
  return Math.max(expiresAt - lead, made + (expiresAt - made) / 2);
}

/** Key's creation → when it is due to be replaced; Infinity: never. */
export async function dueAfter({ name, schedule }: Scheduled): Promise<(made: Instant) => Instant> {
  if (schedule === null) return () => Infinity;
  const { every, cron, zone, spread } = schedule;
  const own = Math.floor(shareOf(name) * spread);
  if (cron === null) return (made) => made + (every ?? Infinity) - own;
  const times = await cronTimes(cron, zone);
  return (made) => (times(made - own) ?? Infinity) + own;
}

/** The first moment from `at` on at which a rotation may start: in the window, in no blackout. Infinity: never. */
export function startsFrom({ schedule, blackouts }: Scheduled, at: Instant): Instant {
  const window: Window | null = schedule?.window ?? null;
  let start = at;
  for (let turn = 0; turn < MOST && start < Infinity; turn++) {
    const opens = window === null ? start : opensAt(window, start);
    const over: Blackout | null = blackoutAt(blackouts, opens);
    if (over === null) return opens;
    start = over.to;
  }
  return Infinity;
}

/**
 * The first instant after another that the expression names; null: never.
 * @throws Error when it is no expression.
 */
export async function cronTimes(expression: string, zone: string): Promise<(after: Instant) => Instant | null> {
  const key = `${zone} ${expression}`;
  let cron = crons.get(key);
  if (cron === undefined) {
    const croner = await import("croner");
    crons.set(key, (cron = new croner.Cron(expression, { timezone: zone, paused: true })));
  }
  return (after) => cron.nextRun(new Date(after))?.getTime() ?? null;
}

/** With a cron expression. */
type Timed = Schedule & { readonly cron: string };

/** Whether its times before `until`, with its spread, ever meet its window. No such times at all: nothing is amiss. */
export async function meetsWindow({ cron, zone, window, spread }: Timed, from: Instant, until: Instant) {
  const next = await cronTimes(cron, zone);
  let time = next(from);
  if (window === null || time === null || time >= until) return true;
  while (time !== null && time < until) {
    const opens = opensAt(window, time);
    if (opens <= time + spread) return true;
    // No time before it can meet the window; one that is nearer to it than the spread may.
    time = next(Math.max(time, opens - spread - 1));
  }
  return false;
}

/** Gaps that are looked at: of an expression with days of the week and of the month, a few differ. */
const GAPS = 12;

/** The longest time from one of its moments to the next, by a clock that never changes. */
export async function longestGap({ cron }: Timed, from: Instant): Promise<Duration> {
  const next = await cronTimes(cron, "UTC");
  let longest = 0;
  let time = next(from);
  for (let gap = 0; gap < GAPS && time !== null; gap++) {
    const after: Instant | null = next(time);
    longest = Math.max(longest, after === null ? Infinity : after - time);
    time = after;
  }
  return longest;
}

/** From 0 to 1, the same for the same name on every machine. */
function shareOf(name: string): number {
  return createHash("sha256").update(name).digest().readUInt32BE(0) / 2 ** 32;
}
