import * as z from "zod";
import type { SecretRules } from "../core/rules.ts";
import type { Ctx } from "./context.ts";
import type { Issuer } from "./issuer.ts";
import type { Notifier } from "./notifier.ts";
import type { StateBackend } from "./state.ts";
import type { Store } from "./store.ts";
import type { UsageMonitor } from "./usage.ts";

/** What an adapter may reach of the world; it reads nothing of the environment by itself. */
export interface AdapterDeps {
  /** Absolute folder that relative paths of the policy start from. */
  readonly folder: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Wall clock, ms. */
  readonly now: () => number;
  /** Waits; rejects when the signal aborts. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** One line for `--verbose`. Never a value. */
  readonly debug: (line: string) => void;
  /** One line a person should see once, whatever the verbosity. */
  readonly announce: (line: string) => void;
}

/** What the secret being wired is called, and how its fields are named in one store. */
export interface DeliveryTarget {
  readonly secret: string;
  /** Name in the store → field of the issuer. */
  readonly fields: Readonly<Record<string, string>>;
  /** Not the secret's first store: values are only put here, none waits in it. */
  readonly mirror?: boolean;
}

/** A setting that must be a reference (`${env:…}`, `${file:…}`), never a credential in clear. */
export function credential(): z.ZodString {
  return z.string().min(1).meta({ credential: true });
}

/** A path relative to the policy's folder. */
export function path(): z.ZodString {
  return z.string().min(1);
}

/** The delays that a type always has, by the names that `timing:` and usage entries override: less is worth a warning. */
export type PublishedDelays = Readonly<Record<string, number>>;

/** Something that is there and that a policy could name. */
export interface Found {
  /** As people call it: `IAM user payments-app`. */
  readonly label: string;
  /** Its own name, without its kind. */
  readonly name: string;
  /** Settings of the adapter. Credentials stand in them as references, never as values. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Of a store: what is known of a delivery to it. */
  readonly delivery?: Readonly<Record<string, unknown>>;
  /** Of a store: names of fields that it holds already. */
  readonly fields?: readonly string[];
}

/** A look round, for whoever begins a policy. */
export interface Discovery {
  /** Who answered, and as whom: `account 123456789012 as user/ci`. */
  readonly where: string;
  readonly found: readonly Found[];
}

/**
 * Looks at what is there, by what the environment alone says; changes nothing. The caller gives it a few seconds.
 * @throws ProviderError where nothing can be looked at: no credentials, no address, no answer
 */
export type Discover = (deps: AdapterDeps, ctx: Ctx) => Promise<Discovery>;

export type Inference = Pick<SecretRules, "exclusive" | "orphans">;

/** `settings` are the adapter's own keys beside `type` (and `timing`, which the wiring handles). */
export interface IssuerAdapter<S extends z.ZodObject = z.ZodObject> {
  readonly type: string;
  readonly settings: S;
  /** Field names of the values it issues. */
  readonly fields: readonly string[];
  /** The settings that tell one owner from another (default: all), and how many keys each has where that is fixed. */
  readonly owner?: { readonly by: readonly string[]; readonly slots: number };
  /** Whether `usage: [{type: issuer}]` has an answer. null: only known when it runs. */
  readonly reportsUsage: boolean | null;
  /** What the policy says of a key that only its time shows to be ours. Default: not exclusive, inferred. */
  inference?(settings: z.output<S>): Inference;
  /** With `granularity` and `lag` where it reports usage. */
  readonly published?: PublishedDelays;
  readonly discover?: Discover;
  /** `stores`: where this secret is delivered, the authority first. */
  create(settings: z.output<S>, secret: string, deps: AdapterDeps, stores: readonly Store[]): Issuer;
}

export interface StoreAdapter<S extends z.ZodObject = z.ZodObject, D extends z.ZodObject = z.ZodObject> {
  readonly type: string;
  readonly settings: S;
  /** The keys of one delivery beside `use` and `fields`. */
  readonly delivery: D;
  readonly published?: PublishedDelays;
  /** The object is the delivery's alone: without `fields` it holds whatever the issuer gives. */
  readonly ownObject?: true;
  readonly discover?: Discover;
  /** A short name of what is written, for people: a path, a secret's name. */
  nameOf(settings: z.output<S>, delivery: z.output<D>, target: DeliveryTarget): string;
  create(settings: z.output<S>, delivery: z.output<D>, target: DeliveryTarget, deps: AdapterDeps): Store;
}

export interface UsageAdapter<S extends z.ZodObject = z.ZodObject> {
  readonly type: string;
  readonly settings: S;
  readonly published?: PublishedDelays;
  /** Delays that nobody but the policy knows, so an entry has to say them. */
  readonly asks?: readonly ("granularity" | "lag")[];
  /** Its `unknown` does not block unless the entry says `optional: false`: it never proves silence. */
  readonly optional?: boolean;
  create(settings: z.output<S>, secret: string, deps: AdapterDeps): UsageMonitor;
}

export interface NotifierAdapter<S extends z.ZodObject = z.ZodObject> {
  readonly type: string;
  readonly settings: S;
  /** What it creates has a `beat`: it hears of whole runs. */
  readonly beats?: true;
  create(settings: z.output<S>, deps: AdapterDeps): Notifier;
}

export interface StateAdapter<S extends z.ZodObject = z.ZodObject> {
  readonly type: string;
  readonly settings: S;
  /** Settings out of `--state URL`, or null when the URL is not of this kind. */
  fromUrl(url: string): z.input<S> | null;
  /** What the query of a URL may say. Left out: URLs of this kind have none. */
  readonly urlKeys?: readonly string[];
  create(settings: z.output<S>, deps: AdapterDeps): Promise<StateBackend>;
}
