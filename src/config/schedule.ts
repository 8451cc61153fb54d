import type { Instant } from "../core/duration.ts";
import type { SecretState } from "../core/model.ts";
import type { Due } from "../core/rules.ts";
import type { Schedule } from "./model.ts";
import { opensAt } from "./window.ts";

/**
 * The schedule in the form in which the engine asks for it; wall clock. A key's age counts from the issuer's creation
 * time, else from its adoption; where there is none yet, one is due now.
 */
export async function dueBy(
  schedule: Schedule | null,
): Promise<(state: Pick<SecretState, "versions">, wall: Instant) => Due> {
  if (schedule === null) return () => ({ at: null, due: false, opensAt: null });
  const { every, cron, zone, window } = schedule;
  const times = cron === null ? null : await cronTimes(cron, zone);
  const after = (last: Instant): Instant => (times === null ? last + (every ?? Infinity) : (times(last) ?? Infinity));
  return (state, wall) => {
    const current = state.versions.find((version) => version.status === "current");
    const at = current === undefined ? wall : after(current.createdAt ?? current.since);
    const opens = window === null ? wall : opensAt(window, wall);
    return { at, due: at <= wall, opensAt: opens <= wall ? null : opens };
  };
}

/**
 * The first instant after another that the expression names; null: never.
 * @throws Error when it is no expression.
 */
export async function cronTimes(expression: string, zone: string): Promise<(after: Instant) => Instant | null> {
  const { Cron } = await import("croner");
  const cron = new Cron(expression, { timezone: zone, paused: true });
  return (after) => cron.nextRun(new Date(after))?.getTime() ?? null;
}
