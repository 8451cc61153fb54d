import type { Instant } from "../core/duration.ts";
import type { Schedule } from "./model.ts";
import { opensAt } from "./window.ts";

export interface NextDue {
  /** When the next rotation falls due; `now` where there was none yet. */
  readonly dueAt: Instant;
  readonly window: {
    /** Whether the window is open now; true where there is none. */
    readonly open: boolean;
    /** The first instant, neither before `dueAt` nor before `now`, at which the window is open. */
    readonly opensAt: Instant;
  };
}

/** Wall clock throughout. `lastRotatedAt` is when the current key was made; null: there is none yet. */
export async function nextDue(schedule: Schedule, lastRotatedAt: Instant | null, now: Instant): Promise<NextDue> {
  const dueAt = lastRotatedAt === null ? now : await dueAfter(schedule, lastRotatedAt);
  const from = Math.max(dueAt, now);
  if (schedule.window === null) return { dueAt, window: { open: true, opensAt: from } };
  return { dueAt, window: { open: opensAt(schedule.window, now) === now, opensAt: opensAt(schedule.window, from) } };
}

async function dueAfter(schedule: Schedule, last: Instant): Promise<Instant> {
  if (schedule.cron === null) return last + (schedule.every as number);
  return (await nextCron(schedule.cron, schedule.zone, last)) ?? Infinity;
}

/**
 * The first instant after `after` that the expression names; null: never.
 * @throws Error when it is no expression.
 */
export async function nextCron(expression: string, zone: string, after: Instant): Promise<Instant | null> {
  const { Cron } = await import("croner");
  return new Cron(expression, { timezone: zone, paused: true }).nextRun(new Date(after))?.getTime() ?? null;
}
