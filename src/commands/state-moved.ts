import { isDeepStrictEqual } from "node:util";
import { UserError } from "../core/errors.ts";
import { newState, type SecretState } from "../core/model.ts";
import type { EngineDeps } from "../engine/deps.ts";
import type { Loaded, Revision, StateBackend } from "../ports/state.ts";
import { EVERYTHING } from "./choose.ts";
import { contentOf, fill, mustBeFree } from "./state-content.ts";
import type { Content } from "./state-form.ts";

type Moved = NonNullable<SecretState["moved"]>;

/**
 * A state as everybody works on it: one that was moved, or is still on its way here, answers nothing, for what went on
 * in it would be lost. What somebody read before the move he can save no more: the mark is a commit to each document.
 *
 * @throws UserError `state-moved`, at once and from each method that reads, or makes a document
 */
export async function stillHere(state: StateBackend): Promise<StateBackend> {
  const here = (loaded: Loaded): Loaded => {
    if (loaded.state.moved !== undefined) throw isElsewhere(state.location, loaded.state.moved);
    return loaded;
  };
  const load = async (name: string): Promise<Loaded | null> => {
    const loaded = await state.load(name);
    if (loaded !== null) return here(loaded);
    // A secret of which this state never knew.
    if (name !== EVERYTHING) await load(EVERYTHING);
    return null;
  };
  await load(EVERYTHING);
  return {
    location: state.location,
    audit: state.audit,
    load,
    async *loadAll() {
      for await (const loaded of state.loadAll()) yield here(loaded);
    },
    async save(name, next, expected) {
      const saved = await state.save(name, next, expected);
      // Nothing says of a new document that it came too late.
      if (expected === null && saved.result === "saved") await load(EVERYTHING).catch(takingBack(state, name, saved));
      return saved;
    },
    remove: (name, expected) => state.remove(name, expected),
    close: () => state.close(),
  };
}

function takingBack(state: StateBackend, name: string, { revision }: { readonly revision: Revision }) {
  return async (error: unknown): Promise<never> => {
    await state.remove(name, revision);
    throw error;
  };
}

function isElsewhere(here: string, { direction, place }: Moved): UserError {
  const [message, hint] =
    direction === "to"
      ? [`the state in ${here} was moved to ${place}`, "name the new place in the policy's `state:`, or by --state"]
      : [
          `the state in ${here} is not whole: its move from ${place} has not ended`,
          "run `keyturn state migrate` there once more",
        ];
  return new UserError("state-moved", message, { exit: 3, hints: [hint] });
}

/**
 * Copies everything, marks what is left behind, and only then lets the copies answer. Killed anywhere, it goes on when
 * it is called again, and until then one of the two places answers, or none.
 *
 * @param deps of `source`
 * @throws UserError `no-state`, `state-moved`, `state-occupied`; `locked` where a run may be at work, or something was
 * committed meanwhile: then the source stays as it was, and no copy is left
 */
export async function move(source: StateBackend, target: StateBackend, deps: EngineDeps): Promise<Content> {
  const content = await contentOf(source);
  const { documents } = content;
  if (documents.length === 0) throw new UserError("no-state", `there is no state in ${source.location}`, { exit: 2 });
  const mark: Moved = { direction: "to", place: target.location };
  const gone = documents.find(({ state }) => state.moved !== undefined && !isDeepStrictEqual(state.moved, mark));
  if (gone?.state.moved !== undefined) throw isElsewhere(source.location, gone.state.moved);
  mustBeFree(documents, deps);
  const put = await fill(target, content, { direction: "from", place: source.location });
  const changed = await seal(source, documents, mark);
  if (changed !== null) {
    for (const { state, revision } of put) await target.remove(state.name, revision);
    throw locked(`${changed}: it changed while the state was copied`, "stop whoever works on it, and run this again");
  }
  for (const copy of put)
    if (!(await signed(target, copy, null)))
      throw locked(
        `${copy.state.name}: somebody else moves the state as well`,
        "let one of you do it, and run this again",
      );
  return content;
}

function locked(message: string, hint: string): UserError {
  return new UserError("locked", message, { exit: 4, hints: [hint] });
}

/**
 * Marks each document. The first is the one of everything: from there on no secret is new here.
 *
 * @param documents as they were copied
 * @returns null; or the name of what was committed meanwhile, and then nothing is marked
 */
async function seal(state: StateBackend, documents: readonly Loaded[], mark: Moved): Promise<string | null> {
  const everything = documents.find((one) => one.state.name === EVERYTHING) ?? null;
  const sealed: string[] = [];
  for (const one of [everything, ...documents.filter((other) => other !== everything)]) {
    const name = one?.state.name ?? EVERYTHING;
    if (one?.state.moved !== undefined || (await signed(state, one, mark))) sealed.push(name);
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
    if (loaded !== null) await signed(state, loaded, null);
  }
  return changed;
}

/** Keeps the `commitId`: whoever looks for his own save still finds it. */
async function signed(
  state: StateBackend,
  before: Pick<Loaded, "state" | "revision" | "age"> | null,
  mark: Moved | null,
) {
  const { moved: _, ...kept } = before?.state ?? newState(EVERYTHING, 0);
  const next: SecretState = { ...kept, clock: kept.clock + (before?.age ?? 0), ...(mark !== null && { moved: mark }) };
  const { result } = await state.save(next.name, next, before?.revision ?? null);
  if (result !== "unknown") return result === "saved";
  return isDeepStrictEqual((await state.load(next.name))?.state.moved, next.moved);
}
