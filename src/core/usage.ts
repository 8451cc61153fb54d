import type { Duration, Instant } from "./duration.ts";
import type { CallerMemory, ConsumerMemory, SecretState, UsageMemory, Version } from "./model.ts";
import type { KeyUsage, Observed, UsageEvent } from "./observed.ts";
import type { ConsumerRules, MonitorRules, Now, SecretRules } from "./rules.ts";
import type { Safeguard } from "./safeguards.ts";

const CALLERS_KEPT = 64;
/** How the key as a whole is called where no caller is named. */
export const ANYONE = "anyone";

/** What is remembered after one more answer of a monitor. Silence is only ever concluded from what is covered. */
export function remember(
  memory: UsageMemory | undefined,
  seen: KeyUsage,
  monitor: MonitorRules,
  now: Instant,
  consumers: readonly ConsumerRules[] = [],
): UsageMemory {
  const covered = seen.status === "covered";
  const reached = Math.max(seen.until, ...seen.events.map((event) => event.last));
  // Callers choose their names: "__proto__" is one.
  const who = new Map(Object.entries(memory?.who ?? {}));
  for (const event of seen.events) {
    const old = who.get(event.who);
    const base = old ?? { last: null, gap: 0, count: 0, deniedAt: null, own: event.own ?? false };
    if (event.outcome === "denied") {
      who.set(event.who, { ...base, deniedAt: Math.max(base.deniedAt ?? -Infinity, event.last) });
      continue;
    }
    who.set(event.who, {
      ...base,
      last: Math.max(base.last ?? -Infinity, event.last),
      count: Math.max(base.count, event.count),
      gap: Math.max(base.gap, event.longestGap ?? 0, gapBefore([event], old?.last ?? null, memory, monitor)),
      own: event.own ?? base.own,
    });
  }
  const newest = [...who].sort(([, a], [, b]) => newsOf(b) - newsOf(a));
  return {
    from: watchedFrom(memory, seen),
    reached: Math.max(memory?.reached ?? -Infinity, reached),
    at: memory === undefined || reached > memory.reached ? now : memory.at,
    until: covered ? Math.max(memory?.until ?? -Infinity, seen.until) : (memory?.until ?? seen.from),
    unknown: covered ? null : (seen.why ?? "the monitor cannot tell"),
    who: Object.fromEntries(newest.slice(0, CALLERS_KEPT)),
    consumers: rememberConsumers(memory, seen, monitor, consumers),
    ahead: now - Math.max(seen.asOf ?? seen.until + monitor.traits.lag, reached),
  };
}

function newsOf({ last, deniedAt }: CallerMemory): Instant {
  return Math.max(last ?? -Infinity, deniedAt ?? -Infinity);
}

/** The silence of all of a consumer's instances together: each may have a name that it never has again. */
function rememberConsumers(
  memory: UsageMemory | undefined,
  seen: KeyUsage,
  monitor: MonitorRules,
  consumers: readonly ConsumerRules[],
): Readonly<Record<string, ConsumerMemory>> {
  const known = new Map(Object.entries(memory?.consumers ?? {}));
  for (const consumer of consumers) {
    const uses = seen.events.filter(
      ({ who, outcome, own }) => outcome === "ok" && own !== true && consumerOf(who, consumers) === consumer,
    );
    if (uses.length === 0) continue;
    const old = known.get(consumer.name);
    const last = Math.max(old?.last ?? -Infinity, ...uses.map((use) => use.last));
    const gap = Math.max(old?.gap ?? 0, gapBefore(uses, old?.last ?? null, memory, monitor));
    known.set(consumer.name, { last, gap });
  }
  return Object.fromEntries(known);
}

/** How long it was silent for certain before these uses; 0 where that cannot be said. */
function gapBefore(
  uses: readonly UsageEvent[],
  last: Instant | null,
  memory: UsageMemory | undefined,
  monitor: MonitorRules,
): Duration {
  if (last === null || Math.max(...uses.map((use) => use.last)) <= last) return 0;
  // One register: it still showed the old use at the look before, so that long was silent for certain.
  if (monitor.traits.history === "last-only") return Math.max(0, (memory?.until ?? last) - last);
  return Math.max(0, Math.min(...uses.filter((use) => use.last > last).map((use) => use.first)) - last);
}

/** Since when everything is known: a look that failed covers nothing, and what lies between two looks may be a hole. */
function watchedFrom(memory: UsageMemory | undefined, seen: KeyUsage): Instant {
  if (seen.status !== "covered") return memory?.from ?? seen.from;
  const joins = memory !== undefined && memory.until > memory.from && seen.from <= memory.until;
  return joins ? Math.min(memory.from, seen.from) : seen.from;
}

/** The memories of a version after the looks in `observed`; a monitor that failed or left the key out is unknown. */
export function rememberAll(
  version: Version,
  rules: SecretRules,
  observed: Observed,
  now: Instant,
): Readonly<Record<string, UsageMemory>> {
  if (rules.usage === "none" || observed.usage === null || version.keyId === null) return version.usage;
  const memories: Record<string, UsageMemory> = {};
  for (const monitor of rules.usage) {
    const seen = observed.usage[monitor.id];
    const key = seen !== undefined && "value" in seen ? seen.value.get(version.keyId) : undefined;
    const why =
      seen !== undefined && "failed" in seen ? seen.failed.message : "the monitor did not answer for this key";
    const start = version.usage[monitor.id]?.from ?? 0;
    memories[monitor.id] = remember(
      version.usage[monitor.id],
      key ?? { status: "unknown", from: start, until: start, why, events: [] },
      monitor,
      now,
      rules.consumers,
    );
  }
  return memories;
}

/** `*` stands for any text. */
export function matches(glob: string, text: string): boolean {
  const [head = "", ...parts] = glob.split("*");
  const tail = parts.pop();
  if (tail === undefined) return glob === text;
  if (!text.startsWith(head) || !text.endsWith(tail) || text.length < head.length + tail.length) return false;
  let at = head.length;
  for (const part of parts) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= text.length - tail.length;
}

function consumerOf(who: string, consumers: readonly ConsumerRules[]): ConsumerRules | undefined {
  return consumers.find((c) => c.match.some((glob) => matches(glob, who)));
}

/** One consumer against the old key. */
export interface Judgement {
  readonly name: string;
  readonly verdict: "quiet" | "in-use" | "unknown";
  /** Last use of the old key as a document instant; null: never seen. */
  readonly lastAt: Instant | null;
  /** Who used it last, where the signal names services or the like instead of consumers. */
  readonly by: string | null;
  readonly longestGap: Duration;
  /** The silence that is asked of it. */
  readonly floor: Duration;
  /** Document instant from which it is quiet if it stays silent; null: cannot be said. */
  readonly quietBy: Instant | null;
  readonly why: string | null;
  readonly adopted: boolean;
  /** Its adoption is waited for: required, or too slow to be waited out by silence. */
  readonly mustAdopt: boolean;
}

export interface UsageContext {
  readonly state: SecretState;
  readonly rules: SecretRules;
  readonly now: Now;
  readonly off?: ReadonlySet<Safeguard> | undefined;
}

/**
 * Positive evidence that a consumer uses the wanted version: seen on it, or a person's word. From before every store
 * served it, it proves nothing: that consumer may have read the other value since.
 */
export function isAdopted(consumer: string, wanted: Version, { state, rules }: UsageContext): boolean {
  const since = state.rotation === null ? -Infinity : (state.rotation.overlapFrom ?? Infinity);
  const word = state.acks.find((ack) => ack.kind === "consumer" && ack.name === consumer && ack.version === wanted.id);
  if (word !== undefined && word.at >= since) return true;
  if (rules.usage === "none") return false;
  return rules.usage.some(
    (monitor) =>
      monitor.traits.names === "consumer" &&
      Object.entries(wanted.usage[monitor.id]?.who ?? {}).some(
        ([who, m]) =>
          !m.own &&
          m.last !== null &&
          notBefore(m.last, monitor, wanted.usage[monitor.id]) >= since &&
          consumerOf(who, rules.consumers)?.name === consumer,
      ),
  );
}

/** The earliest document instant at which a use may have been that the monitor dates by its own clock. */
function notBefore(last: Instant, { traits }: MonitorRules, memory: UsageMemory | undefined): Instant {
  return memory?.ahead === undefined ? -Infinity : last + memory.ahead - traits.granularity;
}

/** The latest one: never later than the look that showed it. */
function instantOf(last: Instant, memory: UsageMemory | undefined): Instant {
  return (memory?.at ?? -Infinity) - Math.max(0, (memory?.reached ?? 0) - last);
}

/**
 * Each consumer against `old`, from what the document remembers. Never pooled: one silent consumer says nothing of
 * another. Callers that no consumer's `match` covers stand under their own name.
 */
export function judge(old: Version, wanted: Version | null, context: UsageContext): readonly Judgement[] {
  const { rules } = context;
  if (rules.usage === "none") return rules.consumers.map((c) => blind(c, wanted, context));
  const named = new Map<string, ConsumerRules | null>(rules.consumers.map((c) => [c.name, c]));
  for (const monitor of rules.usage) {
    if (monitor.traits.names !== "consumer") continue;
    for (const [who, memory] of Object.entries(old.usage[monitor.id]?.who ?? {})) {
      if (!memory.own && memory.last !== null && consumerOf(who, rules.consumers) === undefined)
        named.set(who || ANYONE, null);
    }
  }
  // With nobody named, the key as a whole still has to be covered and silent.
  if (named.size === 0) named.set(ANYONE, null);
  return [...named].map(([name, consumer]) => judgeOne(name, consumer, old, wanted, context));
}

function blind(c: ConsumerRules, wanted: Version | null, context: UsageContext): Judgement {
  const adopted = wanted !== null && isAdopted(c.name, wanted, context);
  return {
    name: c.name,
    verdict: "quiet",
    lastAt: null,
    by: null,
    longestGap: 0,
    floor: 0,
    quietBy: null,
    why: "no signal exists",
    adopted,
    mustAdopt: c.required,
  };
}

/** What one monitor says of one consumer's use of the old key. */
interface Part extends Pick<Judgement, "verdict" | "lastAt" | "by" | "floor" | "quietBy" | "why"> {
  readonly optional: boolean;
  readonly gap: Duration;
  readonly tooSlow: boolean;
}

function judgeOne(
  name: string,
  consumer: ConsumerRules | null,
  old: Version,
  wanted: Version | null,
  context: UsageContext,
): Judgement {
  const monitors = context.rules.usage as readonly MonitorRules[];
  const adopted = consumer !== null && wanted !== null && isAdopted(name, wanted, context);
  const parts = monitors.map((monitor) => judgePart(monitor, name, consumer, old, adopted, context));
  const inUse = parts.find((p) => p.verdict === "in-use");
  const unknown =
    parts.find((p) => p.verdict === "unknown" && !p.optional) ??
    (parts.every((p) => p.verdict !== "quiet") ? parts[0] : undefined);
  const verdict = inUse ? "in-use" : unknown ? "unknown" : "quiet";
  const obstacle = inUse ?? unknown ?? null;
  const newest = parts.reduce<Part | null>(
    (a, b) => ((b.lastAt ?? -Infinity) > (a?.lastAt ?? -Infinity) ? b : a),
    null,
  );
  return {
    name,
    verdict,
    lastAt: newest?.lastAt ?? null,
    by: newest?.by ?? null,
    longestGap: Math.max(0, ...parts.map((p) => p.gap)),
    floor: Math.max(0, ...parts.map((p) => p.floor)),
    quietBy: obstacle?.quietBy ?? null,
    why: obstacle?.why ?? null,
    adopted,
    mustAdopt: consumer !== null && (consumer.required || parts.some((p) => p.tooSlow)),
  };
}

function judgePart(
  monitor: MonitorRules,
  name: string,
  consumer: ConsumerRules | null,
  old: Version,
  adopted: boolean,
  { rules, now, off }: UsageContext,
): Part {
  const memory = old.usage[monitor.id];
  // One register for all: another's use hides this one's, so its last use counts for everybody.
  const whole = monitor.traits.names !== "consumer" || monitor.traits.history === "last-only" || name === ANYONE;
  const mine = Object.entries(memory?.who ?? {})
    .filter(
      ([who, m]) =>
        !(m.own && monitor.traits.history === "events") &&
        (whole || (consumer === null ? who === name : consumerOf(who, rules.consumers) === consumer)),
    )
    // A refused use by a caller that used the key before is a use: it still needs it.
    .map(([who, m]) => ({ who, gap: m.gap, last: m.count > 0 ? newsOf(m) : (m.last ?? -Infinity) }));
  const last = Math.max(-Infinity, ...mine.map((m) => m.last));
  const seen = last > -Infinity;
  const together = consumer === null ? 0 : (memory?.consumers?.[consumer.name]?.gap ?? 0);
  const gap = Math.max(together, ...mine.map((m) => m.gap));
  const margin = monitor.traits.granularity + monitor.traits.lag;
  const base = (rules.issuer.canDisable ? 1 : 2) * Math.max(rules.overlap.quiet, consumer?.cache ?? 0);
  const patient = Math.max(base, 2 * gap, 1.5 * (consumer?.cadence ?? 0)) + margin;
  // Too slow to be waited out: silence alone would never do, so adoption stands in for the long wait.
  const tooSlow = patient > rules.overlap.maximum;
  const floor = tooSlow && adopted ? base + margin : patient;
  const until = memory?.until ?? 0;
  const silence = memory === undefined ? 0 : until - Math.max(last, memory.from);
  const unknown = memory === undefined ? "not looked at yet" : memory.unknown;
  const at = memory?.at ?? now.doc;
  const lastAt = seen ? instantOf(last, memory) : null;
  return {
    verdict: verdictOf({ unknown, lastAt, silence, floor, now: now.doc }, off),
    optional: monitor.optional,
    gap,
    floor,
    tooSlow,
    lastAt,
    by: monitor.traits.names === "consumer" ? null : (mine.find((m) => m.last === last)?.who ?? "") || null,
    quietBy: unknown === null ? at + Math.max(0, floor - silence) : null,
    why: unknown ?? (seen ? null : "never seen on this key; not watched for a whole window yet"),
  };
}

interface Silence {
  /** Why nothing may be concluded from silence; null: it may. */
  readonly unknown: string | null;
  readonly lastAt: Instant | null;
  /** How long nothing was seen while everything would have been. */
  readonly silence: Duration;
  readonly floor: Duration;
  readonly now: Instant;
}

/** What was seen counts as seen from a monitor that knows no silence, too, until it is older than the floor. */
function verdictOf({ unknown, lastAt, silence, floor, now }: Silence, off: UsageContext["off"]): Judgement["verdict"] {
  if (unknown === null) return silence >= floor ? "quiet" : lastAt === null ? "unknown" : "in-use";
  if (off?.has("unknown-is-not-silent")) return "quiet";
  return lastAt !== null && now - lastAt < floor ? "in-use" : "unknown";
}

/** When usage may be looked at again: at most once per quiet/8, and no sooner than it could make a difference. */
export function nextLookAt(old: Version, judgements: readonly Judgement[], rules: SecretRules): Instant {
  if (old.usageLookedAt === null) return -Infinity;
  const open = judgements.filter((j) => j.verdict !== "quiet");
  const looked = old.usageLookedAt;
  const soonest = open.map((j) =>
    Math.min(j.quietBy === null ? 1000 : j.quietBy - looked, Math.max(1000, j.floor / 8)),
  );
  return looked + Math.max(rules.overlap.quiet / 8, 0, ...soonest);
}
