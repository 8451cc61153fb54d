import type { Decision } from "../core/case.ts";
import type { SecretState } from "../core/model.ts";
import type { PausedAll } from "./result.ts";

/**
 * The pause that no document holds. It is asked for anew only where a decision may turn on it: between an issue and
 * its stage nothing does, and an answer that does not come would cost the value that is in memory alone.
 */
export class PauseOfAll {
  #known: PausedAll | null = null;
  #isKnown = false;

  constructor(private readonly ask: (() => Promise<PausedAll | null>) | undefined) {}

  /** @throws what asking throws; an incident heeds no pause, and asks for none */
  async answer({ incident }: SecretState, anew: boolean): Promise<PausedAll | null> {
    if (this.ask === undefined || incident !== null) return null;
    if (anew || !this.#isKnown) this.#known = await this.ask();
    this.#isKnown = true;
    return this.#known;
  }
}

/** Whether a pause that began, or ended, a moment ago would have it otherwise. */
export function turnsOnPause(decision: Decision): boolean {
  switch (decision.decision) {
    case "act":
      return ["hook", "issue", "disable", "delete"].includes(decision.action.do);
    case "note":
      return decision.facts.some(({ fact }) => fact === "begun");
    case "wait":
      return decision.reason === "paused";
    default:
      return false;
  }
}
