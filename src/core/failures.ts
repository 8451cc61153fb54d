import type { Failure, SecretState } from "./model.ts";

export function failureOf(state: SecretState, step: string): Failure | null {
  return state.rotation?.failures.find((f) => f.step === step) ?? null;
}

export function stepOf(effect: string, delivery: string | null): string {
  return delivery === null ? effect : `${effect} ${delivery}`;
}
