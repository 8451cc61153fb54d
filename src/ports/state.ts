import type { Duration, Instant } from "../core/duration.ts";
import type { SecretState } from "../core/model.ts";
import type { Permission } from "./context.ts";

/** The backend's own revision of a document. */
export type Revision = string;

export interface Loaded {
  readonly revision: Revision;
  readonly state: SecretState;
  /** How long ago this revision was saved, by the BACKEND's clock, never more than the truth; at least 0. */
  readonly age: Duration;
}

/**
 * One document per secret, saved by compare-and-set.
 *
 * Errors: `UserError` with code `state-newer` (schema of a newer version), `state-damaged`, `state-unwritable`;
 * a backend that does not answer throws `ProviderError` `unavailable`.
 */
export interface StateBackend {
  /** Which place this is, for people too: the same text by whatever way it is reached. No password. */
  readonly location: string;
  /** What leads here from any machine, in a policy or by `--state`; no password. Left out: `location` does. */
  readonly address?: string;
  /**
   * Every document, in any order, each as it was at some time of the reading: no snapshot. Those that cannot be read
   * keep nobody from the others: one of them is thrown, as `load` would, once all the others were handed out.
   */
  loadAll(): AsyncIterable<Loaded>;
  /** null: there is none. */
  load(name: string): Promise<Loaded | null>;
  /**
   * Replaces revision `expected` (null: there must be none).
   * `unknown`: it may or may not have been saved; the caller loads and looks for its `commitId`.
   */
  save(
    name: string,
    next: SecretState,
    expected: Revision | null,
  ): Promise<{ readonly result: "saved"; readonly revision: Revision } | { readonly result: "stale" | "unknown" }>;
  /**
   * Removes a document (`forget`); the audit log stays.
   * @throws ProviderError, applied `maybe`, where no answer came: it may or may not have been removed
   */
  remove(name: string, expected: Revision): Promise<"removed" | "stale">;
  readonly audit: AuditLog;
  /** The least privilege to keep state there, in the provider's words; calls nothing. Missing: it has none to name. */
  permissions?(): readonly Permission[];
  close(): Promise<void>;
}

/** One line of the audit log, born in the commit that it tells of. */
export interface AuditEntry {
  readonly secret: string;
  /** 1, 2, 3 … for each secret. */
  readonly seq: number;
  /** Hash of the entry before, as hex; "" for the first. */
  readonly previous: string;
  readonly hash: string;
  readonly at: Instant;
  readonly actor: string;
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface AuditLog {
  /** Idempotent by (secret, seq). The same seq with another hash throws `UserError` `state-damaged`. */
  append(entries: readonly AuditEntry[]): Promise<void>;
  read(secret: string | null, limit: number): Promise<readonly AuditEntry[]>;
}
