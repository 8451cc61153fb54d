/**
 * What every call to a provider gets.
 *
 * Obligations of an adapter: pass `signal` on; call `fence` as the last thing before bytes that may change
 * something leave the process (a request written, a file renamed), never earlier and in every such place.
 */
export interface Ctx {
  readonly signal: AbortSignal;
  /** @throws ProviderError `unavailable`, applied `no`, when the call's duration has passed. A look has none. */
  readonly fence: () => void;
  /** 1 for the first attempt. */
  readonly attempt: number;
  /** For user agents and audit trails; null outside a rotation. */
  readonly rotationId: string | null;
}

export type { Description, Finding } from "../core/observed.ts";
