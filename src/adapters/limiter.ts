import type { Duration, Instant } from "../core/duration.ts";
import { ProviderError } from "../core/errors.ts";

/** What it needs of the world. */
export interface LimiterDeps {
  /** Milliseconds on any clock that only runs forward. */
  readonly now: () => Instant;
  readonly sleep: (ms: Duration, signal?: AbortSignal) => Promise<void>;
  readonly debug: (line: string) => void;
  /** From 0 up to, not including, 1. */
  readonly random: () => number;
}

const SECOND = 1000;
/** Slower than this no throttling makes us. */
const SLOWEST = 0.2;
/** So many may always have been meant: one stray refusal of the second call of a morning says little of a quota. */
const LEAST_QUOTA = 20;
/** Where no quota is published, a rate above this is no limit any more. */
const UNLIMITED = 50;
/** A pause that the provider did not name. */
const PAUSE: Duration = 500;
/** Waits below this are not worth a line. */
const WORTH_TELLING: Duration = 100;

/**
 * Paces the calls that share one quota. With a published quota there are never more than that in any one second: a
 * fifth of it may come at once, the rest flows evenly. Without one, nothing is held back until the provider
 * throttles. A throttled answer halves the rate and makes everybody wait for what the provider asked (`Retry-After`);
 * each answer that is none adds a little (additive increase, multiplicative decrease).
 */
export class Limiter {
  /** Calls per second; null: as many as come. */
  #rate: number | null;
  readonly #most: number | null;
  readonly #burst: number;
  /** When the next call would be due if all calls came evenly. */
  #due: Instant = -Infinity;
  #pausedUntil: Instant = -Infinity;
  #recent: Instant[] = [];

  /** @param quota calls per second that the provider publishes; null: it publishes none */
  constructor(
    private readonly name: string,
    quota: number | null,
    private readonly deps: LimiterDeps,
  ) {
    this.#burst = quota === null ? 1 : Math.max(1, Math.floor(quota / 5));
    this.#most = quota === null ? null : Math.max(quota - this.#burst, quota / 2);
    this.#rate = this.#most;
  }

  /**
   * Waits for a place. Comes before the fence: its wait counts against the call's own time.
   *
   * @throws ProviderError `unavailable`, applied `no`, when the signal aborts
   */
  async admit(signal: AbortSignal): Promise<void> {
    const wait = this.#reserve();
    if (wait <= 0) return;
    if (wait >= WORTH_TELLING) this.deps.debug(`${this.name}: held back for ${Math.round(wait)} ms`);
    try {
      await this.deps.sleep(wait, signal);
    } catch {
      throw new ProviderError("unavailable", "no", `${this.name}: interrupted while it was held back`);
    }
  }

  /** @param retryAfter what the provider asked for, if it did */
  throttled(retryAfter: Duration | null): void {
    const before = this.#rate ?? Math.max(LEAST_QUOTA, this.#recent.length);
    this.#rate = Math.max(SLOWEST, before / 2);
    const pause = retryAfter ?? PAUSE * (1 + this.deps.random());
    this.#pausedUntil = Math.max(this.#pausedUntil, this.deps.now() + pause);
    this.deps.debug(`${this.name}: throttled, now ${this.#rate.toFixed(1)} calls a second`);
  }

  succeeded(): void {
    if (this.#rate === null || this.#rate === this.#most) return;
    this.#rate += 1 / Math.max(1, this.#rate);
    if (this.#most !== null) this.#rate = Math.min(this.#rate, this.#most);
    else if (this.#rate > UNLIMITED) this.#rate = null;
  }

  /** Takes the next place; how long it is until then. */
  #reserve(): Duration {
    const now = this.deps.now();
    this.#recent = [...this.#recent.filter((at) => at > now - SECOND), now];
    const earliest = Math.max(now, this.#pausedUntil);
    if (this.#rate === null) return this.#jittered(earliest - now);
    const interval = SECOND / this.#rate;
    const base = Math.max(this.#due, earliest);
    const at = Math.max(earliest, this.#due - (this.#burst - 1) * interval);
    this.#due = base + interval;
    return this.#jittered(at - now);
  }

  /** Later by up to a tenth: callers that were held back together do not come back together. */
  #jittered(wait: Duration): Duration {
    return wait <= 0 ? 0 : wait * (1 + this.deps.random() / 10);
  }
}

/** Limiters that the whole process shares. */
export class Limiters {
  readonly #made = new Map<string, Limiter>();

  /** @param name what shares the quota: service, group of actions, region, account */
  of(name: string, quota: number | null, deps: LimiterDeps): Limiter {
    const limiter = this.#made.get(name) ?? new Limiter(name, quota, deps);
    this.#made.set(name, limiter);
    return limiter;
  }
}
