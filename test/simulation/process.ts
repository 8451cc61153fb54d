import type { Clock } from "../../src/engine/deps.ts";
import type { Random } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** Wall clocks show 2026-01-01 when the world begins, give or take their skew. */
export const EPOCH = 1_767_225_600_000;

/** What befalls a process, either at its nth wake or the nth time that it passes a point such as `disable:sent`. */
export interface Fate {
  readonly kind: "crash" | "stop" | "jump";
  readonly wake?: number;
  readonly point?: string;
  readonly nth?: number;
  /** Of a stop: how long. Of a jump: by how much the wall clock moves. */
  readonly ms: number;
  /** Of a stop: the machine sleeps, so that its monotonic clock stands still. */
  readonly asleep?: boolean;
}

/** One runner on one machine. What it awaits is resolved by the scheduler, or never. */
export class Process implements Clock {
  state: "running" | "stopped" | "crashed" | "finished" = "running";
  /** The stores of the policy that it has read. */
  stores: readonly string[] = [];
  readonly #scheduler: Scheduler;
  #skew: number;
  #asleep = 0;
  #asleepSince: number | null = null;
  #wakes = 0;
  #kept: (() => void)[] = [];
  readonly #passed = new Map<string, number>();
  #fates: Fate[];

  constructor(
    scheduler: Scheduler,
    readonly id: string,
    readonly host: string,
    readonly pid: number,
    readonly random: Random,
    skew: number,
    fates: readonly Fate[],
    readonly log: (process: Process, line: () => string) => void,
  ) {
    this.#scheduler = scheduler;
    this.#skew = skew;
    this.#fates = [...fates];
  }

  wall(): number {
    return EPOCH + this.#scheduler.now + this.#skew;
  }

  monotonic(): number {
    return this.#scheduler.now - this.#asleep;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return this.pause(ms, "sleep", signal);
  }

  /** Every await of a fake goes through here; the end of it may never come. */
  pause(ms: number, point: string, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (this.#meetsAt(point) === "crash" || signal?.aborted) {
        if (this.state !== "crashed") this.#scheduler.after(0, resolve, this);
        return;
      }
      let woken = false;
      const wake = () => {
        if (woken) return;
        woken = true;
        signal?.removeEventListener("abort", aborted);
        resolve();
      };
      const aborted = () => this.#scheduler.after(0, wake, this);
      signal?.addEventListener("abort", aborted);
      if (Number.isFinite(ms)) this.#scheduler.after(Math.max(0, ms), wake, this);
    });
  }

  /** Whether a wake reaches this process now; a stopped one keeps it for later. */
  takes(run: () => void): boolean {
    if (this.state === "running") {
      this.#wakes++;
      this.#fates = this.#fates.filter((fate) => {
        if (fate.wake === undefined || fate.wake > this.#wakes) return true;
        this.#suffer(fate);
        return false;
      });
    }
    // What a fate has just changed counts for this very wake.
    const state = this.state as Process["state"];
    if (state === "stopped") this.#kept.push(run);
    return state === "running";
  }

  finish(): void {
    if (this.state !== "crashed") this.state = "finished";
  }

  crash(): void {
    if (this.state === "finished" || this.state === "crashed") return;
    this.state = "crashed";
    this.log(this, () => "killed");
  }

  go(): void {
    if (this.state !== "stopped") return;
    this.state = "running";
    if (this.#asleepSince !== null) this.#asleep += this.#scheduler.now - this.#asleepSince;
    this.#asleepSince = null;
    this.log(this, () => "goes on");
    for (const run of this.#kept) this.#scheduler.after(0, run, this);
    this.#kept = [];
  }

  /** From now on nothing more befalls it. */
  spare(): void {
    this.#fates = [];
    this.go();
  }

  #meetsAt(point: string): "crash" | null {
    if (this.#fates.length === 0) return null;
    const nth = (this.#passed.get(point) ?? 0) + 1;
    this.#passed.set(point, nth);
    const fate = this.#fates.find((f) => f.point === point && (f.nth ?? 1) === nth);
    if (fate) this.#suffer(fate);
    return this.state === "crashed" ? "crash" : null;
  }

  #suffer(fate: Fate): void {
    if (this.state !== "running") return;
    if (fate.kind === "crash") return this.crash();
    if (fate.kind === "jump") {
      this.#skew += fate.ms;
      this.log(this, () => `wall clock jumps by ${fate.ms} ms`);
      return;
    }
    this.state = "stopped";
    this.log(this, () => `stopped for ${fate.ms} ms${fate.asleep ? ", machine asleep" : ""}`);
    if (fate.asleep) this.#asleepSince = this.#scheduler.now;
    this.#scheduler.after(fate.ms, () => this.go());
  }
}
