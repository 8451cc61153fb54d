import type { z } from "zod";
import type { StateAdapter } from "../ports/adapter.ts";
import type { Duration } from "../core/duration.ts";
import type { HookPoint } from "../core/rules.ts";
import type { Path } from "./path.ts";
import type { Blackout } from "./blackouts.ts";
import type { Window } from "./window.ts";

/** What the policy says to one adapter. */
export interface Part {
  readonly type: string;
  /** The adapter's own keys as they stand in the file, references unresolved. {@link Policy.resolve} turns them into settings. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Where this stands in the policy. */
  readonly at: Path;
}

/** Overrides of an adapter's own delays. */
export type Timing = {
  readonly [K in "listSettle" | "propagation" | "settle" | "timeGranularity"]?: Duration | undefined;
};

export interface IssuerPolicy extends Part {
  readonly timing: Timing | null;
}

export interface StorePolicy extends Part {
  readonly timing: Timing | null;
}

export interface NotifierPolicy extends Part {
  /** null: all. */
  readonly events: readonly string[] | null;
}

export interface DeliveryPolicy extends StorePolicy {
  /** Unique in its secret and the same as long as the delivery's lines are: `<use or type>/<name>`. */
  readonly id: string;
  /** The name of the store in the policy; null where the store stands inline, or is the implicit local one. */
  readonly use: string | null;
  /** For people: what is written in the store. */
  readonly name: string;
  /** The delivery's own keys, references unresolved; `deliveryAt` is where they stand. */
  readonly delivery: Readonly<Record<string, unknown>>;
  readonly deliveryAt: Path;
  /** Name in the store → field of the issuer; null: the issuer's names. */
  readonly fields: Readonly<Record<string, string>> | null;
  /** The first staged store: it stands first and is the recovery copy. */
  readonly authority: boolean;
}

export interface UsagePolicy extends Part {
  /** `issuer`: the issuer's own answer; it has no settings. */
  readonly granularity: Duration | null;
  readonly lag: Duration | null;
  /** Its `unknown` does not block. */
  readonly optional: boolean;
}

export interface ConsumerPolicy {
  readonly name: string;
  /** Globs held against what a monitor calls a caller. */
  readonly match: readonly string[];
  readonly cadence: Duration | null;
  readonly cache: Duration | null;
  /** Revocation waits for its adoption. Default: true. */
  readonly required: boolean;
  readonly notify: string | null;
}

export interface HookPolicy {
  /** A text for `sh -c`, or an argument list. References are unresolved. */
  readonly run: string | readonly [string, ...string[]];
  readonly passValue: boolean;
  readonly timeout: Duration;
}

/** Exactly one of `every` and `cron` is not null. */
export interface Schedule {
  readonly every: Duration | null;
  readonly cron: string | null;
  /** IANA name; of `cron`. */
  readonly zone: string;
  readonly window: Window | null;
  /** Secrets start at moments of their own within this. */
  readonly spread: Duration;
}

export interface SecretPolicy {
  readonly name: string;
  readonly issuer: IssuerPolicy;
  /** The authority first. */
  readonly deliveries: readonly DeliveryPolicy[];
  readonly usage: "none" | readonly UsagePolicy[];
  readonly consumers: readonly ConsumerPolicy[];
  readonly hooks: Readonly<Record<HookPoint, readonly HookPolicy[]>>;
  readonly tags: readonly string[];
  readonly owner: string | null;
  readonly runbook: string | null;
  readonly acceptOutage: boolean;
  readonly enabled: boolean;
  /** null: by hand only. */
  readonly schedule: Schedule | null;
  /** Of the policy, those that hold for this secret. */
  readonly blackouts: readonly Blackout[];
  readonly verify: { readonly successes: number; readonly spread: Duration; readonly deadline: Duration };
  readonly overlap: {
    readonly minimum: Duration;
    readonly quiet: Duration;
    readonly maximum: Duration;
    readonly onMaximum: "block" | "alert";
    readonly remind: Duration;
  };
  readonly soak: { readonly for: Duration; readonly onFailedUse: "reenable" | "alert" };
  readonly retry: { readonly attempts: number; readonly backoff: Duration };
  readonly preflight: "warn" | "strict";
}

export interface StatePolicy {
  /** A URL (which may hold references) or an adapter and its settings; see {@link resolveState}. */
  readonly source: Part | { readonly url: string; readonly at: Path };
  readonly lease: Duration;
}

export interface Policy {
  /** Absolute folder that relative paths start from. */
  readonly folder: string;
  /** Absolute path of the file. */
  readonly file: string;
  readonly state: StatePolicy;
  /** How many secrets one command works on at a time, in all and of an issuer type. */
  readonly maxConcurrent: { readonly overall: number; readonly issuers: ReadonlyMap<string, number> };
  readonly stores: ReadonlyMap<string, StorePolicy>;
  readonly notifiers: ReadonlyMap<string, NotifierPolicy>;
  readonly secrets: ReadonlyMap<string, SecretPolicy>;
  /**
   * Settings for one adapter: references replaced by what they name, then checked by the adapter's schema.
   * @throws UserError `credentials-missing` naming every missing variable or file and its place, exit 2;
   *   `policy-invalid` when what came in is not what the schema wants. Neither quotes a value.
   */
  resolve<S extends z.ZodObject>(
    settings: Readonly<Record<string, unknown>>,
    at: Path,
    schema: S,
  ): Promise<z.output<S>>;
  /** The same for strings that no adapter checks: hooks, a state URL. */
  resolveRaw<T>(value: T, at: Path): Promise<T>;
}

/** A state backend ready to be made. */
export interface ResolvedState {
  readonly adapter: StateAdapter;
  readonly settings: Readonly<Record<string, unknown>>;
}
