import type { SecretState } from "../core/model.ts";
import type { Now } from "../core/rules.ts";
import type { EngineDeps } from "./deps.ts";
import type { Document } from "./document.ts";

/** Whether somebody else may be at work on the document. */
export function isTaken(state: SecretState, deps: EngineDeps, now: Now): boolean {
  const { lease } = state;
  if (lease === null || lease.runner === deps.runner.id) return false;
  // A dead process of this host renews no more. What it sent may still land: the fence is for that, not the lease.
  if (lease.renewedAt + lease.duration <= now.doc) return false;
  return !deps.isDead(lease.host, lease.pid, lease.runner);
}

/**
 * The right to make progress on one secret. Safety never rests on it (that is compare-and-set, and the fence); it
 * keeps two healthy runs out of each other's way.
 */
export class Lease {
  #renewing: AbortController | null = null;
  #lost = new AbortController();
  #either: AbortSignal | null = null;

  constructor(
    private readonly deps: EngineDeps,
    private readonly document: Document,
    private readonly interrupted: AbortSignal,
  ) {}

  get held(): boolean {
    return this.#renewing !== null && this.document.state.lease?.runner === this.deps.runner.id;
  }

  /** Aborts when the run is interrupted or its lease is lost: calls, hooks and processes under it end. */
  get signal(): AbortSignal {
    this.#either ??= AbortSignal.any([this.interrupted, this.#lost.signal]);
    return this.#either;
  }

  /** `stale`: the document moved; decide again. */
  async acquire(): Promise<"held" | "taken" | "stale"> {
    if (this.held) return "held";
    if (isTaken(this.document.state, this.deps, this.document.now())) return "taken";
    const { id, host, pid, actor } = this.deps.runner;
    const result = await this.document.commit([
      { fact: "leased", lease: { runner: id, host, pid, actor, duration: this.deps.lease } },
    ]);
    if (result === "stale") return "stale";
    this.stop();
    this.#lost = new AbortController();
    this.#either = null;
    const renewing = new AbortController();
    this.#renewing = renewing;
    void this.#renew(renewing.signal, this.#lost);
    return "held";
  }

  /** The holder is about to be released or gone: stops renewing. The caller commits the `released` fact. */
  stop(): void {
    this.#renewing?.abort();
    this.#renewing = null;
  }

  async #renew(stopped: AbortSignal, lost: AbortController): Promise<void> {
    const { clock, runner, lease } = this.deps;
    while (!stopped.aborted) {
      await clock.sleep(lease / 3, stopped);
      if (stopped.aborted || !this.document.exists) return;
      try {
        await this.document.commit([{ fact: "renewed", runner: runner.id }]);
      } catch {
        continue; // The backend does not answer: others wait the lease out, and our next commit tells.
      }
      if (this.document.state.lease?.runner !== runner.id) return lost.abort();
    }
  }
}
