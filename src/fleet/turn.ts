import { randomBytes } from "node:crypto";
import { EVERYTHING } from "../commands/choose.ts";
import { isDamage } from "../commands/documents.ts";
import { verdictOf, type Verdict } from "../commands/members.ts";
import { pauseOf } from "../commands/pause.ts";
import { restOf } from "../commands/subject.ts";
import type { SecretPolicy } from "../config/model.ts";
import type { Duration, Instant } from "../core/duration.ts";
import { ProviderError, UserError } from "../core/errors.ts";
import type { SecretState } from "../core/model.ts";
import { siblingId } from "../engine/process-space.ts";
import type { Progress, RunResult } from "../engine/result.ts";
import { runSecret } from "../engine/run.ts";
import type { Wake } from "../ports/queue.ts";
import type { Loaded } from "../ports/state.ts";
import type { Generation } from "./generation.ts";

/** Where only the world or a person can help: how soon to look whether somebody did. */
export const LOOK_AGAIN: Duration = 5 * 60_000;
/** Where something did not answer. */
const TRY_AGAIN: Duration = 30_000;
/** However soon something is due, others have their turn first. */
const LEAST: Duration = 1000;

/** What became of one turn; `result` is null where there was nothing to do, or it could not begin. */
export interface Turn {
  /** Its issuer's type has enough turns under way here: it is no turn at all, and comes again. */
  readonly isPutOff?: true;
  readonly result: RunResult | null;
  /** What kept it from beginning, in words. */
  readonly failure: Verdict | null;
  /** When the next one comes; null: the sweep will see when there is anything to do. */
  readonly next: Wake | null;
}

/**
 * Does for one secret what `run` does, never sleeping through a wait that is meant to last.
 * @throws ProviderError, UserError when the state does not answer
 */
export async function takeTurn(
  generation: Generation,
  secret: SecretPolicy,
  onProgress: (progress: Progress) => void,
): Promise<Turn> {
  const { session, engine, policy } = generation;
  const everything = (await engine.state.load(EVERYTHING))?.state ?? null;
  generation.crowd.leave(secret);
  let before: Loaded | null;
  try {
    before = await engine.state.load(secret.name);
  } catch (error) {
    if (!isDamage(error)) throw error;
    return { result: null, failure: verdictOf(error, secret.name), next: null };
  }
  const again = (state: SecretState | null, wait: Duration): Wake => ({
    secret: secret.name,
    in: Math.max(LEAST, wait),
    seen: generation.stamp(secret.name, state, everything),
  });
  const rest = await restOf(policy, secret, before, session.now());
  if (rest !== "works") return { result: null, failure: null, next: rest === null ? null : again(state(before), rest) };
  let result: RunResult;
  try {
    // A runner of its own: of two turns of one secret in one process only one may hold the lease.
    const runner = { ...engine.runner, id: siblingId(randomBytes(8).toString("hex"), engine.runner.id) };
    const running = generation.crew.tryWork(secret, async (aside) => {
      const traces = await session.traces();
      return runSecret({ ...engine, runner }, await generation.ports(secret), {
        start: true,
        sit: "none",
        waitMax: null,
        lockTimeout: 0,
        signal: session.signal,
        aside,
        pausedAll: () => pauseOf(engine.state, secret, session.now()),
        onProgress: (progress) => {
          traces?.happened(progress);
          onProgress(progress);
        },
      });
    });
    if (running === null) {
      const { crowd, concurrency } = generation;
      // The more of them there are, the seldomer each comes: together as often as there are places.
      const next = again(state(before), Math.min(TRY_AGAIN, LEAST * Math.ceil((crowd.size + 1) / concurrency)));
      crowd.join(secret, next);
      return { result: null, failure: null, next, isPutOff: true };
    }
    result = await running;
  } catch (error) {
    if (!(error instanceof UserError || error instanceof ProviderError)) throw error;
    const failure = verdictOf(error, secret.name);
    generation.failures.set(secret.name, { ...failure, seq: state(before)?.seq ?? 0 });
    return { result: null, failure, next: again(state(before), error instanceof UserError ? LOOK_AGAIN : TRY_AGAIN) };
  }
  generation.failures.delete(secret.name);
  // Whoever is told to leave leaves at once, and leaves the rest to others.
  if (session.signal.aborted) return { result, failure: null, next: again(null, 0) };
  const now = session.now();
  // Another's, or one that this run could not let go of any more.
  const until = leaseEnd(result.state, result.offset) ?? result.until;
  if (until !== null) return { result, failure: null, next: again(result.state, until - now) };
  const after = await restOf(policy, secret, result.state === null ? null : { state: result.state }, now);
  const wait = after !== "works" ? after : result.outcome === "failed" ? TRY_AGAIN : LOOK_AGAIN;
  return { result, failure: null, next: wait === null ? null : again(result.state, wait) };
}

function state(loaded: Loaded | null): SecretState | null {
  return loaded?.state ?? null;
}

/** When another's lease ends unless it is renewed; wall clock. */
export function leaseEnd(document: SecretState | null, offset: Duration): Instant | null {
  const lease = document?.lease ?? null;
  return lease === null ? null : lease.renewedAt + lease.duration + offset;
}
