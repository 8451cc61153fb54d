import type { Intent, SecretState } from "../../src/core/model.ts";
import type { DeliveryRules, SecretRules } from "../../src/core/rules.ts";
import type { Safeguard } from "../../src/core/safeguards.ts";
import type { Consumer } from "./consumers.ts";
import { IssuerTruth } from "./fake-issuer.ts";
import { MonitorTruth } from "./fake-monitor.ts";
import { StateTruth } from "./fake-state.ts";
import { StoreTruth } from "./fake-store.ts";
import { Invariants } from "./invariants.ts";
import { Process } from "./process.ts";
import type { Fate } from "./process.ts";
import { Random } from "./random.ts";
import type { Scenario } from "./scenario.ts";
import { Scheduler } from "./scheduler.ts";

/** A request that has left its sender and has not taken effect yet. */
export interface Flight {
  readonly effect: string;
  readonly object: string;
}

/** The intent that a runner has committed last, and the document as it stood then. */
export interface Committed {
  readonly intent: Intent;
  readonly at: number;
  readonly doc: SecretState;
}

export interface Violation {
  readonly promise: string;
  readonly text: string;
  readonly at: number;
}

interface Trigger {
  readonly kind: string;
  left: number;
  readonly run: () => void;
}

/** Everything that is true in one schedule, whatever anybody believes. */
export class World {
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly issuer: IssuerTruth;
  readonly stores: ReadonlyMap<string, StoreTruth>;
  readonly monitors: readonly MonitorTruth[];
  readonly state: StateTruth;
  readonly invariants: Invariants;
  readonly consumers: Consumer[] = [];
  readonly processes: Process[] = [];
  readonly inFlight = new Set<Flight>();
  /** Runner → its newest intent. */
  readonly intents = new Map<string, Committed>();
  /** What people see of the policy; a process reads it once, when it starts. */
  rules: SecretRules;
  /** Deliveries that somebody took out of the policy for a while. */
  readonly away: DeliveryRules[] = [];
  calm = false;
  /** Calls that may change something, all in all. */
  changes = 0;
  violation: Violation | null = null;
  readonly trace: string[] = [];
  readonly #triggers: Trigger[] = [];
  #pid = 100;

  constructor(
    readonly scenario: Scenario,
    readonly off: ReadonlySet<Safeguard>,
    readonly tracing: boolean,
    truth: (world: World) => StateTruth = (world) => new StateTruth(world),
  ) {
    this.random = new Random(scenario.seed ^ 0x5eed);
    this.scheduler = new Scheduler(this.random.fork());
    this.rules = scenario.rules;
    this.issuer = new IssuerTruth(this, scenario.issuer);
    this.stores = new Map(scenario.stores.map((spec) => [spec.id, new StoreTruth(this, spec)]));
    this.monitors = scenario.monitors.map((spec) => new MonitorTruth(this, spec));
    this.state = truth(this);
    this.invariants = new Invariants(this);
  }

  get now(): number {
    return this.scheduler.now;
  }

  /** The newest document, as the backend has it. */
  get doc(): SecretState | null {
    return this.state.document?.state ?? null;
  }

  say(who: string, line: () => string): void {
    if (this.tracing) this.trace.push(`${(this.now / 1000).toFixed(3).padStart(11)}  ${who.padEnd(12)} ${line()}`);
  }

  violate(promise: string, text: string): void {
    this.violation ??= { promise, text, at: this.now };
    this.say("!!!", () => `${promise}: ${text}`);
  }

  /** Runs something the nth time that a thing of this kind happens: `intent:disable`, `landed:promote`, `commit`. */
  once(kind: string, nth: number, run: () => void): void {
    this.#triggers.push({ kind, left: nth, run });
  }

  happened(kind: string): void {
    for (let i = 0; i < this.#triggers.length; i++) {
      const trigger = this.#triggers[i] as Trigger;
      if (trigger.kind !== kind || --trigger.left > 0) continue;
      this.#triggers.splice(i--, 1);
      trigger.run();
    }
  }

  /** Starts a process at once. `body` is dropped in the middle when the process is killed. */
  spawn(what: string, fates: readonly Fate[], body: (process: Process) => Promise<void>): Process {
    const pid = this.#pid++;
    const host = `host${this.random.between(1, 2)}`;
    const skew = this.random.chance(0.3) ? this.random.between(-600_000, 600_000) : this.random.between(-2000, 2000);
    const process = new Process(
      this.scheduler,
      `${what}#${pid}`,
      host,
      pid,
      this.random.fork(),
      skew,
      this.calm ? [] : fates,
      (p, line) => this.say(p.id, line),
    );
    this.processes.push(process);
    this.say(process.id, () => "starts");
    this.scheduler.after(
      0,
      () => {
        body(process).then(
          () => process.finish(),
          (error: unknown) => {
            process.finish();
            this.invariants.threw(process, error);
          },
        );
      },
      process,
    );
    return process;
  }

  isDead(host: string, pid: number): boolean {
    const process = this.processes.find((p) => p.pid === pid && p.host === host);
    return process !== undefined && (process.state === "crashed" || process.state === "finished");
  }
}
