import type { Duration } from "../core/duration.ts";
import { ProviderError } from "../core/errors.ts";
import type { Clock } from "./deps.ts";

/** The sender's own refusal: its time has passed. Nobody failed; the world is looked at again. */
export class FencePassed extends ProviderError {
  constructor(applied: "no" | "maybe") {
    super("unavailable", applied, "the time for this call has passed");
  }
}

/**
 * The last look at the clocks before a request leaves (rule 3.2). Others wait this duration out from the commit, so
 * it counts from BEFORE the commit was sent, on both clocks; a wall clock that ran backwards proves nothing.
 */
export function fenceFrom(clock: Clock, duration: Duration, off: boolean): () => void {
  const monotonic = clock.monotonic();
  const wall = clock.wall();
  let sent = false;
  return () => {
    const passed = Math.max(clock.monotonic() - monotonic, clock.wall() - wall);
    // An adapter that sends twice in one call may have changed something by the first.
    if (!off && (passed >= duration || clock.wall() < wall)) throw new FencePassed(sent ? "maybe" : "no");
    sent = true;
  };
}
