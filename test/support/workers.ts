import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { generateX25519Identity } from "age-encryption";
import type { TestAuthority } from "./authority.ts";
import { Place, policyText, type CommandLine, type PolicyText, type Running } from "./command-line.ts";
import type { Postgres } from "./postgres.ts";

/** One worker process, and what it answers. */
export interface Worker {
  readonly running: Running;
  readonly url: string;
}

export interface FleetText extends PolicyText {
  /** Only these of the fleet's. */
  readonly names?: readonly string[];
  /** Of the authority, or of what stands before it. */
  readonly url?: string;
}

/** Secrets `s1`, `s2`, … of one policy, each with a client of its own at the authority, their state in PostgreSQL. */
export class WorkerFleet {
  readonly place: Place;
  readonly names: readonly string[];
  readonly workers = new Set<Worker>();

  private constructor(
    readonly database: string,
    size: number,
    private readonly prefix: string,
    private readonly authority: TestAuthority,
    private readonly commands: CommandLine,
    private readonly postgres: Postgres,
    private readonly stores: string | undefined,
  ) {
    this.names = Array.from({ length: size }, (_, at) => `s${at + 1}`);
    const url = postgres.url({ database, query: "sslmode=disable" });
    this.place = new Place({ ADMIN: authority.adminToken, STATE_URL: url });
  }

  static async of(
    size: number,
    prefix: string,
    authority: TestAuthority,
    commands: CommandLine,
    postgres: Postgres,
    stores?: string,
  ): Promise<WorkerFleet> {
    const fleet = new WorkerFleet(await postgres.database(), size, prefix, authority, commands, postgres, stores);
    // One for all: workers of several machines have it, and make none.
    mkdirSync(fleet.place.path(".keyturn"), { mode: 0o700 });
    writeFileSync(fleet.place.path(".keyturn/identity"), `${await generateX25519Identity()}\n`, { mode: 0o600 });
    for (const name of fleet.names) await authority.addClient(fleet.client(name), { maxKeys: 3 });
    return fleet;
  }

  client(name: string): string {
    return `${this.prefix}-${name}`;
  }

  /** @param schedule as the policy has it: `every: 1h`, `cron: …` */
  policy(schedule: string, text: FleetText = {}): void {
    this.place.policy(this.text(schedule, text));
  }

  /** A whole policy, for a file of another name. */
  text(schedule: string, { names = this.names, url = this.authority.url, ...text }: FleetText = {}): string {
    const stores = this.stores === undefined ? {} : { stores: this.stores };
    const secrets = names.map((name) => ({ name, client: this.client(name), maxKeys: 3, ...stores }));
    const whole = policyText(url, secrets, {
      every: "1h",
      lease: "2s",
      state: 'url: "${env:STATE_URL}"',
      ...text,
    });
    return whole.replace("schedule: { every: 1h }", `schedule: { ${schedule} }`);
  }

  /** Starts a worker and waits until it is at work. */
  async start(...args: string[]): Promise<Worker> {
    const usual = ["worker", "--listen", "127.0.0.1:0", "--sweep", "2s", "--concurrency", "8"];
    const running = this.commands.start(this.place, [...usual, ...args]);
    for (;;) {
      const url = /at work on .*; (http:\S+)\/metrics/.exec(running.said())?.[1];
      if (url !== undefined) {
        const worker = { running, url };
        this.workers.add(worker);
        return worker;
      }
      if (running.child.exitCode !== null) throw new Error(`a worker did not start: ${running.said()}`);
      await sleep(50);
    }
  }

  /** Of the worker's page: the values of one metric, by what stands in its braces. */
  async metric(worker: Worker, name: string): Promise<Map<string, number>> {
    const page = await (await fetch(`${worker.url}/metrics`, { headers: { connection: "close" } })).text();
    const lines = page.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    return new Map(lines.map((line) => [/\{(.*)\}/.exec(line)?.[1] ?? "", Number(line.slice(line.lastIndexOf(" ")))]));
  }

  /** Ends it by a signal; what it had printed and its exit code. */
  async end(worker: Worker, signal: "SIGTERM" | "SIGKILL"): Promise<{ code: number | null; stderr: string }> {
    this.workers.delete(worker);
    worker.running.child.kill(signal);
    return worker.running.ended;
  }

  /** Secrets with a living key that is not among these, and with nothing under way. */
  async done(before: ReadonlyMap<string, string> = new Map()): Promise<Map<string, string>> {
    const { document } = await this.commands.json(this.place, "status");
    const done = new Map<string, string>();
    const alive = new Set([...this.workers].map(({ running }) => running.pid));
    for (const { name, phase, current, versions, lease } of document.secrets) {
      const living = versions.filter(({ status }: { status: string }) => !["destroyed", "abandoned"].includes(status));
      // Whoever is killed with its work done leaves its lease.
      const isAtWork = lease !== null && alive.has(lease.pid);
      const isDone = phase === "idle" && !isAtWork && living.length === 1 && current !== null;
      if (isDone && current.keyId !== before.get(name)) done.set(name, current.keyId);
    }
    return done;
  }

  /** Waits until all of them are. @param meanwhile done again and again */
  async allDone(
    before: ReadonlyMap<string, string>,
    within: number,
    meanwhile: () => Promise<void> = async () => {},
  ): Promise<Map<string, string>> {
    for (const began = Date.now(); ;) {
      const done = await this.done(before).catch(() => new Map<string, string>());
      if (done.size === this.names.length) return done;
      if (Date.now() - began > within) {
        const left = this.names.filter((name) => !done.has(name));
        const { stdout } = await this.commands.run(this.place, "status", ...left.slice(0, 5));
        throw new Error(`${left.length} of ${this.names.length} are not done:\n${stdout}`);
      }
      await meanwhile();
      await sleep(300);
    }
  }

  /** What does not hold: of each client one living key, which the state names and the store serves. */
  async faults(current: ReadonlyMap<string, string>): Promise<string[]> {
    const faults: string[] = [];
    for (const name of this.names) {
      const keys = await this.authority.list(this.client(name));
      const told = keys.map(({ id, status }) => `${id} ${status}`).join(", ");
      if (keys.length !== 1 || keys[0]?.status !== "enabled" || keys[0].id !== current.get(name))
        faults.push(`${name}: ${told}; the state says ${current.get(name)}`);
      const served = await this.authority.whoami(this.place.dotenv(name) ?? "", "app");
      if (served.body["keyId"] !== keys[0]?.id)
        faults.push(`${name}: the store serves ${String(served.body["keyId"])}`);
    }
    return faults;
  }

  async jobsUnderWay(): Promise<number> {
    const [row] = await this.sql("SELECT count(*)::int AS n FROM keyturn_queue.jobs WHERE locked_at IS NOT NULL");
    return row?.["n"] as number;
  }

  sql(text: string): Promise<Record<string, unknown>[]> {
    return this.postgres.sql(this.database, text);
  }

  async close(): Promise<void> {
    for (const { running } of this.workers) {
      if (running.child.exitCode === null && running.child.signalCode === null) {
        const closed = once(running.child, "close");
        running.child.kill("SIGKILL");
        await closed;
      }
    }
    this.place.remove();
  }
}

/** A schedule that makes everything due once: so many seconds from now. */
export function onceIn(seconds: number): string {
  const at = new Date(Date.now() + seconds * 1000);
  return `cron: "${at.getUTCSeconds()} ${at.getUTCMinutes()} ${at.getUTCHours()} ${at.getUTCDate()} ${at.getUTCMonth() + 1} *", zone: UTC`;
}
