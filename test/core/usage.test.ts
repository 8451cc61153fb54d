import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { CallerMemory, UsageMemory } from "../../src/core/model.ts";
import type { KeyUsage, UsageEvent } from "../../src/core/observed.ts";
import type { MonitorRules } from "../../src/core/rules.ts";
import type { Judgement } from "../../src/core/usage.ts";
import { isAdopted, judge, matches, remember, rememberAll } from "../../src/core/usage.ts";
import type { RulesPatch } from "./support.ts";
import {
  consumer,
  H,
  MONITOR,
  NOW,
  overlapping,
  REGISTER,
  rotation,
  rules,
  S,
  T,
  version,
  observed,
} from "./support.ts";

const MARGIN = MONITOR.traits.granularity + MONITOR.traits.lag;
const QUIET = 2 * H;

function used(who: string, first: number, last: number, more: Partial<UsageEvent> = {}): UsageEvent {
  return { who, first, last, count: 1, outcome: "ok", ...more };
}

function covered(from: number, until: number, ...events: readonly UsageEvent[]): KeyUsage {
  return { status: "covered", from, until, events };
}

function looks(monitor: MonitorRules, ...answers: readonly KeyUsage[]): UsageMemory {
  return answers.reduce<UsageMemory | undefined>(
    (memory, seen) => remember(memory, seen, monitor, T),
    undefined,
  ) as UsageMemory;
}

function gapOf(monitor: MonitorRules, ...answers: readonly KeyUsage[]): number | undefined {
  return looks(monitor, ...answers).who["web"]?.gap;
}

test("a gap is a silence between two events", () => {
  expect(gapOf(MONITOR, covered(0, 10, used("web", 1, 3)), covered(0, 50, used("web", 40, 45)))).toBe(37);
});

test("the distance of two looks is no gap: used all along, it never was silent", () => {
  expect(gapOf(MONITOR, covered(0, 100, used("web", 1, 99)), covered(0, 900, used("web", 1, 899)))).toBe(0);
  expect(gapOf(REGISTER, covered(0, 100, used("web", 99, 99)), covered(0, 900, used("web", 899, 899)))).toBe(1);
});

test("on a last-use-only signal a gap reaches to the newest look that still showed the old use", () => {
  const answers = [100, 400, 700].map((until) => covered(0, until, used("web", 90, 90)));
  expect(gapOf(REGISTER, ...answers, covered(0, 900, used("web", 890, 890)))).toBe(610);
});

test("a silence that has not ended is no gap yet", () => {
  expect(gapOf(MONITOR, covered(0, 10, used("web", 1, 3)), covered(0, 5000, used("web", 1, 3)))).toBe(0);
});

test("what the monitor itself saw of gaps counts, and the longest stays", () => {
  const first = covered(0, 500, used("web", 0, 400, { longestGap: 300 }));
  expect(gapOf(MONITOR, first, covered(0, 600, used("web", 0, 590, { longestGap: 20 })))).toBe(300);
});

test("a refused use is remembered apart, and is no use", () => {
  const memory = looks(MONITOR, covered(0, 100, used("web", 50, 60, { outcome: "denied", count: 7 })));
  expect(memory.who["web"]).toMatchObject({ last: null, count: 0, deniedAt: 60 });
});

test("what is once known is not forgotten by a monitor that no longer shows it, or cannot tell", () => {
  const unknown: KeyUsage = { status: "unknown", from: 10, until: 900, why: "no access", events: [] };
  const memory = looks(MONITOR, covered(10, 100, used("web", 50, 60)), covered(40, 200), unknown);
  expect(memory).toMatchObject({ from: 10, until: 200, unknown: "no access" });
  expect(memory.who["web"]?.last).toBe(60);
});

test("events of a monitor that cannot conclude anything from silence still count as seen", () => {
  const memory = looks(MONITOR, { status: "unknown", from: 0, until: 900, events: [used("web", 50, 60)] });
  expect(memory.who["web"]?.last).toBe(60);
  expect(memory.unknown).not.toBeNull();
});

test("callers are bounded, and the newest stay", () => {
  const events = Array.from({ length: 500 }, (_, i) => used(`c${i}`, i, i));
  const { who } = looks(MONITOR, covered(0, 600, ...events));
  expect(Object.keys(who).length).toBeLessThanOrEqual(64);
  expect(who["c499"]).toBeDefined();
});

/** A caller's memory that ends in a use `ago` before the look. */
function caller(ago: number, more: Partial<CallerMemory> = {}): CallerMemory {
  return { last: T - ago, gap: 0, count: 9, deniedAt: null, own: false, ...more };
}

function memory(who: Readonly<Record<string, CallerMemory>>, more: Partial<UsageMemory> = {}): UsageMemory {
  return { from: 0, until: T, reached: T, at: T, unknown: null, who, ahead: 0, ...more };
}

interface Scene extends RulesPatch {
  readonly old: Readonly<Record<string, UsageMemory>>;
  readonly next?: Readonly<Record<string, UsageMemory>>;
  readonly acks?: readonly string[];
}

function judged({ old, next = {}, acks = [], ...more }: Scene): readonly Judgement[] {
  const victim = version("v1", "retiring", { usage: old, usageLookedAt: T });
  const goal = version("v2", "current", { usage: next, usageLookedAt: T });
  const state = overlapping(S, {
    versions: [victim, goal],
    acks: acks.map((name) => ({ kind: "consumer", name, version: "v2", by: "ada", at: T })),
  });
  return judge(victim, goal, {
    state,
    rules: rules({ usage: [MONITOR], overlap: { quiet: QUIET }, ...more }),
    now: NOW,
  });
}

function one(scene: Scene): Judgement {
  const all = judged(scene);
  expect(all).toHaveLength(1);
  return all[0] as Judgement;
}

test("each consumer by itself, never pooled: one that is silent says nothing of another", () => {
  const consumers = [consumer("web"), consumer("jobs")];
  const verdicts = judged({ consumers, old: { log: memory({ web: caller(10 * H), jobs: caller(H) }) } });
  expect(verdicts.map((j) => [j.name, j.verdict])).toEqual([
    ["web", "quiet"],
    ["jobs", "in-use"],
  ]);
});

test("a caller whom no consumer covers stands under its own name", () => {
  const verdicts = judged({
    consumers: [consumer("web")],
    old: { log: memory({ web: caller(10 * H), laptop: caller(H) }) },
  });
  expect(verdicts.map((j) => [j.name, j.verdict])).toEqual([
    ["web", "quiet"],
    ["laptop", "in-use"],
  ]);
});

test("with nobody named, the key as a whole has to be covered and silent", () => {
  expect(one({ old: { log: memory({}) } })).toMatchObject({ name: "anyone", verdict: "quiet" });
  expect(one({ old: { log: memory({}, { from: T - H }) } })).toMatchObject({ name: "anyone", verdict: "unknown" });
});

test.each([
  ["quiet alone", {}, {}, QUIET],
  ["twice the longest gap", { gap: 5 * H }, {}, 10 * H],
  ["its cadence, half as long again", {}, { cadence: 6 * H }, 9 * H],
  ["its cache", {}, { cache: 7 * H }, 7 * H],
  ["the longest of all", { gap: 5 * H }, { cadence: 8 * H, cache: 11 * H }, 12 * H],
])("the floor is %s, plus granularity and lag", (_name, seen, declared, floor) => {
  const consumers = [consumer("web", declared)];
  const judgedAt = (silence: number) => one({ consumers, old: { log: memory({ web: caller(silence, seen) }) } });
  expect(judgedAt(H).floor).toBe(floor + MARGIN);
  expect(judgedAt(floor + MARGIN - 1).verdict).toBe("in-use");
  expect(judgedAt(floor + MARGIN).verdict).toBe("quiet");
});

test("an issuer that cannot disable asks for twice the quiet", () => {
  const scene = {
    consumers: [consumer("web")],
    issuer: { canDisable: false },
    old: { log: memory({ web: caller(3 * H) }) },
  };
  expect(one(scene)).toMatchObject({ floor: 2 * QUIET + MARGIN, verdict: "in-use" });
});

test("never seen used is unknown until a whole window was watched", () => {
  const seenSince = (from: number) => one({ consumers: [consumer("web")], old: { log: memory({}, { from }) } }).verdict;
  expect(seenSince(T - QUIET - MARGIN + 1)).toBe("unknown");
  expect(seenSince(T - QUIET - MARGIN)).toBe("quiet");
});

test("silence counts up to the watermark alone, whatever the clock says", () => {
  const old = { log: memory({ web: caller(10 * H) }, { until: T - 9 * H }) };
  expect(one({ consumers: [consumer("web")], old }).verdict).toBe("in-use");
});

test("unknown is never silent, unless that monitor is optional", () => {
  const blind = { ...MONITOR, id: "blind" };
  const old = { log: memory({}), blind: memory({}, { unknown: "no access" }) };
  const consumers = [consumer("web")];
  expect(one({ consumers, usage: [MONITOR, blind], old })).toMatchObject({ verdict: "unknown", why: "no access" });
  expect(one({ consumers, usage: [MONITOR, { ...blind, optional: true }], old }).verdict).toBe("quiet");
});

test("a monitor that was never asked is unknown, and where all are optional one has to have an answer", () => {
  const optional = { ...MONITOR, optional: true };
  expect(one({ consumers: [consumer("web")], usage: [MONITOR], old: {} }).verdict).toBe("unknown");
  expect(one({ consumers: [consumer("web")], usage: [optional], old: {} }).verdict).toBe("unknown");
});

test("any monitor that sees a use wins, optional or not", () => {
  const other = { ...MONITOR, id: "other", optional: true };
  const old = { log: memory({ web: caller(10 * H) }), other: memory({ web: caller(1 * S) }) };
  expect(one({ consumers: [consumer("web")], usage: [MONITOR, other], old }).verdict).toBe("in-use");
});

test("a refused use by a caller seen before is a use; by one never seen it is none", () => {
  const seen = memory({ web: caller(10 * H, { deniedAt: T - H }) });
  const never = memory({ web: caller(0, { last: -Infinity, count: 0, deniedAt: T - H }) });
  expect(one({ consumers: [consumer("web")], old: { log: seen } }).verdict).toBe("in-use");
  expect(one({ consumers: [consumer("web")], old: { log: never } }).verdict).toBe("quiet");
});

test("own uses are no consumer's where events tell them apart; a register counts them as silence broken", () => {
  const own = memory({ keyturn: caller(H, { own: true }) });
  expect(judged({ old: { log: own } }).map((j) => [j.name, j.verdict])).toEqual([["anyone", "quiet"]]);
  expect(one({ consumers: [consumer("web")], usage: [REGISTER], old: { register: own } }).verdict).not.toBe("quiet");
});

test("a signal that names nobody judges every consumer by the key as a whole", () => {
  const consumers = [consumer("web"), consumer("jobs")];
  const verdicts = judged({ consumers, usage: [REGISTER], old: { register: memory({ "": caller(H) }) } });
  expect(verdicts.map((j) => j.verdict)).toEqual(["in-use", "in-use"]);
});

test("adoption is a use of the new key by that consumer, never keyturn's own, never a service's or nobody's", () => {
  const web = consumer("web", { match: ["web-*"], required: true });
  const adopted = (monitor: MonitorRules, who: Record<string, CallerMemory>) =>
    one({ consumers: [web], usage: [monitor], old: { [monitor.id]: memory({}) }, next: { [monitor.id]: memory(who) } })
      .adopted;
  expect(adopted(MONITOR, { "web-1": caller(0) })).toBe(true);
  expect(adopted(MONITOR, { jobs: caller(0) })).toBe(false);
  expect(adopted(MONITOR, { "web-1": caller(0, { own: true }) })).toBe(false);
  expect(adopted(MONITOR, { "web-1": caller(0, { last: null, count: 0, deniedAt: T }) })).toBe(false);
  expect(adopted({ ...MONITOR, traits: { ...MONITOR.traits, names: "service" } }, { "web-1": caller(0) })).toBe(false);
  expect(adopted(REGISTER, { "web-1": caller(0) })).toBe(false);
});

test("an ack is adoption of the version that it was said of, and of no other", () => {
  const web = consumer("web", { required: true });
  expect(one({ consumers: [web], old: { log: memory({}) }, acks: ["web"] })).toMatchObject({
    adopted: true,
    mustAdopt: true,
  });
  const state = overlapping(0, { acks: [{ kind: "consumer", name: "web", version: "v1", by: "ada", at: T }] });
  expect(isAdopted("web", version("v2", "current"), { state, rules: rules({ consumers: [web] }), now: NOW })).toBe(
    false,
  );
  const store = overlapping(0, { acks: [{ kind: "store", name: "web", version: "v2", by: "ada", at: T }] });
  expect(
    isAdopted("web", version("v2", "current"), { state: store, rules: rules({ consumers: [web] }), now: NOW }),
  ).toBe(false);
});

test("an ack or a use from before every store served the version proves nothing", () => {
  const web = consumer("web", { required: true });
  const at = (overlapFrom: number | null) => {
    const state = overlapping(0, {
      rotation: rotation("v1", "v2", { overlapFrom }),
      acks: [{ kind: "consumer", name: "web", version: "v2", by: "ada", at: T }],
    });
    const used = version("v2", "current", { usage: { log: memory({ web: caller(0) }) } });
    const context = { state, rules: rules({ consumers: [web], usage: [MONITOR] }), now: NOW };
    return [
      isAdopted("web", version("v2", "current"), context),
      isAdopted("web", used, { ...context, state: { ...state, acks: [] } }),
    ];
  };
  expect(at(T - S)).toEqual([true, true]);
  expect(at(T + S)).toEqual([false, false]);
  expect(at(null)).toEqual([false, false]);
});

test("the watermark of a monitor is no time of a use: one that may be older than the overlap proves nothing", () => {
  const evidence = [T - 30 * 60_000, T].map((last) => {
    const seen: KeyUsage = { ...covered(0, last, used("web", last, last)), asOf: T };
    const v2 = version("v2", "current", { usage: { log: remember(undefined, seen, MONITOR, T) } });
    const state = overlapping(60_000);
    return isAdopted("web", v2, { state, rules: rules({ consumers: [consumer("web")], usage: [MONITOR] }), now: NOW });
  });
  expect(evidence).toEqual([false, true]);
});

test("a job with a new name each time has the gaps of the job", () => {
  const weekly = consumer("weekly", { match: ["weekly-*"] });
  const week = 7 * 24 * H;
  const memory = [0, 1, 2].reduce<UsageMemory | undefined>((before, run) => {
    const at = run * week;
    return remember(before, covered(0, at + H, used(`weekly-${run}`, at, at)), MONITOR, at + H, [weekly]);
  }, undefined);
  expect(Object.values(memory?.who ?? {}).map(({ gap }) => gap)).toEqual([0, 0, 0]);
  expect(memory?.consumers?.["weekly"]?.gap).toBe(week);
  const rest = { from: 0, until: T, reached: T, at: T };
  expect(
    one({ consumers: [weekly], old: { log: { ...(memory as UsageMemory), ...rest } } }).floor,
  ).toBeGreaterThanOrEqual(2 * week);
});

test("what is remembered survives being saved as JSON", () => {
  const denied = looks(MONITOR, covered(0, 100, used("web", 50, 60, { outcome: "denied" })));
  const saved = JSON.parse(JSON.stringify(denied)) as UsageMemory;
  expect(saved).toEqual(denied);
  const later = remember(saved, covered(0, 300, used("web", 200, 210)), MONITOR, T);
  expect(later.who["web"]).toMatchObject({ last: 210, gap: 0 });
  const names = ["constructor", "__proto__"].map((who) =>
    remember(undefined, covered(0, 9, used(who, 1, 2)), MONITOR, T),
  );
  expect(names.map(({ who }) => Object.values(who)[0]?.last)).toEqual([2, 2]);
});

test("too slow to be waited out by silence: adoption is waited for, and then the plain quiet is enough", () => {
  const slow = consumer("batch", { cadence: 90 * H });
  const old = { log: memory({ batch: caller(QUIET + MARGIN) }) };
  expect(one({ consumers: [slow], old })).toMatchObject({ verdict: "in-use", mustAdopt: true, adopted: false });
  expect(one({ consumers: [slow], old, acks: ["batch"] })).toMatchObject({
    verdict: "quiet",
    adopted: true,
    floor: QUIET + MARGIN,
  });
});

test("no signal at all: nothing is concluded but what people say", () => {
  const consumers = [consumer("web", { required: true }), consumer("jobs")];
  const blind = judged({ consumers, usage: "none", old: {}, acks: ["web"] });
  expect(blind.map((j) => [j.name, j.adopted, j.mustAdopt])).toEqual([
    ["web", true, true],
    ["jobs", false, false],
  ]);
});

test("a glob matches as the regular expression with .* for each star", () => {
  const letters = (more: string) => fc.string({ unit: fc.constantFrom(...`ab-.${more}`), maxLength: 12 });
  fc.assert(
    fc.property(letters("*"), letters("\n"), (glob, text) => {
      const pattern = glob.split("*").map((part) => part.replace(/[.-]/g, "\\$&"));
      expect(matches(glob, text)).toBe(new RegExp(`^(?:${pattern.join("[^]*")})$`).test(text));
    }),
    { numRuns: 2000 },
  );
});

test("a glob of many stars does not take long", () => {
  expect(matches("*a".repeat(40) + "b", "a".repeat(4000))).toBe(false);
});

test("a look that failed first, then a monitor that has watched for an hour only: unknown, not quiet", () => {
  const r = rules({ usage: [MONITOR], consumers: [consumer("web")], overlap: { quiet: 2 * H } });
  let v1 = version("v1", "retiring");
  const failed = {
    ...observed(),
    usage: { log: { failed: { reason: "provider-unavailable", message: "no answer" } } },
  } as const;
  v1 = { ...v1, usage: rememberAll(v1, r, failed, T), usageLookedAt: T };
  const answer = observed({ usage: { log: { "key-v1": { status: "covered", from: T - H, until: T, events: [] } } } });
  v1 = { ...v1, usage: rememberAll(v1, r, answer, T), usageLookedAt: T };
  const state = overlapping(0, { versions: [v1, version("v2", "current")] });
  expect(judge(v1, version("v2", "current"), { state, rules: r, now: NOW })[0]?.verdict).toBe("unknown");
});

test("a hole between two looks: silence is proven from the hole's end only", () => {
  const r = rules({ usage: [MONITOR], consumers: [consumer("web")], overlap: { quiet: 2 * H } });
  const first = remember(
    undefined,
    { status: "covered", from: T - 20 * H, until: T - 10 * H, events: [] },
    MONITOR,
    T - 10 * H,
  );
  const usage = { log: remember(first, { status: "covered", from: T - H, until: T, events: [] }, MONITOR, T) };
  const v1 = version("v1", "retiring", { usage, usageLookedAt: T });
  const state = overlapping(0, { versions: [v1, version("v2", "current")] });
  expect(judge(v1, version("v2", "current"), { state, rules: r, now: NOW })[0]?.verdict).toBe("unknown");
});

test("what a monitor that knows no silence has seen counts until it is older than the floor", () => {
  const trail = { ...MONITOR, id: "trail", optional: true };
  const r = rules({ usage: [MONITOR, trail], consumers: [consumer("web")], overlap: { quiet: QUIET } });
  const judgedAt = (now: number) => {
    const known = { log: memory({ web: caller(98 * H) }, { until: T + now, reached: T + now, at: T + now }) };
    const unsure = (until: number, ...events: readonly UsageEvent[]): KeyUsage => ({
      status: "unknown",
      from: until,
      until,
      why: "it may say seen alone",
      events,
    });
    const first = remember(undefined, unsure(T - H), trail, T - H);
    const seen = remember(first, unsure(T, used("web", T, T)), trail, T);
    const usage = { ...known, trail: remember(seen, unsure(T + now), trail, T + now) };
    const v1 = version("v1", "retiring", { usage, usageLookedAt: T + now });
    const state = overlapping(0, { versions: [v1, version("v2", "current")] });
    return judge(v1, version("v2", "current"), { state, rules: r, now: { doc: T + now, wall: T + now } })[0];
  };
  expect(judgedAt(S)?.verdict).toBe("in-use");
  expect(judgedAt(98 * H)).toMatchObject({ verdict: "quiet", lastAt: T });
});
