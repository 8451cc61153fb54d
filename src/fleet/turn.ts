import { randomBytes } from "node:crypto";
import { EVERYTHING } from "../commands/choose.ts";
import { pauseOf } from "../commands/pause.ts";
import { nextDue } from "../commands/subject.ts";
import { dueBy } from "../config/schedule.ts";
import type { SecretPolicy } from "../config/model.ts";
import type { Duration, Instant } from "../core/duration.ts";
import { ProviderError, UserError } from "../core/errors.ts";
import type { SecretState } from "../core/model.ts";
import { REASONS, type ReasonCode } from "../core/reasons.ts";
import { isAtRest } from "../core/rest.ts";
import { siblingId } from "../engine/process-space.ts";
import type { Progress, RunResult } from "../engine/result.ts";
import { runSecret } from "../engine/run.ts";
import type { Wake } from "../ports/queue.ts";
import type { Loaded } from "../ports/state.ts";
import { failureOf } from "../ui/failure.ts";
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
  readonly failure: { readonly reason: ReasonCode; readonly message: string; readonly hints: readonly string[] } | null;
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
  const { session, engine } = generation;
  const everything = (await engine.state.load(EVERYTHING))?.state ?? null;
  generation.crowd.leave(secret);
  let before: Loaded | null;
  try {
    before = await engine.state.load(secret.name);
  } catch (error) {
    if (!isDamage(error)) throw error;
    return { result: null, failure: told(error), next: null };
  }
  const again = (state: SecretState | null, wait: Duration): Wake => ({
    secret: secret.name,
    in: Math.max(LEAST, wait),
    seen: generation.stamp(secret.name, state, everything),
  });
  const rest = await restOf(generation, secret, before, session.now());
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
    const failure = told(error);
    generation.failures.set(secret.name, { reason: failure.reason, seq: state(before)?.seq ?? 0 });
    return { result: null, failure, next: again(state(before), error instanceof UserError ? LOOK_AGAIN : TRY_AGAIN) };
  }
  generation.failures.delete(secret.name);
  // Whoever is told to leave leaves at once, and leaves the rest to others.
  if (session.signal.aborted) return { result, failure: null, next: again(null, 0) };
  const now = session.now();
  // Another's, or one that this run could not let go of any more.
  const until = leaseEnd(result.state, result.offset) ?? result.until;
  if (until !== null) return { result, failure: null, next: again(result.state, until - now) };
  const after = await restOf(generation, secret, result.state === null ? null : { state: result.state }, now);
  const wait = after !== "works" ? after : result.outcome === "failed" ? TRY_AGAIN : LOOK_AGAIN;
  return { result, failure: null, next: wait === null ? null : again(result.state, wait) };
}

function told(error: UserError | ProviderError): NonNullable<Turn["failure"]> {
  const { code, lines, hints } = failureOf(error);
  return { reason: code in REASONS ? (code as ReasonCode) : "provider-unavailable", message: lines.join("; "), hints };
}

/** One document that cannot be read, where the state as such can. */
export function isDamage(error: unknown): error is UserError {
  return error instanceof UserError && (error.code === "state-damaged" || error.code === "state-newer");
}

function state(loaded: Loaded | null): SecretState | null {
  return loaded?.state ?? null;
}

/** How long a secret at rest stays so; null: until a person speaks. `works`: a run has something to do. */
export async function restOf(
  { policy }: Generation,
  secret: SecretPolicy,
  loaded: Pick<Loaded, "state"> | null,
  now: Instant,
): Promise<Duration | null | "works"> {
  if (loaded === null) return secret.schedule === null ? null : "works";
  if (!isAtRest(loaded.state, [...policy.notifiers.keys()])) return "works";
  if (!secret.enabled) return null;
  if ((await dueBy(secret))(loaded.state, now).due) return "works";
  const starts = await nextDue(secret, loaded.state, now);
  return starts === null ? null : starts - now;
}

/** When another's lease ends unless it is renewed; wall clock. */
export function leaseEnd(document: SecretState | null, offset: Duration): Instant | null {
  const lease = document?.lease ?? null;
  return lease === null ? null : lease.renewedAt + lease.duration + offset;
}
