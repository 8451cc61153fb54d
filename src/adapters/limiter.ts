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

/** What calls that share a quota have been through since the process began. */
export interface Limited {
  /** `ssm:PutParameter eu-west-1` */
  readonly quota: string;
  /** Calls that had to wait for their turn. */
  readonly heldBack: number;
  /** For so long, all together. */
  readonly heldFor: Duration;
  /** Answers that said: too many. */
  readonly throttled: number;
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
 * each answer that is none adds a little (additive increase, multiplicative decrease). Many throttled answers to calls
 * that were paced by the same rate are one sign that it is too high.
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
  #places = 0;
  /** Places up to this one were given at a higher rate than the present one. */
  #halvedAfter = 0;
  readonly counts = { heldBack: 0, heldFor: 0, throttled: 0 };

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
   * @returns the place, for `throttled`
   * @throws ProviderError `unavailable`, applied `no`, when the signal aborts
   */
  async admit(signal: AbortSignal): Promise<number> {
    const place = ++this.#places;
    const wait = this.#reserve();
    if (wait <= 0) return place;
    if (wait >= WORTH_TELLING) this.deps.debug(`${this.name}: held back for ${Math.round(wait)} ms`);
    const since = this.deps.now();
    this.counts.heldBack += 1;
    try {
      await this.deps.sleep(wait, signal);
      return place;
    } catch {
      throw new ProviderError("unavailable", "no", `${this.name}: interrupted while it was held back`);
    } finally {
      this.counts.heldFor += this.deps.now() - since;
    }
  }

  /**
   * @param place of the call that was answered so
   * @param retryAfter what the provider asked for, if it did
   */
  throttled(place: number, retryAfter: Duration | null): void {
    this.counts.throttled += 1;
    const pause = retryAfter ?? PAUSE * (1 + this.deps.random());
    this.#pausedUntil = Math.max(this.#pausedUntil, this.deps.now() + pause);
    if (place <= this.#halvedAfter) return;
    this.#halvedAfter = this.#places;
    const before = this.#rate ?? Math.max(LEAST_QUOTA, this.#recent.length);
    this.#rate = Math.max(SLOWEST, before / 2);
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
  readonly #made = new Map<string, { readonly quota: string; readonly limiter: Limiter }>();

  /**
   * @param quota what is limited: service or group of actions, and region
   * @param whose whose calls share it, where that is not everybody's: profile, endpoint
   * @param rate calls per second that the provider publishes; null: it publishes none
   */
  of(quota: string, whose: string, rate: number | null, deps: LimiterDeps): Limiter {
    const name = `${quota} ${whose}`.trimEnd();
    const { limiter } = this.#made.get(name) ?? { limiter: new Limiter(name, rate, deps) };
    this.#made.set(name, { quota, limiter });
    return limiter;
  }

  /** One for each quota, whoever shares it: profiles may be named after accounts. */
  told(): readonly Limited[] {
    const told = new Map<string, Limited>();
    for (const { quota, limiter } of this.#made.values()) {
      const { heldBack = 0, heldFor = 0, throttled = 0 } = told.get(quota) ?? {};
      const { counts } = limiter;
      told.set(quota, {
        quota,
        heldBack: heldBack + counts.heldBack,
        heldFor: heldFor + counts.heldFor,
        throttled: throttled + counts.throttled,
      });
    }
    return [...told.values()];
  }
}

const shared = new WeakMap<object, Limiters>();

/** Those of a process, which is known by its environment. */
export function limitersOf(env: object): Limiters {
  const limiters = shared.get(env) ?? new Limiters();
  shared.set(env, limiters);
  return limiters;
}
