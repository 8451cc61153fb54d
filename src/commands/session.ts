import type { Policy, SecretPolicy } from "../config/model.ts";
import type { PlacedIssue } from "../config/issues.ts";
import type { EngineDeps, SecretPorts } from "../engine/deps.ts";
import type { Queue } from "../ports/queue.ts";
import type { StateBackend } from "../ports/state.ts";
import type { Traces } from "../telemetry/traces.ts";
import type { Terminal } from "../ui/terminal.ts";
import { plain } from "../ui/text.ts";
import { openQueue, openState, openTraces, Wiring, type World } from "../wire.ts";
import { actorOf } from "./actor.ts";
import type { Globals } from "./globals.ts";
import type { Process } from "./main.ts";
import { stillHere } from "./state-moved.ts";

/** One command at work: policy, state and adapters, each opened when first asked for. */
export class Session {
  /** Of the policy, once it is loaded. */
  warnings: readonly PlacedIssue[] = [];
  #policy: Promise<Policy> | null = null;
  #state: Promise<StateBackend> | null = null;
  #here: Promise<StateBackend> | null = null;
  readonly #others: StateBackend[] = [];
  #engine: Promise<EngineDeps> | null = null;
  #wiring: Promise<Wiring> | null = null;
  #traces: Promise<Traces | null> | null = null;

  constructor(
    readonly globals: Globals,
    readonly terminal: Terminal,
    readonly process: Process,
  ) {}

  get signal(): AbortSignal {
    return this.process.signal;
  }

  now(): number {
    return this.process.now();
  }

  policy(): Promise<Policy> {
    this.#policy ??= this.#load();
    return this.#policy;
  }

  state(): Promise<StateBackend> {
    this.#here ??= this.stateAsItIs().then(stillHere);
    return this.#here;
  }

  /** The same, even where it was moved elsewhere. */
  stateAsItIs(): Promise<StateBackend> {
    this.#state ??= this.policy().then((policy) => openState(policy, this.globals.state, this.#world()));
    return this.#state;
  }

  /** Another state than the one that this command works on. */
  async stateAt(url: string): Promise<StateBackend> {
    const other = await openState(await this.policy(), url, this.#world());
    this.#others.push(other);
    return other;
  }

  engine(): Promise<EngineDeps> {
    this.#engine ??= this.state().then((state) => this.engineOn(state));
    return this.#engine;
  }

  async engineOn(state: StateBackend): Promise<EngineDeps> {
    this.#wiring ??= this.policy().then((policy) => new Wiring(policy, this.#world()));
    return (await this.#wiring).engine(state, actorOf(this.process.env));
  }

  /** The secret's adapters. Its references are resolved here, and not before. */
  async ports(secret: SecretPolicy): Promise<SecretPorts> {
    this.#wiring ??= this.policy().then((policy) => new Wiring(policy, this.#world()));
    const ports = await (await this.#wiring).ports(secret);
    return (await this.traces())?.watched(secret, ports) ?? ports;
  }

  /** Of the rotations that this command works on; null: nobody wants them. */
  traces(): Promise<Traces | null> {
    return (this.#traces ??= openTraces(this.#world()));
  }

  /** The workers' queue; null: this state has none. Whoever asks for it closes it. */
  async queue(): Promise<Queue | null> {
    return openQueue(await this.policy(), this.globals.state, this.#world());
  }

  /** Never throws: how the command ended is known by now, and what stays open ends with the process. */
  async close(): Promise<void> {
    await Promise.allSettled([
      this.#traces?.then((traces) => traces?.close()),
      this.#state?.then((state) => state.close()),
      ...this.#others.map((other) => other.close()),
    ]);
  }

  async #load(): Promise<Policy> {
    const { loadPolicy } = await import("../config/load.ts");
    const { cwd, env } = this.process;
    const { config } = this.globals;
    const { policy, warnings } = await loadPolicy({ cwd, env, ...(config !== null && { file: config }) });
    this.warnings = warnings;
    for (const warning of warnings) this.terminal.say(`warning: ${plain(`${warning.at}: ${warning.message}`)}`);
    return policy;
  }

  #world(): World {
    return {
      env: this.process.env,
      now: this.process.now,
      debug: (line) => this.terminal.debug(line),
      announce: (line) => this.terminal.announce(plain(line)),
      say: (line) => this.terminal.say(plain(line)),
    };
  }
}
