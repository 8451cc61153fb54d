import { isDeepStrictEqual } from "node:util";
import { ProviderError, UserError } from "../core/errors.ts";
import { newState, type Moved, type SecretState } from "../core/model.ts";
import type { EngineDeps } from "../engine/deps.ts";
import type { Loaded, Revision, StateBackend } from "../ports/state.ts";
import { EVERYTHING } from "./choose.ts";
import { aged, carried, contentOf, copyLogs, logsIn, mustBeFree, occupied } from "./state-content.ts";
import type { Content } from "./state-form.ts";
import { isElsewhere } from "./state-moved.ts";

/** What this attempt has written, and what was there before. */
interface Written {
  readonly before: Loaded | null;
  readonly after: SecretState;
  readonly revision: Revision;
}

/**
 * Copies everything, marks what is left behind, and only then lets the copies answer: the one of everything last, for
 * a place answers when that does. Killed anywhere, it goes on when it is called again, and until then one of the two
 * places answers, or none. Each attempt writes every copy and every mark itself, by compare-and-set, and takes back
 * only its own: of several at once one ends it, or none.
 *
 * @param deps of `source`
 * @returns what was moved, now or, `before`, by an earlier call
 * @throws UserError `no-state`, `state-moved`, `state-occupied`; `locked` where a run may be at work, or something was
 * committed meanwhile: then the source stays as it was, and no copy is left
 */
export async function move(
  source: StateBackend,
  target: StateBackend,
  deps: EngineDeps,
): Promise<{ readonly content: Content; readonly before: boolean }> {
  const content = await contentOf(source);
  if (content.documents.length === 0)
    throw new UserError("no-state", `there is no state in ${source.location}`, { exit: 2 });
  const there = new Map<string, Loaded>();
  for await (const loaded of target.loadAll()) there.set(loaded.state.name, loaded);
  if ((await standing(source, target, content, there)) === "there already") return { content, before: true };
  mustBeFree(content.documents, deps);
  const attempt = new Attempt(source, target, deps);
  try {
    await attempt.copy(content, there);
    await attempt.leave(content.documents);
  } catch (error) {
    if (error instanceof UserError) await attempt.takeBack();
    throw error;
  }
  await attempt.arrive();
  return { content, before: false };
}

async function standing(
  source: StateBackend,
  target: StateBackend,
  content: Content,
  there: ReadonlyMap<string, Loaded>,
): Promise<"to be moved" | "there already"> {
  const { documents } = content;
  const elsewhere = documents.find(({ state: { moved } }) => moved !== undefined && !isTo(moved, target));
  if (elsewhere?.state.moved !== undefined) throw isElsewhere(source.location, elsewhere.state.moved);
  const goal = there.get(EVERYTHING)?.state.moved;
  const isOnItsWay = goal?.direction === "from" && goal.place === source.location;
  const inTheWay = [...there.values()].find(({ state }) => state.moved === undefined && !isOnItsWay);
  if (inTheWay !== undefined && documents.every(({ state }) => state.moved !== undefined)) return "there already";
  if (inTheWay !== undefined) throw occupied(target, "documents of its own");
  for (const [name, log] of await logsIn(target, content))
    if (log !== "ours") throw occupied(target, `an audit log of its own of ${name}`);
  return "to be moved";
}

class Attempt {
  readonly #id: string;
  readonly #copies: Written[] = [];
  readonly #marks: Written[] = [];

  constructor(
    private readonly source: StateBackend,
    private readonly target: StateBackend,
    private readonly deps: EngineDeps,
  ) {
    this.#id = deps.random(8);
  }

  /** @param there what the target holds; it counts for nothing */
  async copy(content: Content, there: ReadonlyMap<string, Loaded>): Promise<void> {
    const moved: Moved = { direction: "from", ...placeOf(this.source), id: this.#id };
    const everything = { state: this.#everything(), age: 0 };
    for (const one of everythingFirst(content.documents, everything)) {
      const before = there.get(one.state.name) ?? null;
      const after = { ...carried(one), moved };
      const revision = await put(this.target, after, before?.revision ?? null);
      if (revision === null) throw anotherMove(after.name);
      this.#copies.push({ before, after, revision });
    }
    const names = new Set(this.#copies.map(({ after }) => after.name));
    for (const { state, revision } of there.values())
      if (!names.has(state.name)) await this.target.remove(state.name, revision);
    await copyLogs(this.target, content);
  }

  /** @param documents as they were copied */
  async leave(documents: readonly Loaded[]): Promise<void> {
    const moved: Moved = { direction: "to", ...placeOf(this.target), id: this.#id };
    for (const before of everythingFirst(documents, null)) {
      const after = { ...aged(before ?? { state: this.#everything(), age: 0 }), moved };
      const revision = await put(this.source, after, before?.revision ?? null);
      if (revision === null) throw changed(after.name);
      this.#marks.push({ before, after, revision });
    }
    for await (const { state } of this.source.loadAll())
      if (state.moved === undefined || !isTo(state.moved, this.target)) throw changed(state.name);
  }

  async arrive(): Promise<void> {
    const [everything, ...others] = this.#copies;
    for (const one of [...others, ...(everything === undefined ? [] : [everything])]) {
      const { moved: _, ...copy } = one.after;
      if ((await put(this.target, copy, one.revision)) === null) throw anotherMove(copy.name);
    }
  }

  /** What nobody else has written since: the one of everything last, as it came first. */
  async takeBack(): Promise<void> {
    for (const { before, after, revision } of this.#marks.toReversed()) {
      if (before === null) await this.source.remove(after.name, revision);
      else await put(this.source, aged(before), revision);
    }
    for (const { after, revision } of this.#copies.toReversed()) await this.target.remove(after.name, revision);
  }

  #everything(): SecretState {
    return { ...newState(EVERYTHING, this.deps.clock.wall()), commitId: this.#id };
  }
}

/** @param missing where there is none of everything */
function everythingFirst<A extends { readonly state: SecretState }, B>(documents: readonly A[], missing: B): (A | B)[] {
  const isEverything = ({ state }: A): boolean => state.name === EVERYTHING;
  return [documents.find(isEverything) ?? missing, ...documents.filter((one) => !isEverything(one))];
}

function changed(name: string): UserError {
  return locked(`${name}: it changed while the state was copied`, "stop whoever works on it, and run this again");
}

function anotherMove(name: string): UserError {
  return locked(`${name}: somebody else moves the state as well`, "let one of you end it, then run this again");
}

function locked(message: string, hint: string): UserError {
  return new UserError("locked", message, { exit: 4, hints: [hint] });
}

function placeOf({ location, address }: StateBackend): Pick<Moved, "place" | "address"> {
  return { place: location, ...(address !== undefined && { address }) };
}

function isTo({ direction, place }: Moved, target: StateBackend): boolean {
  return direction === "to" && place === target.location;
}

/**
 * Keeps the `commitId`: whoever looks for his own save still finds it.
 *
 * @returns null: somebody else has written
 * @throws ProviderError `unavailable` where it was not written, and nobody else has either
 */
async function put(place: StateBackend, next: SecretState, expected: Revision | null): Promise<Revision | null> {
  const saved = await place.save(next.name, next, expected);
  if (saved.result === "saved") return saved.revision;
  const there = saved.result === "stale" ? null : await place.load(next.name);
  if (there !== null && there.state.commitId === next.commitId && isDeepStrictEqual(there.state.moved, next.moved))
    return there.revision;
  if (saved.result === "stale" || (there?.revision ?? null) !== expected) return null;
  throw new ProviderError("unavailable", "no", `the state in ${place.location} did not answer`, {
    hint: "run this again: what was begun goes on",
  });
}
