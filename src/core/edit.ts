import type { EventType } from "./events.ts";
import type { DeliveryId, DeliveryState, MayLand, SecretState, StateEvent, Version, VersionId } from "./model.ts";
import type { Now } from "./rules.ts";

const ACTIONS_KEPT = 50;

/** Small, total edits of a document that transitions are written in. */
export function withVersion(state: SecretState, id: VersionId, edit: (version: Version) => Version): SecretState {
  return { ...state, versions: state.versions.map((v) => (v.id === id ? edit(v) : v)) };
}

export function withDelivery(
  state: SecretState,
  id: DeliveryId,
  edit: (delivery: DeliveryState) => DeliveryState,
): SecretState {
  return { ...state, deliveries: state.deliveries.map((d) => (d.id === id ? edit(d) : d)) };
}

export function withRotation(state: SecretState, edit: Partial<NonNullable<SecretState["rotation"]>>): SecretState {
  return state.rotation === null ? state : { ...state, rotation: { ...state.rotation, ...edit } };
}

/** Appends an event; its hash is set when the commit is sealed. */
export function emit(
  state: SecretState,
  now: Now,
  actor: string,
  type: EventType,
  data: StateEvent["data"] = {},
): SecretState {
  const event: StateEvent = {
    seq: state.outbox.seq + 1,
    at: now.doc,
    wall: now.wall,
    actor,
    type,
    data,
    previous: "",
    hash: "",
  };
  return { ...state, outbox: { ...state.outbox, events: [...state.outbox.events, event], seq: event.seq } };
}

export function acted(
  state: SecretState,
  now: Now,
  action: string,
  version: VersionId | null,
  delivery: DeliveryId | null,
): SecretState {
  const keyId = state.versions.find((v) => v.id === version)?.keyId ?? null;
  return {
    ...state,
    actions: [...state.actions, { action, wall: now.wall, version, keyId, delivery }].slice(-ACTIONS_KEPT),
  };
}

/** Entries that may still take place; those whose time has passed are gone without a commit of their own. */
export function stillOpen(state: SecretState, now: Now): readonly MayLand[] {
  return state.mayLand.filter((entry) => entry.until > now.doc);
}
