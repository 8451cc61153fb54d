import { setTimeout as sleep } from "node:timers/promises";
import type { SecretPolicy } from "../config/model.ts";
import type { Duration, Instant } from "../core/duration.ts";
import type { SecretPorts } from "../engine/deps.ts";
import type { Progress } from "../engine/result.ts";
import { told, type Call } from "./calls.ts";
import { spanOf, rootOf, type Span } from "./spans.ts";

/** Takes spans away; rejects where nobody takes them. */
export type Send = (spans: readonly Span[]) => Promise<void>;

/** What is sent at once, and the most that is kept while nobody takes it. */
const ENOUGH = 200;
const MOST = 5000;
/** What is left at the end has so long in all: whoever ends does not wait for a collector. */
const CLOSING: Duration = 5000;
const WORTH_A_SPAN: ReadonlySet<string> = new Set([
  "issue",
  "verify",
  "stage",
  "put",
  "enable",
  "disable",
  "delete",
  "discard",
  "run",
]);

/**
 * One trace for each rotation, whichever processes work on it: a span for each effect, hook and trial of a key, and
 * one around them all from whoever sees the rotation end. Telling never fails a rotation.
 */
export class Traces {
  #spans: Span[] = [];
  #sending: Promise<void> | null = null;
  #isWarned = false;

  constructor(
    private readonly send: Send,
    private readonly warn: (line: string) => void,
    private readonly now: () => Instant,
  ) {}

  watched(secret: SecretPolicy, ports: SecretPorts): SecretPorts {
    return told(secret, ports, { heard: (call) => this.#call(call), now: this.now });
  }

  /** Something was told of a run: perhaps that it has ended a rotation. */
  happened({ name, state: { last }, event }: Progress): void {
    if (last === null || (event?.type !== "done" && event?.type !== "rolled-back")) return;
    const { id, reason, outcome, endedAt, startedAt = endedAt } = last;
    const offset = event.wall - event.at;
    this.#add(rootOf({ id, reason, secret: name, outcome, from: startedAt + offset, to: endedAt + offset }));
  }

  /** Resolves when everything was handed over, or something could not be: the rest is for the next time. */
  async flush(): Promise<void> {
    if (this.#sending === null && this.#spans.length > 0) this.#sending = this.#hand();
    await this.#sending;
  }

  /** The last flush, for which there is a bounded time. */
  async close(): Promise<void> {
    const ended = new AbortController();
    const late = sleep(CLOSING, null, { signal: ended.signal }).then(
      () => this.#complain("the collector does not answer in time"),
      () => {},
    );
    await Promise.race([this.flush(), late]);
    ended.abort();
  }

  #call(call: Call): void {
    if (call.rotation !== null && WORTH_A_SPAN.has(call.operation)) this.#add(spanOf(call, call.rotation));
  }

  #add(span: Span): void {
    if (this.#spans.length < MOST) this.#spans.push(span);
    if (this.#spans.length % ENOUGH === 0) void this.flush();
  }

  async #hand(): Promise<void> {
    try {
      while (this.#spans.length > 0) await this.send(this.#spans.splice(0, ENOUGH));
    } catch (error) {
      this.#complain(error instanceof Error ? error.message : "not taken");
    } finally {
      this.#sending = null;
    }
  }

  #complain(what: string): void {
    if (!this.#isWarned) this.warn(`traces: ${what}`);
    this.#isWarned = true;
  }
}
