import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Duration } from "../core/duration.ts";
import type { Children } from "./children.ts";
import type { ClientReport, Orders, Word } from "./messages.ts";

export interface ClientPlan {
  readonly name: string;
  readonly perSecond: number;
  /** How long it uses a key before it looks for another. */
  readonly keeps: Duration;
}

export interface Client extends ClientPlan {
  readonly report: ClientReport;
}

const NOTHING: ClientReport = { version: null, keyId: null, requests: 0, failed: 0, lastAt: null, latencies: [] };

/** The consumers, each a process with the client SDK, and what they last told. */
export class Clients {
  readonly #reports = new Map<string, ClientReport>();
  readonly #processes = new Map<string, ChildProcess>();

  constructor(
    private readonly plans: readonly ClientPlan[],
    private readonly children: Children,
    /** Every report, as it comes. */
    private readonly onReport: (name: string, report: ClientReport) => void = () => {},
  ) {}

  get all(): readonly Client[] {
    return this.plans.map((plan) => ({ ...plan, report: this.#reports.get(plan.name) ?? NOTHING }));
  }

  get requests(): number {
    return this.all.reduce((sum, { report }) => sum + report.requests, 0);
  }

  get failed(): number {
    return this.all.reduce((sum, { report }) => sum + report.failed, 0);
  }

  /** @param file the client process. */
  start(file: string, where: Pick<Orders, "url" | "source">): void {
    for (const { name, perSecond, keeps } of this.plans) {
      const child = this.children.start(`client ${name}`, file, []);
      const orders: Orders = { ...where, instance: `${name}-${child.pid}`, perSecond, keeps };
      child.on("message", (report: ClientReport) => {
        this.#reports.set(name, report);
        this.onReport(name, report);
      });
      child.send(orders, () => {});
      this.#processes.set(name, child);
    }
  }

  say(name: string, word: Word): void {
    // One that has ended is told of elsewhere.
    this.#processes.get(name)?.send(word, () => {});
  }

  /** Lets each finish what is under way and tell its last numbers. */
  async stop(): Promise<void> {
    const ends = [...this.#processes].map(([name, child]) => {
      this.children.expectEnd(child);
      this.say(name, "stop");
      return once(child, "close");
    });
    await Promise.all(ends);
  }
}
