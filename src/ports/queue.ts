import type { Duration } from "../core/duration.ts";

/** When to look at a secret again. */
export interface Wake {
  readonly secret: string;
  /** From now; measured by the queue's clock. */
  readonly in: Duration;
  /** What was known of the secret when this was decided: see {@link Waiting.seen}. */
  readonly seen: string;
}

/** A wake that the queue holds. */
export interface Waiting {
  /** null: it does not say. */
  readonly seen: string | null;
  /** From now; negative when it is late. */
  readonly in: Duration;
  /** A worker that is alive has begun with it. */
  readonly isTaken: boolean;
}

/** One wake that came: the secret, and how much later than it was meant to. */
export type Woken = (secret: string, late: Duration) => Promise<void>;

export interface Working {
  /** So many wakes are worked on at a time. */
  readonly concurrency: number;
  /** Aborts: no further wake is begun, and `work` ends when those begun have. */
  readonly signal: AbortSignal;
  readonly woken: Woken;
  /** Something of the queue failed; it is tried again. */
  readonly failed: (error: unknown) => void;
}

/**
 * Wakes workers up, on whatever machine. It may forget a wake, hand it out twice or too early: the documents alone
 * say what there is to do.
 *
 * Errors: as of a state backend.
 */
export interface Queue {
  /** Makes what it needs; several processes may begin at once. */
  prepare(): Promise<void>;
  /** One wake for each secret: a new one takes the place of an older one, unless that has begun. */
  add(wakes: readonly Wake[]): Promise<void>;
  /** All there are, by secret. */
  waiting(): Promise<ReadonlyMap<string, Waiting>>;
  work(working: Working): Promise<void>;
  /** Says that this worker is alive, and hands what workers had begun that no longer say so to others. */
  beat(): Promise<void>;
  close(): Promise<void>;
}
