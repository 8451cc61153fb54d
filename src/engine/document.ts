import type { Instant } from "../core/duration.ts";
import type { Fact } from "../core/facts.ts";
import type { SecretState } from "../core/model.ts";
import { newState } from "../core/model.ts";
import { AUDIT, seal } from "../core/outbox.ts";
import type { Now } from "../core/rules.ts";
import { transition } from "../core/transition.ts";
import type { Revision } from "../ports/state.ts";
import type { EngineDeps } from "./deps.ts";

/**
 * One secret's document in this process: the newest revision known, and the document's clock.
 *
 * The clock is the revision's own reading plus its age by the backend's clock plus what passed here since, so it
 * is never ahead of true time, whatever this machine's wall clock does.
 */
export class Document {
  #state: SecretState;
  #revision: Revision | null = null;
  /** The document's clock at `#mark` of our monotonic clock. */
  #at: Instant = 0;
  #mark = 0;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly deps: EngineDeps,
    readonly name: string,
  ) {
    this.#state = newState(name, deps.clock.wall());
  }

  static async open(deps: EngineDeps, name: string): Promise<Document> {
    const document = new Document(deps, name);
    await document.load();
    return document;
  }

  get state(): SecretState {
    return this.#state;
  }

  get exists(): boolean {
    return this.#revision !== null;
  }

  now(): Now {
    return { doc: this.#at + (this.deps.clock.monotonic() - this.#mark), wall: this.deps.clock.wall() };
  }

  async load(): Promise<void> {
    await this.#exclusive(() => this.#load());
  }

  /**
   * Applies facts to the newest revision known and saves. `stale`: somebody else committed first, or the document is
   * no longer at `restsOn`, the sequence that the facts were decided on; the newer revision is loaded and nothing of
   * this was applied.
   */
  async commit(facts: readonly Fact[], restsOn: number | null = null): Promise<"saved" | "stale"> {
    return this.#exclusive(async () =>
      restsOn !== null && restsOn !== this.#state.seq ? "stale" : this.#commit(facts),
    );
  }

  /** For facts about the world: applied to whatever revision is newest, however often that takes. */
  async record(facts: readonly Fact[]): Promise<void> {
    while ((await this.commit(facts)) === "stale");
  }

  async #commit(facts: readonly Fact[]): Promise<"saved" | "stale"> {
    const now = this.now();
    const before = this.#revision === null ? await this.#onTopOfLog() : this.#state;
    const options = { guardLeaked: !this.deps.off?.has("compromised-stamp"), mayLand: !this.deps.off?.has("may-land") };
    const changed = facts.reduce((state, fact) => transition(state, fact, now, options), before);
    const next = seal(changed, this.deps.random(8), this.deps.hash);
    const saved = await this.deps.state.save(this.name, next, this.#revision);
    if (saved.result === "saved") {
      this.#became(next, saved.revision, 0);
      return "saved";
    }
    await this.#load();
    return this.#state.commitId === next.commitId ? "saved" : "stale";
  }

  /** The audit log outlives a document that was forgotten: a new one goes on with its chain. */
  async #onTopOfLog(): Promise<SecretState> {
    const newest = (await this.deps.state.audit.read(this.name, 1)).at(-1);
    if (newest === undefined) return this.#state;
    const { seq, hash } = newest;
    return { ...this.#state, outbox: { ...this.#state.outbox, seq, hash, cursors: { [AUDIT]: seq } } };
  }

  async #load(): Promise<void> {
    const loaded = await this.deps.state.load(this.name);
    if (loaded === null) {
      this.#became(newState(this.name, this.deps.clock.wall()), null, 0);
    } else {
      this.#became(loaded.state, loaded.revision, loaded.age);
    }
  }

  #became(state: SecretState, revision: Revision | null, age: number): void {
    const before = this.#revision === revision && revision !== null ? this.now().doc : -Infinity;
    this.#state = state;
    this.#revision = revision;
    this.#mark = this.deps.clock.monotonic();
    this.#at = Math.max(before, state.clock + Math.max(0, age));
  }

  /** Commits, loads and renewals of one process never interleave. */
  #exclusive<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(task, task);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}
