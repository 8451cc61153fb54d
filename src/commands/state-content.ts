import { UserError } from "../core/errors.ts";
import type { SecretState } from "../core/model.ts";
import type { EngineDeps } from "../engine/deps.ts";
import { isTaken } from "../engine/lease.ts";
import type { Loaded, Revision, StateBackend } from "../ports/state.ts";
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
function carried({ state, age }: Content["documents"][number]): SecretState {
  const { movedTo: _, ...kept } = state;
  return { ...kept, clock: state.clock + age, lease: null, epoch: state.epoch + 1 };
}

/**
 * Documents first, then the audit log: an entry without its document is a sign of damage. What an earlier attempt
 * has put there already stays; a place that was itself moved elsewhere counts as empty.
 *
 * @returns takes back what was put there, as far as nobody has touched it
 * @throws UserError `state-occupied`, exit 3, before anything is written, where another document is in the way
 */
export async function fill(target: StateBackend, { documents, audit }: Content): Promise<() => Promise<void>> {
  const there = new Map<string, Loaded>();
  for await (const loaded of target.loadAll()) there.set(loaded.state.name, loaded);
  const commits = new Map(documents.map(({ state }) => [state.name, state.commitId]));
  for (const { name, commitId, movedTo } of [...there.values()].map(({ state }) => state)) {
    const isInTheWay = movedTo === undefined && commits.has(name) && commitId !== commits.get(name);
    if (isInTheWay) throw occupied(target, name);
  }
  const put: { readonly name: string; readonly revision: Revision }[] = [];
  for (const one of documents) {
    const { name, commitId } = one.state;
    const before = there.get(name);
    if (before !== undefined && before.state.movedTo === undefined) continue;
    const saved = await target.save(name, carried(one), before?.revision ?? null);
    const revision = saved.result === "saved" ? saved.revision : await revisionOf(target, name, commitId);
    if (revision === null) throw occupied(target, name);
    put.push({ name, revision });
  }
  for (const { state, revision } of there.values())
    if (state.movedTo !== undefined && !commits.has(state.name)) await target.remove(state.name, revision);
  for (let from = 0; from < audit.length; from += BATCH) await target.audit.append(audit.slice(from, from + BATCH));
  return async () => {
    for (const { name, revision } of put) await target.remove(name, revision);
  };
}

async function revisionOf(target: StateBackend, name: string, commitId: string): Promise<Revision | null> {
  const loaded = await target.load(name);
  return loaded !== null && loaded.state.movedTo === undefined && loaded.state.commitId === commitId
    ? loaded.revision
    : null;
}

function occupied(target: StateBackend, name: string): UserError {
  return new UserError("state-occupied", `the state in ${target.location} has another document of ${name}`, {
    exit: 3,
    hints: ["name an empty place"],
  });
}
