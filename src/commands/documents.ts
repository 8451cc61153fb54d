import { UserError } from "../core/errors.ts";
import type { Loaded, StateBackend } from "../ports/state.ts";
import { EVERYTHING } from "./choose.ts";

/** From so many on all documents are read at once, which is fewer requests. */
const MANY = 20;

/** What a state holds. */
export interface Documents {
  readonly read: ReadonlyMap<string, Loaded>;
  /** By secret: documents that are there and cannot be read. They keep nobody else waiting. */
  readonly damaged: ReadonlyMap<string, UserError>;
}

/**
 * Documents of these secrets, and of everything.
 *
 * @param and `strays`: of secrets that are not among these, too; one of those that cannot be read is then thrown
 * @throws UserError `state-damaged` where the document of everything cannot be read: nobody knows what is paused
 */
export async function documentsOf(
  state: StateBackend,
  names: readonly string[],
  and: "strays" | null = null,
): Promise<Documents> {
  const read = new Map<string, Loaded>();
  const damaged = new Map<string, UserError>();
  const [isWhole, stray] = and === "strays" || names.length > MANY ? await readAll(state, read) : [false, null];
  for (const name of isWhole ? [] : [EVERYTHING, ...names.filter((name) => !read.has(name))]) {
    try {
      const loaded = await state.load(name);
      if (loaded !== null) read.set(name, loaded);
    } catch (error) {
      if (!isDamage(error) || name === EVERYTHING) throw error;
      damaged.set(name, error);
    }
  }
  if (and === "strays" && stray !== null && damaged.size === 0) throw stray;
  return { read, damaged };
}

/** Whether there is nothing else; and the first that cannot be read. */
async function readAll(state: StateBackend, read: Map<string, Loaded>): Promise<[boolean, UserError | null]> {
  try {
    for await (const loaded of state.loadAll()) read.set(loaded.state.name, loaded);
    return [true, null];
  } catch (error) {
    // Thrown after the others were handed out.
    if (!isDamage(error)) throw error;
    return [false, error];
  }
}

/** One document that cannot be read, where the state as such can. */
export function isDamage(error: unknown): error is UserError {
  return error instanceof UserError && (error.code === "state-damaged" || error.code === "state-newer");
}
