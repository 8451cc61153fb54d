import type { z } from "zod";
import type { Kind, Registry } from "../adapters/registry.ts";
import { clearCredentials } from "./credentials.ts";
import { missingIssue, valueIssue, type Issue } from "./issues.ts";
import type { Timing } from "./model.ts";
import { nearest, suggestion } from "./nearest.ts";
import { formatPath, isRecord, own, type Path } from "./path.ts";
import { hasReference, holdsReference, resolveReferences, type Env } from "./references.ts";
import { check, unknownKey, type Checked } from "./zod-issues.ts";
import type {
  IssuerAdapter,
  NotifierAdapter,
  PublishedDelays,
  StateAdapter,
  StoreAdapter,
  UsageAdapter,
} from "../ports/adapter.ts";

export interface Adapters {
  issuer: IssuerAdapter;
  store: StoreAdapter;
  usage: UsageAdapter;
  notifier: NotifierAdapter;
  state: StateAdapter;
}

/** What loading a policy gathers. */
export interface Gathered {
  readonly registry: Registry;
  readonly env: Env;
  readonly folder: string;
  readonly issues: Issue[];
  readonly warnings: Issue[];
}

const loading = new WeakMap<object, Promise<unknown>>();

/** The adapter that a map's `type` names; null after an issue. */
export async function adapterOf<K extends Kind>(
  kind: K,
  raw: Record<string, unknown>,
  at: Path,
  gathered: Gathered,
): Promise<Adapters[K] | null> {
  const { registry, issues } = gathered;
  const known = Object.keys(registry[kind]);
  const type = own(raw, "type");
  if (type === undefined) {
    const meant = Object.keys(raw).find((key) => nearest(key, ["type"]) !== null);
    issues.push(meant === undefined ? missingType(kind, at, known) : unknownKey([...at, meant], ["type"]));
    return null;
  }
  const entry = typeof type === "string" ? own(registry[kind], type) : undefined;
  if (entry === undefined) {
    issues.push(valueIssue([...at, "type"], unknownType(kind, type, known, registry)));
    return null;
  }
  const { load } = entry as { load: () => Promise<Adapters[K]> };
  let adapter = loading.get(load);
  if (!adapter) loading.set(load, (adapter = load()));
  return adapter as Promise<Adapters[K]>;
}

function missingType(kind: Kind, at: Path, known: readonly string[]): Issue {
  const issue = missingIssue(at, "type");
  return known.length > 0 ? { ...issue, hint: `${kind} types: ${known.join(", ")}` } : issue;
}

function unknownType(kind: Kind, type: unknown, known: readonly string[], registry: Registry): string {
  if (typeof type !== "string") return "must be a text";
  if (hasReference(type)) return "a type must stand here itself, not a reference";
  if (registry.planned[kind].includes(type))
    return `${kind} type "${type}" is not in this version${suggestion("", known)}`;
  // A type that is near no known one may be anything, a value gone astray included.
  const all = [...known, ...registry.planned[kind]];
  return `unknown ${kind} type${nearest(type, all) === null ? "" : ` "${type}"`}${suggestion(type, all)}`;
}

/** The policy's own keys of an adapter's map, references resolved, and the rest. */
export function ownKeys<S extends z.ZodObject>(schema: S, raw: Record<string, unknown>, at: Path, gathered: Gathered) {
  const mine: Record<string, unknown> = {};
  const rest: Record<string, unknown> = {};
  for (const key of Object.keys(raw)) (Object.hasOwn(schema.shape, key) ? mine : rest)[key] = raw[key];
  const checked = check(schema, resolveNow(mine, at, gathered), at);
  gathered.issues.push(...checked.issues);
  return { own: checked.data, rest };
}

/** For what is needed at once, such as durations. */
export function resolveNow<T>(value: T, at: Path, { env, folder, issues }: Gathered): T {
  return holdsReference(value) ? resolveReferences(value, at, { env, folder }, issues) : value;
}

/** Checks an adapter's settings as far as that goes while references stand in them. */
export function checkSettings<S extends z.ZodObject>(
  schema: S,
  settings: Record<string, unknown>,
  at: Path,
  otherKeys: readonly string[],
  gathered: Gathered,
): z.output<S> | null {
  const checked: Checked<z.output<S>> = check(strictly(schema), settings, at, { otherKeys, references: "kept" });
  const clear = clearCredentials(settings, schema, at);
  if (clear.length === 0 && checked.issues.length === 0) return checked.data;
  // One message a place: "in clear" says more than "too short".
  const told = new Set(clear.map((issue) => formatPath(issue.path)));
  gathered.issues.push(...clear, ...checked.issues.filter((issue) => !told.has(formatPath(issue.path))));
  return checked.data;
}

const strict = new WeakMap<z.ZodObject, z.ZodObject>();

/** The schema, refusing unknown keys; made once, for making it costs more than using it. */
export function strictly<S extends z.ZodObject>(schema: S): S {
  let found = strict.get(schema);
  if (!found) strict.set(schema, (found = schema.strict()));
  return found as S;
}

export function asMap(value: unknown, at: Path, gathered: Gathered): Record<string, unknown> | null {
  if (isRecord(value)) return value;
  gathered.issues.push(valueIssue(at, "must be a map"));
  return null;
}

/** Warns where a delay is set lower than the provider is known for. */
export function warnTiming(
  timing: Timing | Readonly<Record<string, number | null>> | null,
  published: PublishedDelays | undefined,
  at: Path,
  gathered: Gathered,
): void {
  for (const [key, value] of Object.entries(timing ?? {})) {
    const least = published && own(published, key);
    if (typeof value === "number" && typeof least === "number" && value < least) {
      gathered.warnings.push(valueIssue([...at, key], "is less than the provider is known to need"));
    }
  }
}
