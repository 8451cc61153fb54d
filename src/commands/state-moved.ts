import { UserError } from "../core/errors.ts";
import { newState, type SecretState } from "../core/model.ts";
import type { EngineDeps } from "../engine/deps.ts";
import type { Loaded, StateBackend } from "../ports/state.ts";
import { EVERYTHING } from "./choose.ts";
import { contentOf, fill, mustBeFree } from "./state-content.ts";
import type { Content } from "./state-form.ts";

/**
 * A state as everybody works on it: once it was moved it answers nothing, for what went on here would be lost. What
 * somebody read before that he can save no more, since the mark of the move is a commit to each document.
 *
 * @throws UserError `state-moved`, at once and from each method that reads
 */
export async function stillHere(state: StateBackend): Promise<StateBackend> {
  const here = (loaded: Loaded): Loaded => {
    if (loaded.state.movedTo !== undefined) throw moved(state.location, loaded.state.movedTo);
    return loaded;
  };
  const whole: StateBackend = {
    location: state.location,
    audit: state.audit,
    async *loadAll() {
      for await (const loaded of state.loadAll()) yield here(loaded);
    },
    async load(name) {
      const loaded = await state.load(name);
      if (loaded !== null) return here(loaded);
      // A secret of which this state never knew.
      if (name !== EVERYTHING) await whole.load(EVERYTHING);
      return null;
    },
    save: (name, next, expected) => state.save(name, next, expected),
    remove: (name, expected) => state.remove(name, expected),
    close: () => state.close(),
  };
  await whole.load(EVERYTHING);
  return whole;
}

function moved(from: string, to: string): UserError {
  return new UserError("state-moved", `the state in ${from} was moved to ${to}`, {
    exit: 3,
    hints: ["name the new place in the policy's `state:`, or by --state"],
  });
}

/**
 * Copies everything, then marks what is left behind. Killed anywhere, it goes on when it is called again.
 *
 * @param deps of `source`
 * @throws UserError `no-state`, `state-moved`, `state-occupied`; `locked` where a run may be at work, or something
 * was committed meanwhile: then the source stays as it was, and the target is as empty as before
 */
export async function move(source: StateBackend, target: StateBackend, deps: EngineDeps): Promise<Content> {
  const content = await contentOf(source);
  const { documents } = content;
  if (documents.length === 0) throw new UserError("no-state", `there is no state in ${source.location}`, { exit: 2 });
  const before = documents.find(({ state: { movedTo } }) => movedTo !== undefined && movedTo !== target.location);
  if (before?.state.movedTo !== undefined) throw moved(source.location, before.state.movedTo);
  mustBeFree(documents, deps);
  const takeBack = await fill(target, content);
  const changed = await seal(source, documents, target.location);
  if (changed === null) return content;
  await takeBack();
  throw new UserError("locked", `${changed}: it changed while the state was copied`, {
    exit: 4,
    hints: ["stop whoever works on it, and run this again"],
  });
}

/**
 * Marks each document as moved. The first is the one of everything: from there on no secret is new here.
 *
 * @param documents as they were copied
 * @returns null; or the name of what was committed meanwhile, and then nothing is marked
 */
async function seal(state: StateBackend, documents: readonly Loaded[], to: string): Promise<string | null> {
  const everything = documents.find((one) => one.state.name === EVERYTHING) ?? null;
  const sealed: string[] = [];
  for (const one of [everything, ...documents.filter((other) => other !== everything)]) {
    const name = one?.state.name ?? EVERYTHING;
    if (one?.state.movedTo === to || (await mark(state, one, to))) sealed.push(name);
    else return undone(state, sealed, name);
  }
  const names = new Set(sealed);
  for await (const { state: found } of state.loadAll())
    if (!names.has(found.name)) return undone(state, sealed, found.name);
  return null;
}

async function undone(state: StateBackend, sealed: readonly string[], changed: string): Promise<string> {
  // The one of everything last, as it came first.
  for (const name of sealed.toReversed()) {
    const loaded = await state.load(name);
    if (loaded !== null) await mark(state, loaded, null);
  }
  return changed;
}

/** Keeps the `commitId`: an interrupted move goes on where its copies are still the same. */
async function mark(state: StateBackend, loaded: Loaded | null, to: string | null): Promise<boolean> {
  const next = marked(loaded, to);
  const { result } = await state.save(next.name, next, loaded?.revision ?? null);
  if (result !== "unknown") return result === "saved";
  return (await state.load(next.name))?.state.movedTo === next.movedTo;
}

function marked(loaded: Loaded | null, to: string | null): SecretState {
  const { movedTo: _, ...state } = loaded?.state ?? newState(EVERYTHING, 0);
  return { ...state, clock: state.clock + (loaded?.age ?? 0), ...(to !== null && { movedTo: to }) };
}
