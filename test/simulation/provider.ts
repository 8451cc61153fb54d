import { ProviderError } from "../../src/core/errors.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { Process } from "./process.ts";
import type { Flight, World } from "./world.ts";

/** How long an adapter waits for an answer before it gives up by itself. */
const ADAPTER_TIMEOUT = 25_000;

const gone = (applied: "no" | "maybe"): ProviderError => new ProviderError("unavailable", applied, "no answer");

/** A call that changes nothing: delayed, throttled or failed as the seed says. */
export async function ask<T>(world: World, process: Process, ctx: Ctx, what: string, answer: () => T): Promise<T> {
  const { random } = process;
  await process.pause(random.skewed(400), `${what}:before`);
  if (ctx.signal.aborted) throw gone("no");
  const trouble = world.calm ? 1 : random.next() / world.scenario.trouble;
  if (trouble < 0.1)
    throw new ProviderError(
      "throttled",
      "no",
      "slow down",
      random.chance(0.5) ? { retryAfter: random.between(1, 20) * 1000 } : {},
    );
  if (trouble < 0.2) {
    await process.pause(random.between(0, ADAPTER_TIMEOUT), `${what}:lost`, ctx.signal);
    throw gone("no");
  }
  const result = answer();
  world.say(
    process.id,
    () =>
      `${what} → ${JSON.stringify(result, (_, v) => (v instanceof Map ? Object.fromEntries(v) : v))?.slice(0, 300)}`,
  );
  await process.pause(random.skewed(400), `${what}:answer`);
  if (ctx.signal.aborted) throw gone("no");
  return result;
}

/**
 * A call that may change something. The request leaves right after the fence; it takes effect at once or up to
 * `settle` later, whatever has become of its sender; its answer may never come.
 */
export async function change<T>(
  world: World,
  process: Process,
  ctx: Ctx,
  what: Flight & { readonly settle: number; readonly version: string | null },
  apply: () => T,
): Promise<T> {
  const { random } = process;
  const { effect } = what;
  await process.pause(random.skewed(800), `${effect}:before`);
  if (ctx.signal.aborted) throw gone("no");
  const denied =
    world.scenario.denials.some((d) => d.effect === effect && world.now >= d.from && world.now < d.until) &&
    !world.calm;
  const trouble = world.calm || denied ? 1 : random.next() / world.scenario.trouble;
  try {
    ctx.fence();
  } catch (error) {
    world.say(process.id, () => `${effect} ${what.object}: fenced`);
    throw error;
  }
  world.invariants.sent(process, what.effect, what.object, what.version);
  world.changes++;
  if (denied || trouble < 0.1) {
    await process.pause(random.skewed(400), `${effect}:refused`);
    world.say(process.id, () => `${effect} ${what.object}: ${denied ? "denied" : "throttled"}`);
    if (denied) throw new ProviderError("denied", "no", "not allowed");
    throw new ProviderError(
      random.chance(0.5) ? "throttled" : "unavailable",
      "no",
      "slow down",
      random.chance(0.3) ? { retryAfter: 5000 } : {},
    );
  }
  // 0.1–0.2 never arrives · 0.2–0.45 arrives, the answer does not · 0.45–0.6 arrives late, answered late or never
  const arrives = trouble >= 0.2;
  const late = what.settle > 1 && (trouble < 0.6 || random.chance(0.1));
  const delay =
    what.settle <= 1 ? 0 : late ? random.between(0, what.settle - 1) : Math.min(random.skewed(500), what.settle - 1);
  let outcome: { value: T } | { error: unknown } | null = null;
  const land = (): void => {
    world.inFlight.delete(what);
    try {
      outcome = { value: apply() };
      world.say(process.id, () => `${effect} ${what.object}: takes effect`);
    } catch (error) {
      outcome = { error };
      world.say(
        process.id,
        () => `${effect} ${what.object}: refused (${error instanceof ProviderError ? error.kind : String(error)})`,
      );
    }
    world.happened(`landed:${effect}`);
  };
  world.say(
    process.id,
    () => `${effect} ${what.object}: sent${arrives ? (delay > 0 ? `, lands in ${delay} ms` : "") : ", goes lost"}`,
  );
  if (arrives) {
    world.inFlight.add(what);
    if (delay === 0) land();
    else world.scheduler.after(delay, land);
  }
  if (trouble < 0.45 || (trouble < 0.6 && random.chance(0.5))) {
    await process.pause(random.chance(0.5) ? random.skewed(2000) : ADAPTER_TIMEOUT, `${effect}:sent`, ctx.signal);
    world.say(process.id, () => `${effect} ${what.object}: no answer`);
    throw gone("maybe");
  }
  await process.pause(delay + 1 + random.skewed(300), `${effect}:sent`, ctx.signal);
  const answered = outcome as { value: T } | { error: unknown } | null;
  if (answered === null || ctx.signal.aborted) throw gone("maybe");
  if ("error" in answered) throw answered.error;
  return answered.value;
}
