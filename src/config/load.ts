import { dirname } from "node:path";
import type * as z from "zod";
import { registry as allAdapters, type Registry } from "../adapters/registry.ts";
import { blackoutsFor, buildBlackouts } from "./blackouts.ts";
import { crossCheck } from "./checks.ts";
import { matchFiles } from "./include.ts";
import { PolicyError, valueIssue, type Issue, type PlacedIssue } from "./issues.ts";
import type { NotifierPolicy, Policy, SecretPolicy, StorePolicy } from "./model.ts";
import { isRecord, NAME, own, type Path } from "./path.ts";
import { adapterOf, asMap, checkSettings, ownKeys, resolveNow, strictly, type Gathered } from "./parts.ts";
import { resolveReferences, type Env } from "./references.ts";
import { startsFrom } from "./schedule.ts";
import { defaultsSchema, includedFileSchema, mainFileSchema, notifierKeys } from "./schema.ts";
import { buildSecret, type Defaults, type SecretDraft } from "./secrets.ts";
import { readIncluded, readPolicy, type Source } from "./source.ts";
import { buildState } from "./state.ts";
import { buildStore } from "./stores.ts";
import { check, unknownKey } from "./zod-issues.ts";

export interface LoadOptions {
  /** Where to look, and what `file` is relative to. */
  readonly cwd: string;
  /** `--config`. */
  readonly file?: string;
  /** Instead of what `file` holds: a policy that is not written yet. */
  readonly text?: string;
  readonly env: Env;
  /** Wall clock; recurring blackouts are known from a year before it to two years after. Default: this machine's. */
  readonly now?: () => number;
  /** Default: all adapters of this version. */
  readonly registry?: Registry;
}

export interface LoadedPolicy {
  readonly policy: Policy;
  /** Nothing that stops anybody. */
  readonly warnings: readonly PlacedIssue[];
}

const MOST_ISSUES = 20;
const A_YEAR = 366 * 86_400_000;
const SECTIONS = ["stores", "notifiers", "secrets"] as const;

/**
 * Reads, checks and types the policy. References stay unresolved where they belong to adapters.
 * @throws UserError `policy-not-found`, `policy-unreadable`, `policy-syntax`; PolicyError `policy-invalid` with
 *   every issue, sorted by place (the first twenty), or `credentials-missing`. Exit 2, and no value is quoted.
 */
export async function loadPolicy(options: LoadOptions): Promise<LoadedPolicy> {
  const main = readPolicy(options.cwd, options.file, options.text);
  const folder = dirname(main.file);
  const gathered: Gathered = {
    registry: options.registry ?? allAdapters,
    env: options.env,
    folder,
    issues: [],
    warnings: [],
  };
  const { raw, top, sourceOf } = await withIncludes(options.cwd, main, gathered);
  const now = options.now?.() ?? Date.now();
  const blackouts = await buildBlackouts(top?.blackouts ?? [], now, gathered);
  const maxConcurrent = buildConcurrency(top?.maxConcurrent ?? {}, gathered);

  const defaults = resolveNow(raw.defaults, ["defaults"], gathered);
  const checkedDefaults = check(defaultsSchema.optional(), defaults, ["defaults"]);
  gathered.issues.push(...checkedDefaults.issues);
  const stores = await each(raw, "stores", gathered, buildStore);
  const notifiers = await each(raw, "notifiers", gathered, buildNotifier);
  const rules: Defaults = checkedDefaults.data ?? {};
  const secrets = await each(raw, "secrets", gathered, (value, [, name]) =>
    buildSecret(String(name), value, rules, stores, gathered),
  );
  const state = await buildState(raw.state, gathered);
  await crossCheck(raw, present(secrets), notifiers.keys(), now, gathered);
  for (const { policy } of blackouts.length === 0 ? [] : present(secrets)) {
    const planned = { ...policy, blackouts: blackoutsFor(blackouts, policy.tags) };
    if (policy.schedule !== null && startsFrom(planned, now) > now + A_YEAR)
      gathered.warnings.push(
        valueIssue(
          ["secrets", policy.name, "schedule"],
          "window and blackouts leave no moment to start in within a year",
        ),
      );
  }
  if (secrets.size === 0) gathered.warnings.push(valueIssue(["secrets"], "there are no secrets"));

  if (gathered.issues.length > 0 || !state) {
    const placed = await placeIssues(gathered.issues, sourceOf);
    throw new PolicyError(placed.slice(0, MOST_ISSUES), Math.max(0, placed.length - MOST_ISSUES));
  }
  // To find the place of each takes long, and nobody reads thousands.
  const told = gathered.warnings.slice(0, MOST_ISSUES);
  const more = gathered.warnings.length - told.length;
  const warnings = told.length > 0 ? await placeIssues(told, sourceOf) : [];
  if (more > 0) warnings.push({ at: main.shown, message: `${more} more warnings like these` });
  const fail = async (issues: readonly Issue[]): Promise<never> => {
    throw new PolicyError(await placeIssues(issues, sourceOf));
  };
  const resolveRaw = async <T>(value: T, at: Path): Promise<T> => {
    const missing: Issue[] = [];
    const resolved = resolveReferences(value, at, gathered, missing);
    return missing.length > 0 ? fail(missing) : resolved;
  };
  const policy: Policy = {
    folder,
    file: main.file,
    state,
    maxConcurrent,
    stores: mapValues(stores, (draft): StorePolicy => draft.policy),
    notifiers: mapValues(notifiers, (notifier) => notifier),
    secrets: mapValues(secrets, ({ policy }: SecretDraft): SecretPolicy => ({
      ...policy,
      blackouts: blackoutsFor(blackouts, policy.tags),
    })),
    resolveRaw,
    async resolve(settings, at, schema) {
      const { data, issues } = check(strictly(schema), await resolveRaw(settings, at), at);
      return data ?? fail(issues);
    },
  };
  return { policy, warnings };
}

/** The parser that knows places is loaded only when something is to be placed. */
async function placeIssues(issues: readonly Issue[], sourceOf: (path: Path) => Source): Promise<PlacedIssue[]> {
  return (await import("./locate.ts")).placeIssues(issues, sourceOf);
}

type Raw = Record<string, unknown>;

/** The policy with the sections of its included files, and which file each of their entries came from. */
async function withIncludes(
  cwd: string,
  main: Source,
  gathered: Gathered,
): Promise<{ raw: Raw; top: z.output<typeof mainFileSchema> | null; sourceOf: (path: Path) => Source }> {
  const top = check(mainFileSchema, main.data, []);
  gathered.issues.push(...top.issues);
  const raw: Raw = { ...main.data };
  const sources = new Map<string, Source>();
  const sourceOf = (path: Path) => sources.get(JSON.stringify(path.slice(0, 2))) ?? main;
  const patterns = Array.isArray(main.data.include)
    ? main.data.include.filter((pattern) => typeof pattern === "string")
    : [];
  const files = new Set(patterns.flatMap((pattern) => matchFiles(gathered.folder, pattern)));
  files.delete(main.file);
  for (const file of files) {
    const included = readIncluded(cwd, file);
    const { issues } = check(includedFileSchema, included.data, []);
    if (issues.length > 0) {
      throw new PolicyError(
        await placeIssues(
          issues.map((issue) => ({ ...issue, hint: "an included file holds secrets, stores and notifiers only" })),
          () => included,
        ),
      );
    }
    for (const section of SECTIONS) {
      const added = own(included.data, section);
      if (added === undefined || added === null) continue;
      if (!isRecord(added))
        throw new PolicyError(await placeIssues([valueIssue([section], "must be a map")], () => included));
      const there = own(raw, section);
      const merged: Raw = isRecord(there) ? { ...there } : {};
      for (const [name, value] of Object.entries(added)) {
        const key = JSON.stringify([section, name]);
        if (Object.hasOwn(merged, name)) {
          const clash = `is in ${sourceOf([section, name]).shown} already`;
          throw new PolicyError(
            await placeIssues([{ ...valueIssue([section, name], clash), mark: "key" }], () => included),
          );
        }
        merged[name] = value;
        sources.set(key, included);
      }
      // A section of the wrong kind in the main file stays, to be told of.
      if (there === undefined || there === null || isRecord(there)) raw[section] = merged;
    }
  }
  return { raw, top: top.data, sourceOf };
}

const AT_A_TIME = 16;

function buildConcurrency(
  { overall = AT_A_TIME, ...types }: Readonly<Record<string, number>>,
  { registry, issues }: Gathered,
): Policy["maxConcurrent"] {
  const known = Object.keys(registry.issuer);
  for (const type of Object.keys(types))
    if (!known.includes(type)) issues.push(unknownKey(["maxConcurrent", type], ["overall", ...known]));
  return { overall, issuers: new Map(Object.entries(types)) };
}

/** Builds every entry of a section; null stands for one with issues. */
async function each<T>(
  raw: Raw,
  section: (typeof SECTIONS)[number],
  gathered: Gathered,
  build: (value: unknown, at: Path, gathered: Gathered) => Promise<T | null>,
): Promise<Map<string, T | null>> {
  const built = new Map<string, T | null>();
  const value = raw[section];
  if (value === undefined || value === null) return built;
  for (const [name, entry] of Object.entries(asMap(value, [section], gathered) ?? {})) {
    const at = [section, name];
    if (!NAME.test(name)) {
      gathered.issues.push({
        path: at,
        mark: "key",
        message: `${section}: a name is letters, digits, dot, dash and underscore, starts with a letter or digit, and has at most 63`,
      });
    }
    built.set(name, await build(entry, at, gathered));
  }
  return built;
}

async function buildNotifier(raw: unknown, at: Path, gathered: Gathered): Promise<NotifierPolicy | null> {
  const map = asMap(raw, at, gathered);
  const adapter = map && (await adapterOf("notifier", map, at, gathered));
  if (!map || !adapter) return null;
  const { own: mine, rest } = ownKeys(notifierKeys, map, at, gathered);
  const settings = checkSettings(adapter.settings, rest, at, Object.keys(notifierKeys.shape), gathered);
  return mine && settings && { type: adapter.type, settings: rest, events: mine.events ?? null, at };
}

function present<T>(map: ReadonlyMap<string, T | null>): T[] {
  return [...map.values()].filter((value) => value !== null);
}

function mapValues<T, U>(map: ReadonlyMap<string, T | null>, change: (value: T) => U): Map<string, U> {
  return new Map([...map].flatMap(([name, value]) => (value === null ? [] : [[name, change(value)] as const])));
}
