import { UserError } from "../core/errors.ts";
import type { Fact } from "../core/facts.ts";
import type { SecretState, StateEvent } from "../core/model.ts";
import { topicOf, type EventType } from "../core/events.ts";
import { AUDIT } from "../core/outbox.ts";
import type { ReasonCode } from "../core/reasons.ts";
import type { Now } from "../core/rules.ts";
import type { Ctx } from "../ports/context.ts";
import type { Notification } from "../ports/notifier.ts";
import type { AuditEntry } from "../ports/state.ts";
import type { EngineDeps, SecretPorts } from "./deps.ts";

const MAX_BACKOFF = 3_600_000;

/**
 * Copies events to the audit log; a document's own events are known to it as soon as the log is reachable. `damaged`:
 * it tells otherwise than the document, which no later try will change.
 */
export async function audit(
  deps: EngineDeps,
  state: SecretState,
): Promise<"up-to-date" | "copied" | "unavailable" | "damaged"> {
  const have = state.outbox.cursors[AUDIT] ?? 0;
  const entries = state.outbox.events.filter((event) => event.seq > have).map((event) => entryOf(state.name, event));
  if (entries.length === 0) return "up-to-date";
  try {
    await deps.state.audit.append(entries);
    return "copied";
  } catch (error) {
    return error instanceof UserError && error.code === "state-damaged" ? "damaged" : "unavailable";
  }
}

/** Why the audit log did not take what the document has for it. */
export async function whyFull(deps: EngineDeps, state: SecretState): Promise<{ reason: ReasonCode; message: string }> {
  return (await audit(deps, state)) === "damaged"
    ? { reason: "state-damaged", message: "the audit log holds another entry than the document tells of" }
    : { reason: "audit-unavailable", message: "the audit log does not take entries" };
}

/** Whether the document tells of this entry of its log; null: it no longer says. `state` is read after the entry. */
export function tellsOf({ outbox }: SecretState, { seq, hash }: AuditEntry): boolean | null {
  if (seq >= outbox.seq) return seq === outbox.seq && hash === outbox.hash;
  const next = outbox.events.find((event) => event.seq === seq + 1);
  return next === undefined ? null : next.previous === hash;
}

/**
 * Hands events to those who have not had them: the audit log first, then each notifier in order, at least once.
 * A receiver that does not answer is tried again later, and never holds up a rotation.
 */
export async function flush(
  deps: EngineDeps,
  ports: SecretPorts,
  state: SecretState,
  now: Now,
  ctx: Ctx,
): Promise<Fact | null> {
  const { outbox } = state;
  const cursors: Record<string, number> = { [AUDIT]: outbox.cursors[AUDIT] ?? 0 };
  const retryAt: Record<string, { readonly at: number; readonly failures: number }> = {};
  if ((await audit(deps, state)) === "copied") cursors[AUDIT] = outbox.seq;
  for (const { name, events, notifier } of ports.notifiers) {
    const have = outbox.cursors[name] ?? 0;
    const later = outbox.retryAt[name];
    // Known from the first try on, so that nothing it has not had is let go of.
    cursors[name] = have;
    if (later !== undefined) retryAt[name] = later;
    if (have >= outbox.seq || (later?.at ?? 0) > now.doc) continue;
    let reached = have;
    try {
      const news = outbox.events.filter((e) => e.seq > have);
      const dropped = (news[0]?.seq ?? have + 1) - have - 1;
      if (dropped > 0 && outbox.cursors[name] !== undefined)
        await notifier.send(droppedNotice(state.name, dropped, news[0] as StateEvent), ctx);
      for (const event of news) {
        const topic = topicOf(event.type);
        if (events.includes("*") || events.includes(topic) || isConcerned(name, event, topic, ports))
          await notifier.send(notification(state.name, event, topic), ctx);
        reached = event.seq;
      }
      reached = outbox.seq;
      delete retryAt[name];
    } catch {
      const failures = (later?.failures ?? 0) + 1;
      retryAt[name] = { at: now.doc + Math.min(MAX_BACKOFF, 1000 * 2 ** failures), failures };
    }
    cursors[name] = reached;
  }
  const changed = JSON.stringify([cursors, retryAt]) !== JSON.stringify([outbox.cursors, outbox.retryAt]);
  return changed ? { fact: "read", cursors, retryAt } : null;
}

/** A straggler's own notifier hears of it, whatever events it lists. */
function isConcerned(notifier: string, event: StateEvent, topic: EventType, { rules }: SecretPorts): boolean {
  const who = typeof event.data.who === "string" ? event.data.who.split(", ") : [];
  return topic === "straggler" && rules.consumers.some((c) => c.notify === notifier && who.includes(c.name));
}

/** Whether a run with nothing else to do has something to hand over now. */
export function isPending(state: SecretState, ports: SecretPorts, now: Now): boolean {
  const { outbox } = state;
  if ((outbox.cursors[AUDIT] ?? 0) < outbox.seq) return true;
  return ports.notifiers.some(
    ({ name }) => (outbox.cursors[name] ?? 0) < outbox.seq && (outbox.retryAt[name]?.at ?? 0) <= now.doc,
  );
}

function entryOf(secret: string, event: StateEvent): AuditEntry {
  const { seq, previous, hash, wall, actor, type, data } = event;
  return { secret, seq, previous, hash, at: wall, actor, type, data };
}

/** In the place of what had to go before this receiver had it. */
function droppedNotice(secret: string, count: number, next: StateEvent): Notification {
  const message = `${secret}: ${count} events went untold before this one; keyturn history ${secret} has them`;
  const id = `${secret}/${next.seq}/${next.hash.slice(0, 16)}/dropped`;
  return { id, secret, at: next.wall, type: "dropped", reason: null, message, data: { count } };
}

function notification(secret: string, event: StateEvent, topic: EventType): Notification {
  const { data } = event;
  const reason = typeof data.reason === "string" ? data.reason : null;
  const words =
    typeof data.message === "string"
      ? data.message
      : typeof data.who === "string"
        ? `still on the old key: ${data.who}`
        : event.type;
  return {
    id: `${secret}/${event.seq}/${event.hash.slice(0, 16)}`,
    secret,
    at: event.wall,
    type: topic,
    reason,
    message: `${secret}: ${words}`,
    data,
  };
}
