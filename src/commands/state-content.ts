import { UserError } from "../core/errors.ts";
import type { SecretState } from "../core/model.ts";
import type { EngineDeps } from "../engine/deps.ts";
import { isTaken } from "../engine/lease.ts";
import type { Loaded, StateBackend } from "../ports/state.ts";
import { iso } from "../ui/time.ts";
import { EVERYTHING } from "./choose.ts";
import type { Content } from "./state-form.ts";

const BATCH = 50;

/** Everything that a state holds. */
export async function contentOf(state: StateBackend): Promise<Content> {
  const documents: Loaded[] = [];
  for await (const loaded of state.loadAll()) documents.push(loaded);
  const audit = await state.audit.read(null, Number.MAX_SAFE_INTEGER);
  return { documents: documents.map(({ age, state: document }) => ({ age, state: document })), audit };
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
export function carried({ state, age }: Content["documents"][number]): SecretState {
  return { ...state, clock: state.clock + age, lease: null, epoch: state.epoch + 1 };
}

/**
 * Documents first, then the audit log: an entry without its document is a sign of damage. What an earlier attempt
 * has put there already stays.
 *
 * @throws UserError `state-occupied`, exit 3, before anything is written, where another document is in the way
 */
export async function fill(target: StateBackend, { documents, audit }: Content): Promise<void> {
  const missing: SecretState[] = [];
  // The pause of everything comes last: it changes with each attempt to migrate.
  const isLast = ({ state }: Content["documents"][number]): number => Number(state.name === EVERYTHING);
  for (const one of documents.toSorted((a, b) => isLast(a) - isLast(b))) {
    const { name, commitId } = one.state;
    const there = await target.load(name);
    if (there === null) missing.push(carried(one));
    else if (there.state.commitId !== commitId) throw occupied(target, name);
  }
  for (const state of missing) {
    const { result } = await target.save(state.name, state, null);
    if (result === "saved") continue;
    if ((await target.load(state.name))?.state.commitId !== state.commitId) throw occupied(target, state.name);
  }
  for (let from = 0; from < audit.length; from += BATCH) await target.audit.append(audit.slice(from, from + BATCH));
}

function occupied(target: StateBackend, name: string): UserError {
  return new UserError("state-occupied", `the state in ${target.location} has another document of ${name}`, {
    exit: 3,
    hints: ["name an empty place"],
  });
}
