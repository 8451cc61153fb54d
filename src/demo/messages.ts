import type { Duration, Instant } from "../core/duration.ts";

/** The first message to a client process. Where the key is, never the key. */
export interface Orders {
  readonly instance: string;
  /** Of the authority. */
  readonly url: string;
  /** The secret's name, the store's folder and its identity file. */
  readonly source: { readonly name: string; readonly path: string; readonly identity: string };
  readonly perSecond: number;
  /** How long it uses a key before it looks for another. */
  readonly keeps: Duration;
}

/** What comes after: read the key afresh, as after a restart; finish what is under way and end. */
export type Word = "re-read" | "stop";

/** From a client process, a few times a second, and once more before it ends. */
export interface ClientReport {
  /** Of the answer that came last. */
  readonly version: string | null;
  readonly keyId: string | null;
  readonly requests: number;
  /** Requests that were refused or not answered at any attempt, even where the SDK's second attempt succeeded. */
  readonly failed: number;
  /** Wall clock. */
  readonly lastAt: Instant | null;
  /** Of the requests since the report before, ms. */
  readonly latencies: readonly number[];
}
