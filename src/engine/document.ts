import { formatDuration, type Instant } from "../core/duration.ts";
import type { Fact } from "../core/facts.ts";
import type { SecretState } from "../core/model.ts";
import { newState } from "../core/model.ts";
import { onTopOf, seal } from "../core/outbox.ts";
import type { Now } from "../core/rules.ts";
import { transition } from "../core/transition.ts";
import type { Revision } from "../ports/state.ts";
import type { EngineDeps } from "./deps.ts";

/** Our clocks when the document's was right. */
interface Reading {
  readonly mark: number;
  readonly ahead: number;
}

/** ms; clocks that only drift never get there between two commits. */
const CLOCKS_APART = 1000;
/** More than machines differ that are kept together. */
const WALLS_APART = 5 * 60_000;

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
  /** How far our wall clock was ahead of the monotonic one before the backend was last spoken to. */
  #ahead = 0;
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
   * Looks at the backend's clock again where this machine's two clocks do not agree on how long ago that was last done:
   * one stands still while the machine sleeps, and an intent that is dated too early would count as over too soon.
   */
  async wake(): Promise<void> {
    if (this.exists && Math.abs(this.#aheadNow() - this.#ahead) > CLOCKS_APART) await this.load();
  }

  #aheadNow(): number {
    return this.deps.clock.wall() - this.deps.clock.monotonic();
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
    const read = { mark: this.deps.clock.monotonic(), ahead: this.#aheadNow() };
    const before = this.#revision === null ? await this.#onTopOfLog() : this.#state;
    const options = { guardLeaked: !this.deps.off?.has("compromised-stamp"), mayLand: !this.deps.off?.has("may-land") };
    const changed = facts.reduce((state, fact) => transition(state, fact, now, options), before);
    const next = { ...seal(changed, this.deps.random(8), this.deps.hash), wall: now.wall };
    const saved = await this.deps.state.save(this.name, next, this.#revision);
    if (saved.result === "saved") {
      this.#became(next, saved.revision, 0, read);
      return "saved";
    }
    await this.#load();
    return this.#state.commitId === next.commitId ? "saved" : "stale";
  }

  /** The audit log outlives a document that was forgotten: a new one goes on with its chain. */
  async #onTopOfLog(): Promise<SecretState> {
    const newest = (await this.deps.state.audit.read(this.name, 1)).at(-1);
    if (newest === undefined) return this.#state;
    return onTopOf(this.#state, newest);
  }

  async #load(): Promise<void> {
    const began = this.deps.clock.monotonic();
    const ahead = this.#aheadNow();
    const loaded = await this.deps.state.load(this.name);
    const mark = this.deps.clock.monotonic();
    // The age was right at some time since; where that is long ago, the next `wake` asks once more.
    const read = { mark, ahead: mark - began > CLOCKS_APART ? Number.NEGATIVE_INFINITY : ahead };
    if (loaded === null) this.#became(newState(this.name, this.deps.clock.wall()), null, 0, read);
    else this.#became(loaded.state, loaded.revision, loaded.age, read);
    this.#compareWalls();
  }

  /** Durations go by the document's clock, whatever this machine's says; windows and blackouts cannot. */
  #compareWalls(): void {
    const { wall, clock } = this.#state;
    if (wall === undefined) return;
    const now = this.now();
    const ahead = now.wall - wall - (now.doc - clock);
    if (Math.abs(ahead) < WALLS_APART) return;
    const how = `${formatDuration(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"}`;
    this.deps.warn?.(
      `this machine's clock is ${how} the one of whoever worked on ${this.name} last: windows and blackouts go by it; one of the two is wrong`,
    );
  }

  #became(state: SecretState, revision: Revision | null, age: number, { mark, ahead }: Reading): void {
    const before = this.#revision === revision && revision !== null ? this.now().doc : -Infinity;
    this.#state = state;
    this.#revision = revision;
    this.#mark = mark;
    this.#ahead = ahead;
    this.#at = Math.max(before, state.clock + Math.max(0, age));
  }

  /** Commits, loads and renewals of one process never interleave. */
  #exclusive<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(task, task);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}
