import { UserError } from "../core/errors.ts";
import type { SecretState } from "../core/model.ts";
import type { EngineDeps } from "../engine/deps.ts";
import { isTaken } from "../engine/lease.ts";
import type { Loaded, StateBackend } from "../ports/state.ts";
import { iso } from "../ui/time.ts";
import type { Content } from "./state-form.ts";

const BATCH = 50;

/** Everything that a state holds. */
export async function contentOf(state: StateBackend): Promise<Content & { readonly documents: readonly Loaded[] }> {
  const documents: Loaded[] = [];
  for await (const loaded of state.loadAll()) documents.push(loaded);
  return { documents, audit: await state.audit.read(null, Number.MAX_SAFE_INTEGER) };
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
function carried({ state, age }: Content["documents"][number], mark: SecretState["moved"] | null): SecretState {
  const { moved: _, ...kept } = state;
  const copy = { ...kept, clock: state.clock + age, lease: null, epoch: state.epoch + 1 };
  return mark == null ? copy : { ...copy, moved: mark };
}

/**
 * Documents first, then the audit log: an entry without its document is a sign of damage. What an earlier attempt
 * has put there already stays; what is marked as moved, or as not wholly there yet, counts as nothing.
 *
 * @param mark for the copies, until all of them are there; null: each is there at once
 * @returns the copies that it has put there
 * @throws UserError `state-occupied`, exit 3, before anything is written, where another document is in the way
 */
export async function fill(
  target: StateBackend,
  { documents, audit }: Content,
  mark: SecretState["moved"] | null,
): Promise<readonly Loaded[]> {
  const there = new Map<string, Loaded>();
  for await (const loaded of target.loadAll()) there.set(loaded.state.name, loaded);
  const missing = documents.filter(({ state }) => !hasArrived(there.get(state.name)?.state, state, target));
  const put: Loaded[] = [];
  for (const one of missing) {
    const copy = carried(one, mark);
    const before = there.get(copy.name)?.revision ?? null;
    const saved = await target.save(copy.name, copy, before);
    const loaded = saved.result === "saved" ? null : await target.load(copy.name);
    if (saved.result === "saved") put.push({ state: copy, revision: saved.revision, age: 0 });
    else if (loaded?.state.commitId === copy.commitId) put.push(loaded);
    else throw occupied(target, copy.name);
  }
  const names = new Set(documents.map(({ state }) => state.name));
  for (const { state, revision } of there.values())
    if (state.moved !== undefined && !names.has(state.name)) await target.remove(state.name, revision);
  for (let from = 0; from < audit.length; from += BATCH) await target.audit.append(audit.slice(from, from + BATCH));
  return put;
}

/** Whether the target has it already, from an earlier attempt. */
function hasArrived(there: SecretState | undefined, state: SecretState, target: StateBackend): boolean {
  if (there === undefined || there.moved !== undefined) return false;
  // It has gone on there since.
  const isThere = state.moved?.direction === "to" && state.moved.place === target.location;
  if (!isThere && there.commitId !== state.commitId) throw occupied(target, state.name);
  return true;
}

function occupied(target: StateBackend, name: string): UserError {
  return new UserError("state-occupied", `the state in ${target.location} has another document of ${name}`, {
    exit: 3,
    hints: ["name an empty place"],
  });
}
