import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from "node:worker_threads";
import type { SecretState } from "../../src/core/model.ts";
import type { AuditEntry, Loaded, Revision } from "../../src/ports/state.ts";
import { script } from "../adapters/file-support.ts";
import { StateTruth } from "./fake-state.ts";
import type { Process } from "./process.ts";
import type { World } from "./world.ts";

const PATIENCE = 20_000;
/** Runners of one schedule reach the backend over so many connections. */
const CONNECTIONS = 3;

/** The SDK says on stderr which versions of Node it will leave behind. */
const ENV = { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true" };

type Request =
  | { readonly open: string; readonly env: Readonly<Record<string, string>> }
  | { readonly save: SecretState; readonly expected: Revision | null; readonly by: number }
  | { readonly append: readonly AuditEntry[] }
  | { readonly end: true };

interface Answer {
  readonly error?: string;
  readonly result?: "saved" | "stale" | "unknown";
  readonly loaded?: Loaded | null;
}

const SOURCE = `
  import { setTimeout as sleep } from "node:timers/promises";
  import { workerData } from "node:worker_threads";
  import { registry } from "../../src/adapters/registry.ts";
  const { port, flag } = workerData;
  let open = [];
  const close = async () => { for (const one of open.splice(0)) await one.close(); };
  const serve = async (request) => {
    if ("end" in request) { await close(); return {}; }
    if ("open" in request) {
      await close();
      const scheme = request.open.slice(0, request.open.indexOf(":"));
      const entry = Object.values(registry.state).find(({ schemes }) => schemes.includes(scheme));
      const adapter = await entry.load();
      const settings = adapter.settings.parse(adapter.fromUrl(request.open));
      const silent = () => {};
      const deps = { folder: "/", env: request.env, now: Date.now, sleep, debug: silent, announce: silent };
      for (let i = 0; i < ${CONNECTIONS}; i++) open.push(await adapter.create(settings, deps));
      return {};
    }
    if ("append" in request) { await open[0].audit.append(request.append); return {}; }
    const { save, expected, by } = request;
    const { result } = await open[by % open.length].save(save.name, save, expected);
    // Another one than has saved.
    return { result, loaded: await open[(by + 1) % open.length].load(save.name) };
  };
  port.on("message", async (request) => {
    const answer = await serve(request).catch((error) => ({ error: error.name + ": " + error.message }));
    port.postMessage(answer);
    Atomics.store(flag, 0, 1);
    Atomics.notify(flag, 0);
  });
`;

/**
 * A real backend that answers at once: it works in a thread of its own, and this one stands still meanwhile. The
 * simulation's time is virtual, so nothing else may happen between two of its moments.
 */
export class Backend {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #flag = new Int32Array(new SharedArrayBuffer(4));
  /** Saves that it has refused. */
  refused = 0;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const workerData = { port: port2, flag: this.#flag };
    this.#worker = new Worker(script(SOURCE), { workerData, transferList: [port2], env: ENV });
    this.#worker.unref();
  }

  /** A place of its own for the schedule that follows. */
  truth(url: string, env: Readonly<Record<string, string>>): (world: World) => StateTruth {
    this.ask({ open: url, env });
    return (world) => new BackedTruth(world, this);
  }

  ask(request: Request): Answer {
    Atomics.store(this.#flag, 0, 0);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has none
    this.#port.postMessage(request);
    if (Atomics.wait(this.#flag, 0, 0, PATIENCE) === "timed-out") throw new Error("the backend does not answer");
    const answer = receiveMessageOnPort(this.#port)?.message as Answer;
    if (answer.error !== undefined) throw new Error(answer.error);
    if (answer.result === "stale") this.refused++;
    return answer;
  }

  async end(): Promise<void> {
    this.ask({ end: true });
    this.#port.close();
    await this.#worker.terminate();
  }
}

/**
 * What the fakes know of the document, held against what the backend does with it: each save has to end as the
 * compare-and-set says, and what is read afterwards is what was saved. Ages stay virtual, as time is.
 */
class BackedTruth extends StateTruth {
  override readonly audit: Map<number, AuditEntry>;

  constructor(
    world: World,
    private readonly backend: Backend,
  ) {
    super(world);
    this.audit = new BackedAudit(backend);
  }

  override save(next: SecretState, expected: Revision | null, process: Process): Revision | null {
    const before = this.document;
    const due = (before?.revision ?? null) === expected ? "saved" : "stale";
    const { result, loaded } = this.backend.ask({ save: next, expected, by: process.pid });
    const should = due === "saved" ? next : (before?.state ?? null);
    if (result !== due) this.world.violate("3.6", `the backend says ${result} where ${due} is right`);
    if (JSON.stringify(loaded?.state ?? null) !== JSON.stringify(should))
      this.world.violate("3.6", "the backend holds another document than was saved");
    if (due === "stale" || !loaded) return null;
    if (loaded.revision === expected) this.world.violate("3.6", "a new document has an old revision");
    this.document = { revision: loaded.revision, state: loaded.state, savedAt: this.world.now };
    this.world.invariants.committed(before?.state ?? null, next, process);
    return loaded.revision;
  }
}

class BackedAudit extends Map<number, AuditEntry> {
  constructor(private readonly backend: Backend) {
    super();
  }

  override set(seq: number, entry: AuditEntry): this {
    this.backend.ask({ append: [entry] });
    return super.set(seq, entry);
  }
}
