import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Duration, Instant } from "../core/duration.ts";
import type { EventType } from "../core/events.ts";
import type { Outcome } from "../core/reasons.ts";
import type { Call } from "./calls.ts";

/** Where one secret stands; dates are wall clock. */
export interface Standing {
  readonly secret: string;
  /** null: nobody can read it. */
  readonly phase: string | null;
  readonly outcome: string;
  readonly reason: string;
  /** null: there is no current key, or its age is not known. */
  readonly issuedAt: Instant | null;
  readonly nextDue: Instant | null;
  readonly debt: number;
  /** Consumers that still use the old key. */
  readonly stragglers: number;
}

/** What was held back to keep within one quota of a provider's; counted from the start of the process. */
export interface Limit {
  readonly quota: string;
  readonly heldBack: number;
  readonly heldFor: Duration;
  readonly throttled: number;
}

/** What is asked for when the page is. */
export interface Sources {
  /** How many secrets are worked on at this moment. */
  readonly running: () => number;
  readonly limits: () => Iterable<Limit>;
  /** Wall clock. */
  readonly now: () => Instant;
}

const OUTCOMES: Partial<Record<EventType, string>> = {
  started: "started",
  done: "done",
  "rolled-back": "rolled-back",
  refused: "refused",
};

/** The library calls these gauges counters. */
const MISNAMED = ["nodejs_active_handles_total", "nodejs_active_requests_total", "nodejs_active_resources_total"];

/** What Prometheus reads of one worker. Secrets are labels: there are as many as the policy has. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #standings = new Map<string, Standing>();
  readonly #rotations = this.#counter("rotations_total", "Rotations by what became of them", ["secret", "outcome"]);
  readonly #runs = this.#counter("runs_total", "Runs of one secret by what they ended in", ["outcome", "reason"]);
  readonly #calls = this.#counter(
    "provider_calls_total",
    "Calls of providers, stores, monitors, notifiers and hooks; result is ok or the kind of failure",
    ["port", "type", "operation", "result"],
  );
  readonly #latency = new Histogram({
    name: "keyturn_provider_call_seconds",
    help: "How long such calls took",
    labelNames: ["port", "type"],
    buckets: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30],
    registers: [this.#registry],
  });
  readonly #heldBack = this.#counter("limiter_held_calls_total", "Calls that waited for room in a quota", ["quota"]);
  readonly #heldFor = this.#counter("limiter_held_seconds_total", "How long they waited", ["quota"]);
  readonly #throttled = this.#counter("limiter_throttled_total", "Answers that a quota is used up", ["quota"]);
  readonly #lag = new Histogram({
    name: "keyturn_wake_lag_seconds",
    help: "How much later than meant a secret's turn came",
    buckets: [1, 5, 15, 60, 300, 900, 3600],
    registers: [this.#registry],
  });
  readonly #late = this.#gauge("overdue_wake_seconds", "How long the turn that is most overdue waits for a worker", []);
  readonly #swept = this.#gauge("last_sweep_timestamp_seconds", "When the documents were read last", []);
  readonly #phase = this.#gauge("secret_phase", "1 for the phase that a secret is in", ["secret", "phase"]);
  readonly #outcome = this.#gauge("secret_outcome", "1 for what a secret stands in and why", [
    "secret",
    "outcome",
    "reason",
  ]);
  readonly #age = this.#gauge("key_age_seconds", "Age of the current key", ["secret"]);
  readonly #due = this.#gauge("next_due_timestamp_seconds", "When the schedule lets the next rotation start", [
    "secret",
  ]);
  readonly #debt = this.#gauge("debt_keys", "Keys that should be dead and are not proven dead", ["secret"]);
  readonly #stragglers = this.#gauge("stragglers", "Consumers that still use the old key", ["secret"]);

  readonly #running = this.#gauge("secrets_running", "Secrets that this worker works on", []);

  constructor(
    version: string,
    private readonly sources: Sources,
  ) {
    collectDefaultMetrics({ register: this.#registry });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
    this.#gauge("worker_info", "1; the version is its label", ["version"]).set({ version }, 1);
  }

  stands(standing: Standing): void {
    this.#standings.set(standing.secret, standing);
  }

  /**
   * Every document was read; what is no longer among these is nobody's business.
   * @param late how long the most overdue turn has waited for any worker
   */
  swept(known: ReadonlyMap<string, unknown>, late: Duration): void {
    this.#late.set(late / 1000);
    for (const secret of this.#standings.keys()) if (!known.has(secret)) this.#standings.delete(secret);
    this.#swept.set(this.sources.now() / 1000);
  }

  happened(secret: string, event: EventType): void {
    const outcome = OUTCOMES[event];
    if (outcome !== undefined) this.#rotations.inc({ secret, outcome });
  }

  ran(outcome: Outcome, reason: string, late: Duration): void {
    this.#runs.inc({ outcome, reason });
    this.#lag.observe(late / 1000);
  }

  called({ port, type, operation, result, took }: Call): void {
    this.#calls.inc({ port, type, operation, result });
    this.#latency.observe({ port, type }, took / 1000);
  }

  /** The page, and its content type. */
  async page(): Promise<{ readonly type: string; readonly text: string }> {
    this.#running.set(this.sources.running());
    this.#limits();
    const perSecret = [this.#phase, this.#outcome, this.#age, this.#due, this.#debt, this.#stragglers];
    for (const gauge of perSecret) gauge.reset();
    for (const { secret, phase, outcome, reason, issuedAt, nextDue, debt, stragglers } of this.#standings.values()) {
      if (phase !== null) this.#phase.set({ secret, phase }, 1);
      this.#outcome.set({ secret, outcome, reason }, 1);
      if (issuedAt !== null) this.#age.set({ secret }, Math.max(0, this.sources.now() - issuedAt) / 1000);
      if (nextDue !== null) this.#due.set({ secret }, nextDue / 1000);
      this.#debt.set({ secret }, debt);
      this.#stragglers.set({ secret }, stragglers);
    }
    return { type: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  /** Counted elsewhere, and here from nothing each time. */
  #limits(): void {
    for (const counter of [this.#heldBack, this.#heldFor, this.#throttled]) counter.reset();
    for (const { quota, heldBack, heldFor, throttled } of this.sources.limits()) {
      this.#heldBack.inc({ quota }, heldBack);
      this.#heldFor.inc({ quota }, heldFor / 1000);
      this.#throttled.inc({ quota }, throttled);
    }
  }

  #counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return new Counter({ name: `keyturn_${name}`, help, labelNames: [...labelNames], registers: [this.#registry] });
  }

  #gauge<L extends string>(name: string, help: string, labelNames: readonly L[]): Gauge<L> {
    return new Gauge({ name: `keyturn_${name}`, help, labelNames: [...labelNames], registers: [this.#registry] });
  }
}
