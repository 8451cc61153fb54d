import { ProviderError } from "../../src/core/errors.ts";
import type { SecretState } from "../../src/core/model.ts";
import type { AuditEntry, AuditLog, Loaded, Revision, StateBackend } from "../../src/ports/state.ts";
import type { Notification, Notifier } from "../../src/ports/notifier.ts";
import type { Process } from "./process.ts";
import type { World } from "./world.ts";

/** The document as the backend really holds it. Documents are immutable, so they are shared, never copied. */
export class StateTruth {
  document: { readonly revision: Revision; readonly state: SecretState; readonly savedAt: number } | null = null;
  readonly audit = new Map<number, AuditEntry>();
  #revisions = 0;

  constructor(readonly world: World) {}

  save(next: SecretState, expected: Revision | null, process: Process): Revision | null {
    if ((this.document?.revision ?? null) !== expected) return null;
    const before = this.document?.state ?? null;
    this.document = { revision: `d${++this.#revisions}`, state: next, savedAt: this.world.now };
    this.world.invariants.committed(before, next, process);
    return this.document.revision;
  }
}

/** One process's connection to the state backend. */
export class FakeState implements StateBackend {
  readonly location = "simulated";
  readonly audit: AuditLog;

  constructor(
    readonly world: World,
    readonly process: Process,
  ) {
    this.audit = {
      append: async (entries) => {
        await this.#travel("audit");
        world.invariants.audited(entries);
        for (const entry of entries) world.state.audit.set(entry.seq, entry);
        await this.#travel("audit:after");
      },
      read: async () => [...world.state.audit.values()],
    };
  }

  async *loadAll(): AsyncIterable<Loaded> {
    const loaded = await this.load("");
    if (loaded) yield loaded;
  }

  async load(name: string): Promise<Loaded | null> {
    await this.#travel("load");
    const { document } = this.world.state;
    if (document === null || name === "@all") return null;
    const { state, revision, savedAt } = document;
    const exact = this.world.now - savedAt;
    const loaded = { revision, state, age: this.world.scenario.coarseAge ? Math.floor(exact / 1000) * 1000 : exact };
    await this.process.pause(this.process.random.skewed(60), "load:after");
    return loaded;
  }

  async save(
    _name: string,
    next: SecretState,
    expected: Revision | null,
  ): Promise<{ result: "saved"; revision: Revision } | { result: "stale" | "unknown" }> {
    const { world, process } = this;
    const { random } = process;
    await process.pause(random.skewed(40), "save:before");
    const trouble = world.calm ? 1 : random.next() / world.scenario.trouble;
    if (trouble < 0.1) {
      await process.pause(random.skewed(8000), "save:lost");
      return { result: "unknown" };
    }
    if (trouble < 0.15) {
      world.scheduler.after(random.skewed(20_000), () => world.state.save(next, expected, process));
      await process.pause(random.skewed(8000), "save:late");
      return { result: "unknown" };
    }
    const revision = world.state.save(next, expected, process);
    const slow = trouble < 0.25;
    await process.pause(random.skewed(slow ? 15_000 : 40), "save:after");
    if (trouble < 0.2) return { result: "unknown" };
    return revision === null ? { result: "stale" } : { result: "saved", revision };
  }

  async remove(): Promise<"removed" | "stale"> {
    return "stale";
  }

  async close(): Promise<void> {}

  async #travel(what: string): Promise<void> {
    const { world, process } = this;
    await process.pause(process.random.skewed(40), what);
    if (!world.calm && process.random.chance(0.03 * world.scenario.trouble))
      throw new ProviderError("unavailable", "no", "the backend does not answer");
  }
}

/** Tells people, when it is not down. */
export class FakeNotifier implements Notifier {
  constructor(
    readonly world: World,
    readonly process: Process,
  ) {}

  async send(notification: Notification): Promise<void> {
    await this.process.pause(this.process.random.skewed(300), "notify");
    const { notifierDown } = this.world.scenario;
    if (!this.world.calm && this.world.now >= notifierDown.from && this.world.now < notifierDown.until) {
      throw new ProviderError("unavailable", "maybe", "nobody listens");
    }
    this.world.invariants.clean("notification", notification);
  }
}
