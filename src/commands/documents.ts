import { UserError } from "../core/errors.ts";
import type { Loaded, StateBackend } from "../ports/state.ts";
import { EVERYTHING } from "./choose.ts";

/** From so many on all documents are read at once, which is fewer requests. */
const MANY = 20;
const AT_ONCE = 8;

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
  const stray = and === "strays" || names.length > MANY ? await readAll(state, read) : null;
  // One that was not listed may be new, or damaged, or deleted.
  const rest = [EVERYTHING, ...names].filter((name) => !read.has(name));
  const look = async (name: string): Promise<void> => {
    const found = await tried(state, name);
    if (found instanceof UserError && name === EVERYTHING) throw found;
    if (found instanceof UserError) damaged.set(name, found);
    else if (found !== null) read.set(name, found);
  };
  for (let from = 0; from < rest.length; from += AT_ONCE) await Promise.all(rest.slice(from, from + AT_ONCE).map(look));
  if (and === "strays" && stray !== null && damaged.size === 0) throw stray;
  return { read, damaged };
}

/** @returns the first that cannot be read */
async function readAll(state: StateBackend, read: Map<string, Loaded>): Promise<UserError | null> {
  try {
    for await (const loaded of state.loadAll()) read.set(loaded.state.name, loaded);
    return null;
  } catch (error) {
    // Thrown after the others were handed out.
    if (!isDamage(error)) throw error;
    return error;
  }
}

async function tried(state: StateBackend, name: string): Promise<Loaded | UserError | null> {
  try {
    return await state.load(name);
  } catch (error) {
    if (!isDamage(error)) throw error;
    return error;
  }
}

/** One document that cannot be read, where the state as such can. */
export function isDamage(error: unknown): error is UserError {
  return error instanceof UserError && (error.code === "state-damaged" || error.code === "state-newer");
}
