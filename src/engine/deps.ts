import type { Instant } from "../core/duration.ts";
import type { SecretState } from "../core/model.ts";
import type { Due, HookPoint, SecretRules } from "../core/rules.ts";
import type { Safeguard } from "../core/safeguards.ts";
import type { SecretValue } from "../core/secret-value.ts";
import type { Issuer } from "../ports/issuer.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { StateBackend } from "../ports/state.ts";
import type { Store } from "../ports/store.ts";
import type { UsageMonitor } from "../ports/usage.ts";

export interface Clock {
  /** ms since 1970; may jump. */
  wall(): Instant;
  /** ms since some start; never jumps, may stand still while the machine sleeps. */
  monotonic(): number;
  /** Resolves after `ms`, or as soon as the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface Runner {
  /** Unique for this process. */
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  /** Who, for people: `user@host`, `ci:…`. */
  readonly actor: string;
}

export interface HookCall {
  readonly point: HookPoint;
  readonly index: number;
  /** The same for every attempt of this hook in this rotation. */
  readonly id: string;
  readonly rotationId: string;
  /** JSON for the hook's stdin; no value. */
  readonly context: Readonly<Record<string, unknown>>;
  /** The value served from now on, for hooks that ask for it. */
  readonly value: SecretValue | null;
}

/** Everything of one secret that has effects, wired from its policy. Deliveries and stores share their ids. */
export interface SecretPorts {
  readonly rules: SecretRules;
  readonly issuer: Issuer;
  readonly stores: ReadonlyMap<string, Store>;
  readonly monitors: ReadonlyMap<string, UsageMonitor>;
  readonly notifiers: readonly {
    readonly name: string;
    readonly events: readonly string[];
    readonly notifier: Notifier;
  }[];
  /** When the next rotation is due, by the schedule. */
  due(state: SecretState, wall: Instant): Due;
  /** @throws when it fails; its message is shown to people. */
  runHook(call: HookCall, signal: AbortSignal): Promise<void>;
}

export interface EngineDeps {
  readonly state: StateBackend;
  readonly clock: Clock;
  readonly runner: Runner;
  /** So many random bytes, as hex. */
  readonly random: (bytes: number) => string;
  /** Hex digest that chains the audit log. */
  readonly hash: (text: string) => string;
  /** How long a lease holds without renewal, ms. */
  readonly lease: number;
  /** Whether a lease's holder is a process that is certainly dead. Whoever does not know says no. */
  readonly isDead: (host: string, pid: number, runner?: string) => boolean;
  /** One line for `--verbose`. */
  readonly debug: (line: string) => void;
  /** For people, who may want to know it once. */
  readonly warn?: (line: string) => void;
  /** Known to the simulation only: safeguards that are switched off, to prove that each is needed. */
  readonly off?: ReadonlySet<Safeguard>;
}
