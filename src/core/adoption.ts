import { acted, emit, withDelivery, withRotation } from "./edit.ts";
import type { Fact } from "./facts.ts";
import type { DeliveryState, SecretState, Version } from "./model.ts";
import { living } from "./model.ts";
import { begin, newVersion } from "./rotation.ts";
import type { Now } from "./rules.ts";
import { IllegalTransition, move } from "./status.ts";

export function bind(state: SecretState, fact: Extract<Fact, { fact: "bound" }>): SecretState {
  const known = new Map(state.deliveries.map((d) => [d.id, d]));
  const named = fact.deliveries.map((d): DeliveryState => {
    const old = known.get(d.id);
    known.delete(d.id);
    return old
      ? { ...old, use: d.use, name: d.name, binding: old.binding ?? d.binding }
      : { ...d, serves: null, ref: null, writtenAt: null, confirmedAt: null, lastError: null };
  });
  // Lines taken out of the policy stay known while they may serve a living key of ours.
  const inFlight = state.rotation !== null && state.rotation.to !== null;
  const alive = new Set(living(state).map((v) => v.id));
  const removed = [...known.values()].filter((d) => (d.serves === null ? inFlight : alive.has(d.serves)));
  return { ...state, issuerBinding: state.issuerBinding ?? fact.issuer, deliveries: [...named, ...removed] };
}

export function adopt(state: SecretState, fact: Extract<Fact, { fact: "adopted" }>, now: Now): SecretState {
  const known = state.versions.find((v) => v.keyId === fact.keyId && v.status !== "destroyed");
  const version: Version = {
    ...(known ?? newVersion(fact.version, now)),
    keyId: fact.keyId,
    status: "current",
    origin: known?.origin ?? "adopted",
    ...fact.dates,
    exposed: true,
    disabledAt: null,
    deletedAt: null,
    expedite: false,
    debt: null,
    handBack: false,
  };
  if (known?.compromised) throw new IllegalTransition(known, "current");
  const others = state.versions
    .filter((v) => v.id !== version.id)
    .map((v) => {
      if (v.status === "current" || (v.status === "pending" && v.exposed)) return move(v, "retiring");
      return v.status === "pending" ? move(v, "abandoned") : v;
    });
  let next: SecretState = {
    ...state,
    versions: [...others, version],
    minted: known ? state.minted : state.minted + 1,
    stopped: null,
  };
  for (const { delivery, ref } of fact.serving) {
    next = withDelivery(next, delivery, (d) => ({
      ...d,
      serves: version.id,
      ref,
      writtenAt: null,
      confirmedAt: now.doc,
      lastError: null,
    }));
  }
  const superseded = living(next).some((v) => v.id !== version.id);
  // What it takes the place of ends by the rules of a rotation that has just promoted its version.
  if (superseded && next.rotation === null)
    next = begin(next, { id: fact.rotation, reason: "manual", actor: fact.by, repair: false }, now);
  // One that has made nothing yet and has nothing to end goes on to make what a person wished for; what the schedule
  // began counts anew from the adopted key's age.
  const unmade = !superseded && next.rotation?.to === null;
  if (unmade && next.rotation?.reason === "scheduled") next = { ...next, rotation: null };
  else if (unmade) next = withRotation(next, { from: version.id });
  else if (next.rotation !== null)
    next = withRotation(next, { to: version.id, from: null, rollback: null, overlapFrom: null });
  return acted(
    emit(next, now, fact.by, "adopted", { version: version.id, keyId: fact.keyId }),
    now,
    "adopt",
    version.id,
    null,
  );
}
