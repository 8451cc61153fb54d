import type { Duration } from "./duration.ts";

/** What a provider's answer means, whatever the provider calls it. */
export type ProviderErrorKind =
  | "denied"
  | "not-found"
  | "conflict"
  | "throttled"
  | "unavailable"
  | "invalid"
  | "quota"
  | "unauthenticated";

/** `no`: the call certainly changed nothing. `maybe`: it may have, or may yet. */
export type Applied = "no" | "maybe";

export interface ProviderErrorDetail {
  /** What follows the provider's "come back later", in ms. */
  readonly retryAfter?: Duration;
  readonly requestId?: string;
  /** Another process of ours holds what is needed: nobody failed. */
  readonly contended?: boolean;
  /** What a person could do about it. */
  readonly hint?: string;
}

/**
 * The one error that adapters throw. Its message is written by the adapter and never quotes a request or a
 * response body: third-party texts carry values.
 */
export class ProviderError extends Error {
  override readonly name = "ProviderError";
  constructor(
    readonly kind: ProviderErrorKind,
    readonly applied: Applied,
    message: string,
    readonly detail: ProviderErrorDetail = {},
  ) {
    super(message);
  }

  /** An exception nobody foresaw counts as `unavailable`, applied `maybe`; its text is dropped, for it may quote a value. */
  static from(error: unknown): ProviderError {
    if (error instanceof ProviderError) return error;
    const kind = error instanceof Error ? error.constructor.name : typeof error;
    return new ProviderError("unavailable", "maybe", `unexpected ${kind} in an adapter`);
  }
}

/** Errors that are tried again; all others need a person or another way. */
export function isTransient(kind: ProviderErrorKind): boolean {
  return kind === "throttled" || kind === "unavailable" || kind === "conflict";
}

/** A person's input cannot be honoured: bad usage, bad policy, bad state. Printed as one line and its hints. */
export class UserError extends Error {
  override readonly name = "UserError";
  constructor(
    /** A stable word for `error.code` in JSON. */
    readonly code: string,
    message: string,
    readonly options: { readonly hints?: readonly string[]; readonly exit?: 1 | 2 | 3 | 4; readonly at?: string } = {},
  ) {
    super(message);
  }
}
