import { UserError, ProviderError } from "../core/errors.ts";
import { outside } from "../ports/context.ts";
import { plain } from "../ui/text.ts";
import { Wiring } from "../wire.ts";
import type { Session } from "./session.ts";
import type { Report } from "./verb.ts";

/**
 * Runs, and tells those who would be alarmed by silence how that ended. One that was stopped from outside says
 * nothing: whoever stopped it knows, or silence is the right word. No call that fails makes the run fail.
 */
export async function withHeartbeat(session: Session, work: () => Promise<Report>): Promise<Report> {
  try {
    const report = await work();
    const isWell = report.outcome !== "failed" && report.outcome !== "blocked";
    const tally = tallyOf(report.secrets.map(({ outcome }) => outcome));
    await beat(session, isWell, `run: ${report.outcome}: ${tally}`);
    return report;
  } catch (error) {
    await beat(session, false, "run: failed as a whole");
    throw error;
  }
}

/** `3 done, 1 waiting`. */
export function tallyOf(outcomes: Iterable<string>): string {
  const counts = new Map<string, number>();
  for (const outcome of outcomes) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return counts.size === 0 ? "no secrets" : [...counts].map(([outcome, number]) => `${number} ${outcome}`).join(", ");
}

/** Tells those that hear of runs, where the policy has any. */
export async function beat(session: Session, isWell: boolean, message: string): Promise<void> {
  const policy = await session.policy();
  const { signal, terminal } = session;
  if (signal.aborted) return;
  const say = (line: string) => terminal.say(plain(line));
  const { env, now } = session.process;
  const world = { env, now, debug: () => {}, announce: say, say };
  const ctx = outside(signal);
  try {
    for (const one of await new Wiring(policy, world).heartbeats()) {
      await one.beat({ isWell, message }, ctx).catch((error: unknown) => say(`warning: ${one.name}: ${worded(error)}`));
    }
  } catch (error) {
    say(`warning: no heartbeat: ${worded(error)}`);
  }
}

function worded(error: unknown): string {
  return error instanceof UserError || error instanceof ProviderError
    ? error.message
    : ProviderError.from(error).message;
}
