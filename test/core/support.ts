import type { Case, Decision } from "../../src/core/case.ts";
import { decide } from "../../src/core/decide.ts";
import type { Fact } from "../../src/core/facts.ts";
import type {
  DeliveryState,
  Intent,
  Rotation,
  SecretState,
  Serves,
  Version,
  VersionStatus,
} from "../../src/core/model.ts";
import { newState } from "../../src/core/model.ts";
import type { Finding, KeyUsage, Listing, Observed, ObservedKey } from "../../src/core/observed.ts";
import { NOTHING_OBSERVED } from "../../src/core/observed.ts";
import type { ConsumerRules, DeliveryRules, MonitorRules, Now, SecretRules } from "../../src/core/rules.ts";
import { transition } from "../../src/core/transition.ts";
import type { Word } from "../../src/core/words.ts";

export const S = 1000;
export const H = 3_600_000;
/** Some moment, long after 1970, on all clocks. */
export const T = 1_000 * H;
export const NOW: Now = { doc: T, wall: T };

export function at(ms: number): Now {
  return { doc: T + ms, wall: T + ms };
}

export const AUTHORITY: DeliveryRules = {
  id: "vault",
  use: "vault",
  name: "payments",
  traits: { staged: true, proof: "value", timing: { propagation: 0, settle: 5 * S } },
};
export const MIRROR: DeliveryRules = {
  id: "env",
  use: "dotenv",
  name: "app.env",
  traits: { staged: false, proof: "value", timing: { propagation: 0, settle: 5 * S } },
};
/** A mirror that cannot be read. */
export const UNREADABLE: DeliveryRules = { ...MIRROR, traits: { ...MIRROR.traits, proof: "receipt" } };

export const MONITOR: MonitorRules = {
  id: "log",
  optional: false,
  traits: { granularity: 1 * S, lag: 2 * S, names: "consumer", history: "events", seesDenied: true },
};
export const REGISTER: MonitorRules = {
  id: "register",
  optional: false,
  traits: { ...MONITOR.traits, names: "none", history: "last-only" },
};

export function consumer(name: string, more: Partial<ConsumerRules> = {}): ConsumerRules {
  return { name, match: [name], cadence: null, cache: null, required: false, ...more };
}

const RULES: SecretRules = {
  name: "payments",
  enabled: true,
  issuer: {
    maxKeys: 2,
    valueFrom: "issuer",
    canDisable: true,
    labels: true,
    issueIdempotent: false,
    timing: { listSettle: 10 * S, propagation: 0, settle: 5 * S, timeGranularity: 0 },
  },
  deliveries: [AUTHORITY],
  usage: "none",
  consumers: [],
  verify: { successes: 1, spread: 0, deadline: 300 * S },
  overlap: { minimum: 1 * H, quiet: 2 * H, maximum: 100 * H, onMaximum: "block", remind: 24 * H },
  soak: { for: 3 * H, onFailedUse: "reenable" },
  retry: { attempts: 3, backoff: 30 * S },
  hooks: { beforeRotate: 0, afterDistribute: 0, beforeRevoke: 0, afterDone: 0 },
  acceptOutage: false,
  exclusive: false,
  orphans: "infer",
  strict: false,
};

export interface RulesPatch extends Partial<Omit<SecretRules, "issuer" | "overlap" | "soak">> {
  readonly issuer?: Partial<SecretRules["issuer"]>;
  readonly overlap?: Partial<SecretRules["overlap"]>;
  readonly soak?: Partial<SecretRules["soak"]>;
}

export function rules(more: RulesPatch = {}): SecretRules {
  return {
    ...RULES,
    ...more,
    issuer: { ...RULES.issuer, ...more.issuer },
    overlap: { ...RULES.overlap, ...more.overlap },
    soak: { ...RULES.soak, ...more.soak },
  };
}

/** A version with the key id `key-v1`, made long ago, its value in the authority. */
export function version(id: string, status: VersionStatus, more: Partial<Version> = {}): Version {
  return {
    id,
    keyId: `key-${id}`,
    status,
    origin: "issued",
    createdAt: 0,
    since: 0,
    compromised: false,
    expedite: false,
    staged: true,
    leftOpen: [],
    mint: null,
    verification: null,
    deletedAt: null,
    usage: {},
    usageLookedAt: null,
    debt: null,
    handBack: false,
    exposed: status === "current" || status === "retiring" || status === "disabled",
    disabledAt: status === "disabled" ? T : null,
    ...more,
  };
}

export function delivery(rule: DeliveryRules, serves: string | null, more: Partial<DeliveryState> = {}): DeliveryState {
  const known = { ref: `ref-${serves}`, writtenAt: T - H, confirmedAt: T - H };
  return {
    id: rule.id,
    use: rule.use,
    name: rule.name,
    binding: rule.id,
    serves,
    lastError: null,
    ...(serves === null ? { ref: null, writtenAt: null, confirmedAt: null } : known),
    ...more,
  };
}

export function rotation(from: string | null, to: string | null, more: Partial<Rotation> = {}): Rotation {
  return {
    id: "r-1",
    reason: "manual",
    actor: "ada",
    startedAt: T - 5 * H,
    to,
    from,
    rollback: null,
    overlapFrom: null,
    hooks: [],
    failures: [],
    remindedAt: null,
    escalatedAt: null,
    repair: false,
    ...more,
  };
}

export function state(more: Partial<SecretState> = {}): SecretState {
  return { ...newState("payments", T), minted: more.versions?.length ?? 0, issuerBinding: "issuer", ...more };
}

/** v1 is served and nothing is in flight. */
export function idle(more: Partial<SecretState> = {}): SecretState {
  return state({ versions: [version("v1", "current")], deliveries: [delivery(AUTHORITY, "v1")], ...more });
}

/** v2 was promoted and every store serves it; the overlap began `ago` ago. */
export function overlapping(ago: number, more: Partial<SecretState> = {}): SecretState {
  return state({
    versions: [version("v1", "retiring"), version("v2", "current")],
    deliveries: [delivery(AUTHORITY, "v2")],
    rotation: rotation("v1", "v2", { overlapFrom: T - ago }),
    ...more,
  });
}

/** v2 was made and staged; no store was asked to serve it. */
export function staged(more: Partial<SecretState> = {}): SecretState {
  return state({
    versions: [version("v1", "current"), version("v2", "pending")],
    deliveries: [delivery(AUTHORITY, "v1")],
    rotation: rotation("v1", "v2"),
    ...more,
  });
}

export function intent(
  effect: Intent["effect"],
  of: string,
  to: string | null = null,
  more: Partial<Intent> = {},
): Intent {
  return { id: "i-1", effect, version: of, delivery: to, at: T, duration: 15 * S, runner: "a", ...more };
}

export function key(id: string, more: Partial<ObservedKey> = {}): ObservedKey {
  const ours = id.startsWith("v");
  return { keyId: ours ? `key-${id}` : id, createdAt: 0, state: "enabled", ...(ours && { label: id }), ...more };
}

export function listing(keys: readonly (ObservedKey | string)[], asOf = T): Listing {
  return { keys: keys.map((k) => (typeof k === "string" ? key(k) : k)), asOf };
}

export interface Sight {
  readonly keys?: readonly (ObservedKey | string)[];
  readonly asOf?: number;
  readonly serves?: Readonly<Record<string, string | Serves>>;
  readonly staged?: Readonly<Record<string, boolean>>;
  readonly accepts?: Readonly<Record<string, "accepted" | "rejected">>;
  readonly usage?: Readonly<Record<string, Readonly<Record<string, KeyUsage>>>>;
  readonly held?: readonly string[];
  readonly bindings?: Readonly<Record<string, string>>;
  readonly lagging?: Readonly<Record<string, readonly string[]>>;
  /** Of the issuer's preflight. */
  readonly findings?: readonly Finding[];
}

function serving(text: string | Serves): Serves {
  return text === "nothing" || text === "foreign" || text === "unknown" || typeof text !== "string"
    ? text
    : { version: text };
}

function values<A, B>(
  record: Readonly<Record<string, A>> | undefined,
  map: (value: A, name: string) => B,
): Record<string, { readonly value: B }> {
  return Object.fromEntries(Object.entries(record ?? {}).map(([name, value]) => [name, { value: map(value, name) }]));
}

/** What was looked at. Bindings are always known. */
export function observed(sight: Sight = {}): Observed {
  const places = { issuer: "issuer", vault: "vault", env: "env", ...sight.bindings };
  return {
    ...NOTHING_OBSERVED,
    described: values(places, (binding, what) => ({
      binding,
      findings: what === "issuer" ? (sight.findings ?? []) : [],
    })),
    keys: sight.keys === undefined ? null : { value: listing(sight.keys, sight.asOf) },
    deliveries: values(sight.serves, (text, id) => ({
      serves: serving(text),
      ref: text === "nothing" ? null : `ref-${typeof text === "string" ? text : "?"}`,
      lagging: sight.lagging?.[id] ?? [],
    })),
    staged: values(sight.staged, (present) => present),
    accepts: values(sight.accepts, (result) => result),
    usage: sight.usage === undefined ? null : values(sight.usage, (keys) => new Map(Object.entries(keys))),
    held: new Set(sight.held),
  };
}

export interface Scene {
  readonly state: SecretState;
  readonly rules?: RulesPatch;
  readonly sees?: Sight;
  readonly now?: Now;
  readonly due?: Partial<Case["due"]>;
}

export function caseOf(scene: Scene): Case {
  return {
    state: scene.state,
    rules: rules(scene.rules),
    seen: observed(scene.sees),
    now: scene.now ?? NOW,
    due: { at: null, due: false, opensAt: null, ...scene.due },
    fresh: "f00df00df00df00d",
  };
}

export function decided(scene: Scene): Decision {
  return decide(caseOf(scene));
}

/** The decision in a few words: `act disable v1`, `note dead`, `wait held`, `blocked drift`, `look keys`, `done`. */
export function verdict(scene: Scene): string {
  const decision = decided(scene);
  switch (decision.decision) {
    case "act": {
      const { action } = decision;
      if (action.do === "hook") return `act hook ${action.id}`;
      const where = "delivery" in action ? ` in ${action.delivery}` : "";
      return `act ${action.do} ${action.version}${where}${"fresh" in action && action.fresh ? " afresh" : ""}`;
    }
    case "note":
      return `note ${decision.facts.map(({ fact }) => fact).join(" ")}`;
    case "look":
      return `look ${[...new Set(decision.queries.map(({ look }) => look))].join(" ")}`;
    case "done":
      return "done";
    default:
      return `${decision.decision} ${decision.reason}`;
  }
}

export function after(before: SecretState, facts: readonly Fact[], now: Now = NOW): SecretState {
  return facts.reduce((s, fact) => transition(s, fact, now), before);
}

export function said(before: SecretState, word: Word, now: Now = NOW): SecretState {
  return after(before, [{ fact: "said", word, by: "ada", id: "r-said" }], now);
}

export const EMERGENCY: Extract<Word, { word: "emergency" }> = {
  word: "emergency",
  versions: null,
  grace: 0,
  revokeFirst: false,
  acceptOutage: false,
  overrideHold: false,
};
