import type { Outbox, SecretState } from "./model.ts";

const EVENTS_KEPT = 100;
/** The outbox's first reader: nothing is dropped before it has it. */
export const AUDIT = "audit";

/** Chains the events that this commit adds, and lets go of those that every reader has. Call once, right before a save. */
export function seal(state: SecretState, commitId: string, hash: (text: string) => string): SecretState {
  let previous = state.outbox.hash;
  const chained = state.outbox.events.map((event) => {
    if (event.hash !== "") return event;
    const body = JSON.stringify([state.name, event.seq, event.wall, event.actor, event.type, event.data, previous]);
    const sealed = { ...event, previous, hash: hash(body) };
    previous = sealed.hash;
    return sealed;
  });
  return { ...state, commitId, outbox: trim({ ...state.outbox, events: chained, hash: previous }) };
}

function trim(outbox: Outbox): Outbox {
  const audited = outbox.cursors[AUDIT] ?? 0;
  const everyone = Math.min(audited, ...Object.values(outbox.cursors));
  const events = outbox.events.filter((event) => event.seq > everyone);
  const over = events.length - EVENTS_KEPT;
  return { ...outbox, events: events.filter((event, index) => index >= over || event.seq > audited) };
}

/** The audit log does not keep up: nothing more may happen that it would not know of. */
export function isFull(state: SecretState): boolean {
  const audited = state.outbox.cursors[AUDIT] ?? 0;
  return state.outbox.events.filter((event) => event.seq > audited).length >= 2 * EVENTS_KEPT;
}

/** The document as it goes on after the newest entry of a log that it does not tell of; its own news are dropped. */
export function onTopOf(state: SecretState, { seq, hash }: Pick<Outbox, "seq" | "hash">): SecretState {
  return { ...state, outbox: { events: [], seq, hash, cursors: { [AUDIT]: seq }, retryAt: {} } };
}
