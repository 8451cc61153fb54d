import type { Registry } from "../adapters/registry.ts";
import { registry as allAdapters } from "../adapters/registry.ts";
import { UserError } from "../core/errors.ts";
import { stringIssues } from "./credentials.ts";
import { PolicyError, valueIssue } from "./issues.ts";
import type { Policy, ResolvedState, StatePolicy } from "./model.ts";
import { suggestion } from "./nearest.ts";
import { isRecord, own } from "./path.ts";
import { adapterOf, asMap, checkSettings, ownKeys, type Gathered } from "./parts.ts";
import { hasReference, malformedReference } from "./references.ts";
import { stateKeys } from "./schema.ts";

const LEASE = 15_000;
const AT = ["state"];

/** `state:` of a policy, a text or a map; sqlite at `.keyturn/state.db` where there is none. */
export async function buildState(raw: unknown, gathered: Gathered): Promise<StatePolicy | null> {
  if (raw === undefined) return { source: { type: "sqlite", settings: {}, at: AT }, lease: LEASE };
  const map = typeof raw === "string" ? { url: raw } : asMap(raw, AT, gathered);
  if (!map) return null;
  const { own: mine, rest } = ownKeys(stateKeys, map, AT, gathered);
  const lease = mine?.lease ?? LEASE;
  if (lease < 1000) gathered.issues.push(valueIssue([...AT, "lease"], "must be at least 1s"));
  if (isRecord(raw) && own(map, "url") !== undefined && own(map, "type") !== undefined)
    gathered.issues.push(valueIssue([...AT, "type"], "url and type exclude each other"));
  const url = own(map, "url");
  if (typeof url === "string") {
    const at = typeof raw === "string" ? AT : [...AT, "url"];
    gathered.issues.push(...stringIssues(url, at));
    const problem = hasReference(url) ? null : await problemOf(url, gathered.registry);
    if (problem !== null) gathered.issues.push(valueIssue(at, problem));
    return mine && { source: { url, at }, lease };
  }
  const adapter = await adapterOf("state", map, AT, gathered);
  const settings = adapter && checkSettings(adapter.settings, rest, AT, Object.keys(stateKeys.shape), gathered);
  return adapter && settings && { source: { type: adapter.type, settings: rest, at: AT }, lease };
}

function schemeProblem(url: string, registry: Registry): string | null {
  const scheme = url.slice(0, Math.max(0, url.indexOf(":"))).toLowerCase();
  const known = Object.values(registry.state).flatMap((entry) => entry.schemes);
  if (known.includes(scheme)) return null;
  const planned = registry.planned.state;
  if (planned.includes(scheme)) return `state type "${scheme}" is not in this version: known are ${known.join(", ")}`;
  return `is no state URL such as sqlite:.keyturn/state.db${scheme === "" ? "" : suggestion(scheme, [...known, ...planned])}`;
}

/** What is wrong with a URL by its looks; null: nothing that shows. */
async function problemOf(url: string, registry: Registry): Promise<string | null> {
  const problem = schemeProblem(url, registry);
  const known = problem === null ? (await adapterFor(url, registry))?.urlKeys : undefined;
  if (known === undefined) return problem;
  const given = new URLSearchParams(/\?([^#]*)/.exec(url)?.[1]).keys();
  const strange = [...given].find((key) => !known.includes(key));
  // A key with other signs than a name's may be a value gone astray.
  const shown = strange !== undefined && /^[a-z_]{1,24}$/i.test(strange) ? ` "${strange}"` : "";
  return strange === undefined ? null : `has an unknown key${shown}${suggestion(strange, known)}`;
}

async function adapterFor(url: string, registry: Registry): Promise<ResolvedState["adapter"] | undefined> {
  const scheme = url.slice(0, Math.max(0, url.indexOf(":"))).toLowerCase();
  return Object.values(registry.state)
    .find(({ schemes }) => (schemes as readonly string[]).includes(scheme))
    ?.load();
}

/** A URL of the command line, with what its references name. */
async function resolved(url: string, policy: Policy): Promise<string> {
  const broken = malformedReference(url);
  if (broken !== null) throw new UserError("state-url", `the state URL ${broken}`, { exit: 2 });
  try {
    return await policy.resolveRaw(url, AT);
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    // It stands in no file: the place is none.
    const lines = error.issues.map(({ message }) => message.replace(/^state: /, "the state URL: "));
    throw new UserError(error.code, lines.join("\n"), { exit: 2 });
  }
}

/**
 * The backend to open: `url` (from `--state`, and it may hold references) where given, else what the policy says.
 * @throws UserError `state-url`, or as {@link Policy.resolve}. Exit 2.
 */
export async function resolveState(
  policy: Policy,
  url: string | null,
  registry: Registry = allAdapters,
): Promise<ResolvedState> {
  const { source } = policy.state;
  if (url === null && "type" in source) {
    const adapter = await (registry.state[source.type] as Registry["state"][string]).load();
    return { adapter, settings: await policy.resolve(source.settings, source.at, adapter.settings) };
  }
  const text =
    url === null ? await policy.resolveRaw((source as { url: string }).url, source.at) : await resolved(url, policy);
  const problem = await problemOf(text, registry);
  const adapter = await adapterFor(text, registry);
  const settings = adapter?.fromUrl(text) ?? null;
  if (problem !== null || !adapter || settings === null)
    throw new UserError("state-url", `the state URL ${problem ?? "cannot be read"}`, { exit: 2 });
  return { adapter, settings: adapter.settings.parse(settings) };
}
