import { UserError } from "../core/errors.ts";
import { newState, type SecretState } from "../core/model.ts";
import { onTopOf } from "../core/outbox.ts";
import type { EngineDeps } from "../engine/deps.ts";
import { isTaken } from "../engine/lease.ts";
import type { Loaded, StateBackend } from "../ports/state.ts";
import { iso } from "../ui/time.ts";
import type { Content } from "./state-form.ts";

const BATCH = 50;

/**
 * Everything that a state holds. Of a log the entries that its document tells of: documents are read first, and what
 * came after is nobody's.
 *
 * @throws UserError `state-damaged` for a document that cannot be read, or was deleted and not forgotten
 */
export async function contentOf(state: StateBackend): Promise<Content & { readonly documents: readonly Loaded[] }> {
  const documents: Loaded[] = [];
  for await (const loaded of state.loadAll()) documents.push(loaded);
  const last = new Map(documents.map(({ state: { name, outbox } }) => [name, outbox.seq]));
  const audit = await state.audit.read(null, Number.MAX_SAFE_INTEGER);
  for (const name of new Set(audit.map(({ secret }) => secret))) if (!last.has(name)) await state.load(name);
  return { documents, audit: audit.filter(({ secret, seq }) => seq <= (last.get(secret) ?? Infinity)) };
}

/** @throws UserError `locked`, exit 4, where a run may be at work on one of them */
export function mustBeFree(documents: Content["documents"], deps: EngineDeps): void {
  for (const { state, age } of documents) {
    const { lease } = state;
    const doc = state.clock + age;
    const wall = deps.clock.wall();
    if (lease === null || !isTaken(state, deps, { doc, wall })) continue;
    const since = iso(lease.since + wall - doc) ?? "";
    const who = `${lease.actor} (${lease.host}, process ${lease.pid})`;
    throw new UserError("locked", `${state.name}: ${who} works on it since ${since}`, {
      exit: 4,
      hints: ["stop the scheduler, wait for it, and run this again"],
    });
  }
}

/**
 * The document as another place gets it: its clock goes on from where it is, for ages begin anew there, and whoever
 * held a lease or was fenced by an epoch of the old place is so no longer.
 */
export function carried(one: Content["documents"][number]): SecretState {
  const { moved: _, ...kept } = aged(one);
  return { ...kept, lease: null, epoch: kept.epoch + 1 };
}

/** Saved once more: its age begins anew, and its clock has gone on for so long. */
export function aged({ state, age }: Content["documents"][number]): SecretState {
  const { wall: _, ...kept } = state;
  return { ...kept, clock: state.clock + age };
}

/** What a place has of a secret's audit log: its beginning, or all of it; or another one. */
type Log = "ours" | { readonly seq: number; readonly hash: string };

/** Of secrets of which the place has a log. */
export async function logsIn(place: StateBackend, { documents, audit }: Content): Promise<Map<string, Log>> {
  const logs = new Map<string, Log>();
  if ((await place.audit.read(null, 1)).length === 0) return logs;
  const known = new Set(audit.map(({ secret, seq, hash }) => `${secret} ${seq} ${hash}`));
  for (const name of new Set([...documents.map(({ state }) => state.name), ...audit.map(({ secret }) => secret)])) {
    const [newest] = await place.audit.read(name, 1);
    if (newest !== undefined) logs.set(name, known.has(`${name} ${newest.seq} ${newest.hash}`) ? "ours" : newest);
  }
  return logs;
}

/** Once the documents are there: an entry without its document is a sign of damage, except that it was forgotten. */
export async function copyLogs(place: StateBackend, { documents, audit }: Content): Promise<void> {
  const known = new Set(documents.map(({ state }) => state.name));
  for (const name of new Set(audit.map(({ secret }) => secret))) {
    if (known.has(name) || (await place.load(name)) !== null) continue;
    const saved = await place.save(name, newState(name, 0), null);
    if (saved.result === "saved") await place.remove(name, saved.revision);
  }
  for (let from = 0; from < audit.length; from += BATCH) await place.audit.append(audit.slice(from, from + BATCH));
}

/**
 * A backup comes back, each document for itself. What is there of it already stays; a place that was moved elsewhere
 * counts as empty. Where the place has a log that tells otherwise, that one is the truth, and the document goes on
 * from its end.
 *
 * @throws UserError `state-occupied`, exit 3, before anything is written, where another document is in the way
 */
export async function restore(place: StateBackend, content: Content): Promise<void> {
  const there = new Map<string, Loaded>();
  for await (const loaded of place.loadAll()) there.set(loaded.state.name, loaded);
  const isThere = (name: string): boolean => there.get(name)?.state.moved === undefined && there.has(name);
  for (const { state } of content.documents)
    if (isThere(state.name) && there.get(state.name)?.state.commitId !== state.commitId)
      throw occupied(place, `another document of ${state.name}`);
  const logs = await logsIn(place, content);
  for (const one of content.documents) {
    const { name } = one.state;
    const log = logs.get(name);
    const copy = log === undefined || log === "ours" ? carried(one) : onTopOf(carried(one), log);
    if (isThere(name)) continue;
    const saved = await place.save(name, copy, there.get(name)?.revision ?? null);
    if (saved.result !== "saved" && (await place.load(name))?.state.commitId !== copy.commitId)
      throw occupied(place, `another document of ${name}`);
  }
  const isOurs = ({ secret }: { readonly secret: string }): boolean => typeof logs.get(secret) !== "object";
  await copyLogs(place, { ...content, audit: content.audit.filter(isOurs) });
}

export function occupied(place: StateBackend, what: string): UserError {
  return new UserError("state-occupied", `the state in ${place.location} has ${what}`, {
    exit: 3,
    hints: ["name an empty place"],
  });
}
