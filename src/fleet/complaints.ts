import type { Duration, Instant } from "../core/duration.ts";
import { failureOf, type Failure } from "../ui/failure.ts";

/** A part of a worker's work, which fails by itself or with the others. */
export type Part = "beat" | "sweep" | "turns" | "queue" | "traces";

/** What fails is tried again and again, and said once: by the part that sees it first, until that part succeeds. */
export class Complaints {
  /** Part → the codes of the failures that it has seen since it last succeeded. */
  readonly #failing = new Map<Part, Set<string>>();
  /** Such codes, and when they were said. */
  readonly #said = new Map<string, Instant>();

  /** @param echo for so long others see the same outage, for they all ask one server */
  constructor(
    private readonly say: (failure: Failure) => void,
    private readonly now: () => Instant,
    private readonly echo: Duration,
  ) {}

  failed(part: Part, error: unknown): void {
    const failure = failureOf(error);
    const { code } = failure;
    const seen = this.#failing.get(part) ?? new Set();
    const isEcho = this.now() - (this.#said.get(code) ?? -Infinity) < this.echo;
    const isNews = !seen.has(code) && !isEcho;
    this.#failing.set(part, seen.add(code));
    // No two bugs are the same.
    if (!isNews && code !== "bug") return;
    this.#said.set(code, this.now());
    this.say(failure);
  }

  succeeded(part: Part): void {
    for (const code of this.#failing.get(part) ?? []) this.#said.delete(code);
    this.#failing.delete(part);
  }
}
