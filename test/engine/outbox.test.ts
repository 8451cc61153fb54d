import type { EventType } from "../../src/core/events.ts";
import { beforeEach, expect, test } from "vitest";
import { ProviderError } from "../../src/core/errors.ts";
import type { SecretState } from "../../src/core/model.ts";
import { audit, flush, isPending } from "../../src/engine/outbox.ts";
import type { EngineDeps, SecretPorts } from "../../src/engine/deps.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { Notification } from "../../src/ports/notifier.ts";
import { after, at, consumer, idle, rotation, rules, S } from "../core/support.ts";
import { depsOf, Memory, Time } from "./support.ts";

const ctx: Ctx = { signal: new AbortController().signal, fence: () => undefined, attempt: 1, rotationId: null };
let memory: Memory;
let deps: EngineDeps;
let sent: Notification[];
let down: boolean;

beforeEach(() => {
  memory = new Memory(new Time());
  deps = depsOf(memory);
  sent = [];
  down = false;
});

function portsOf(events: readonly string[], more: Parameters<typeof rules>[0] = {}): SecretPorts {
  const send = async (notification: Notification) => {
    if (down) throw new ProviderError("unavailable", "no", "no answer");
    sent.push(notification);
  };
  return { rules: rules(more), notifiers: [{ name: "ops", events, notifier: { send } }] } as unknown as SecretPorts;
}

/** A document in which these things have happened. */
function told(...events: readonly (readonly [EventType, Record<string, string>?])[]): SecretState {
  const facts = events.map(([event, data = {}]) => ({ fact: "noticed", event, data }) as const);
  return after(idle({ rotation: rotation("v1", null) }), facts);
}

async function flushed(before: SecretState, ports: SecretPorts, ms = 0): Promise<SecretState> {
  const fact = await flush(deps, ports, before, at(ms), ctx);
  return fact === null ? before : after(before, [fact], at(ms));
}

const types = () => sent.map(({ type }) => type);

test("what is listed is sent, in order and once; all else counts as handed over", async () => {
  const ports = portsOf(["started", "done"]);
  const handed = await flushed(told(["started"], ["intent"], ["done"]), ports);
  expect(types()).toEqual(["started", "done"]);
  expect(handed.outbox.cursors).toEqual({ audit: 3, ops: 3 });
  await flushed(handed, ports);
  expect(types()).toHaveLength(2);
  expect(isPending(handed, ports, at(0))).toBe(false);
});

test("* stands for everything, and some events go by another word", async () => {
  await flushed(told(["started"], ["refused"], ["debt"], ["overlap-maximum"]), portsOf(["*"]));
  expect(types()).toEqual(["started", "failed", "failed", "straggler"]);
});

test("a receiver that does not answer gets it again later, later each time, and nobody else waits for it", async () => {
  const ports = portsOf(["*"]);
  down = true;
  let state = told(["started"], ["done"]);
  const waits: number[] = [];
  for (let ms = 0, i = 0; i < 15; i++) {
    state = await flushed(state, ports, ms);
    const { at: retryAt = 0 } = state.outbox.retryAt["ops"] ?? {};
    waits.push(retryAt - at(ms).doc);
    expect(isPending(state, ports, at(ms))).toBe(false);
    ms = retryAt - at(0).doc;
  }
  expect(waits).toEqual(waits.toSorted((a, b) => a - b));
  expect(waits[0]).toBe(2 * S);
  expect(waits.at(-1)).toBe(3600 * S);
  expect(memory.entries.map(({ type }) => type)).toEqual(["started", "done"]);
  down = false;
  await flushed(state, ports, 10 * 3600 * S);
  expect(types()).toEqual(["started", "done"]);
});

test("what it took before it failed is not sent again", async () => {
  const ports = portsOf(["*"]);
  const first = await flushed(told(["started"]), ports);
  const more = after(first, [{ fact: "noticed", event: "done", data: {} }]);
  await flushed(more, ports);
  expect(sent.map(({ id }) => id.split("/")[1])).toEqual(["1", "2"]);
});

test("a straggler's own notifier hears of it though it lists nothing", async () => {
  const own = { consumers: [consumer("web", { notify: "ops" }), consumer("jobs")] };
  await flushed(told(["straggler", { who: "jobs" }]), portsOf([], own));
  expect(types()).toEqual([]);
  await flushed(told(["straggler", { who: "jobs, web" }], ["overlap-maximum", { who: "web" }]), portsOf([], own));
  expect(types()).toEqual(["straggler", "straggler"]);
});

test("the audit log comes first; while it takes nothing its events stay, and notifiers are told all the same", async () => {
  memory.auditFails = true;
  const state = await flushed(told(["started"]), portsOf(["*"]));
  expect(state.outbox.cursors).toMatchObject({ ops: 1 });
  expect(state.outbox.cursors["audit"] ?? 0).toBe(0);
  expect(await audit(deps, state)).toBe("unavailable");
  memory.auditFails = false;
  expect(await audit(deps, state)).toBe("copied");
  expect(await audit(deps, state)).toBe("copied");
  expect(memory.entries).toHaveLength(1);
});

test("what had to go before a receiver came back is told as a number", async () => {
  const ports = portsOf(["done"]);
  down = true;
  const first = await flushed(told(...Array.from({ length: 3 }, () => ["done"] as const)), ports);
  down = false;
  const behind = { ...first, outbox: { ...first.outbox, events: first.outbox.events.slice(2) } };
  await flushed(behind, ports, 10 * 3600 * S);
  expect(sent.map(({ type, data }) => [type, data["count"] ?? null])).toEqual([
    ["dropped", 2],
    ["done", null],
  ]);
});
