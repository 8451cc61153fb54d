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

/**
 * For a call outside of a rotation. Nothing fences it: no intent was saved that it could outlast. What it changes may
 * change at any time, or the provider refuses it by a condition.
 *
 * @param signal without it nobody interrupts the call
 */
export function outside(signal: AbortSignal = new AbortController().signal): Ctx {
  return { signal, fence: () => {}, attempt: 1, rotationId: null };
}

/** One line of the least privilege, in the provider's own words. No values. */
export type Permission = AwsPermission | VaultPermission;

export interface AwsPermission {
  readonly for: "aws";
  /** What it serves, for people: "disable and delete old keys". */
  readonly why: string;
  /** `iam:CreateAccessKey` … */
  readonly actions: readonly string[];
  /** ARNs; `*` where the action knows no other. */
  readonly resources: readonly string[];
}

export interface VaultPermission {
  readonly for: "vault";
  readonly why: string;
  readonly address: string;
  /** "" for the root namespace. */
  readonly namespace: string;
  /** As a policy has it: `secret/data/payments/aws`. */
  readonly path: string;
  readonly capabilities: readonly ("create" | "read" | "update" | "patch" | "delete" | "list" | "sudo")[];
}

export type { Description, Finding } from "../core/observed.ts";
