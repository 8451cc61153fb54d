import type { Outcome } from "../core/reasons.ts";

/** What a whole command ended in. `found`: `check` has something to say. */
export type CommandOutcome = Outcome | "found";

export const INTERRUPTED = { SIGINT: 130, SIGTERM: 143 } as const;

const WORST_FIRST: readonly Outcome[] = ["failed", "blocked", "locked", "waiting", "done"];

/** Of several secrets the worst counts; none at all is `done`. */
export function worst(outcomes: Iterable<Outcome>): Outcome {
  const seen = new Set(outcomes);
  return WORST_FIRST.find((outcome) => seen.has(outcome)) ?? "done";
}

/** @param detailed `--detailed-exitcode`: waiting is told from done. */
export function exitCode(outcome: CommandOutcome, detailed: boolean): number {
  switch (outcome) {
    case "done":
      return 0;
    case "failed":
      return 1;
    case "blocked":
      return 3;
    case "locked":
      return 4;
    case "found":
      return 5;
    case "waiting":
      return detailed ? 8 : 0;
  }
}
