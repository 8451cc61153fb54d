import { UserError } from "../core/errors.ts";
import type { Moved } from "../core/model.ts";
import type { Loaded, StateBackend } from "../ports/state.ts";
import { EVERYTHING } from "./choose.ts";

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
      if (expected === null && saved.result !== "stale")
        await load(EVERYTHING).catch(async (error: unknown) => {
          const late = await state.load(name);
          if (late?.state.commitId === next.commitId) await state.remove(name, late.revision);
          throw error;
        });
      return saved;
    },
    remove: (name, expected) => state.remove(name, expected),
    close: () => state.close(),
  };
}

export function isElsewhere(here: string, { direction, place, address = place }: Moved): UserError {
  const [message, hint] =
    direction === "to"
      ? [`the state in ${here} was moved to ${address}`, "name the new place in the policy's `state:`, or by --state"]
      : [
          `the state in ${here} is not whole: its move from ${address} has not ended`,
          "run `keyturn state migrate` there once more",
        ];
  return new UserError("state-moved", message, { exit: 3, hints: [hint] });
}
