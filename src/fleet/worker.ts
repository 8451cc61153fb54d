import { EVERYTHING } from "../commands/choose.ts";
import { beat, tallyOf } from "../commands/heartbeat.ts";
import { Session } from "../commands/session.ts";
import { pauseFor } from "../commands/timing.ts";
import type { Duration, Instant } from "../core/duration.ts";
import { UserError } from "../core/errors.ts";
import type { Progress } from "../engine/result.ts";
import type { Queue } from "../ports/queue.ts";
import { Metrics } from "../telemetry/metrics.ts";
import { failureOf, failureText, type Failure } from "../ui/failure.ts";
import { plain } from "../ui/text.ts";
import { limitsOf } from "../wire.ts";
import { Complaints, type Part } from "./complaints.ts";
import { Generation } from "./generation.ts";
import { openSite, type Site } from "./pages.ts";
import { sweep } from "./sweep.ts";
import { takeTurn, type Turn } from "./turn.ts";

export interface WorkerOptions {
  readonly host: string;
  readonly port: number;
  /** Secrets at a time, where that is fewer than the policy says; null: as the policy says. */
  readonly concurrency: number | null;
  /** How often the documents are read, ms. */
  readonly sweep: Duration;
}

/** After the word to stop, what has begun may take so long to end by itself; then it is left as it is. */
const GRACE: Duration = 10_000;
/** Another turn of the same secret is under way here. */
const AFTER_IT: Duration = 1000;
/** What does not answer keeps nobody from leaving: others free its jobs, and its leases run out. */
const CLOSING: Duration = 5000;
const NEVER = new AbortController().signal;
/** A wake that is not for this worker is offered to the others so often, … */
const OFFERS = 10;
/** … and as often again when none has come for so long, or for a sweep. */
const FORGOTTEN: Duration = 10_000;
const READY_WITHIN: Duration = 5000;
/** After it is the time of the next sweep, that one has seen what fails as well. */
const ECHO: Duration = 30_000;
const MOST_DAMAGES = 5;

/** Rotates a policy's secrets until it is stopped, beside as many others as there are. */
export class Worker {
  readonly #busy = new Set<string>();
  readonly #metrics: Metrics;
  /** Aborts what has begun. */
  readonly #leave = new AbortController();
  /** Secret → what was last said of it. */
  readonly #said = new Map<string, string>();
  /** Secrets that this one does not know, and how often it has given them back. */
  readonly #strangers = new Map<string, { readonly count: number; readonly at: Instant }>();
  #generation: Generation | null = null;
  #queue: Queue | null = null;
  #location = "";
  #lease: Duration = 0;
  readonly #complaints: Complaints;
  /** Of the documents that the last sweep could not read. */
  #damages: readonly string[] = [];
  #reloading: Promise<void> = Promise.resolve();

  constructor(
    private readonly options: WorkerOptions,
    private readonly session: Session,
  ) {
    const { process, terminal, globals } = session;
    const { version, now } = process;
    const say = (failure: Failure): void => terminal.announce(failureText(failure, globals.verbose));
    this.#complaints = new Complaints(say, now, options.sweep + ECHO);
    this.#metrics = new Metrics(version, { running: () => this.#busy.size, limits: () => limitsOf(process), now });
  }

  /**
   * Works until the command's signal aborts, and then until what has begun has ended.
   * @throws UserError, ProviderError where it cannot begin
   */
  async run(): Promise<void> {
    const { signal } = this.session;
    let site: Site | null = null;
    try {
      this.#generation = await this.#load();
      this.#location = this.#generation.engine.state.location;
      this.#lease = this.#generation.policy.state.lease;
      this.#queue = await this.#open(this.#generation);
      await this.#sweep();
      const { host, port } = this.options;
      site = await openSite(host, port, { ready: () => this.#ready(), metrics: () => this.#metrics.page() });
      this.session.terminal.announce(`keyturn worker: at work on ${plain(this.#location)}; ${site.url}/metrics`);
      signal.addEventListener("abort", () => void pauseFor(GRACE, this.#leave.signal).then(() => this.#leave.abort()));
      const period = this.#lease / 3;
      // Nobody waits for a collector: neither the next sign of life nor the end.
      void this.#every(period, "traces", async () => (await this.#current().session.traces())?.flush());
      const ended = Promise.all([
        this.#work().finally(() => this.#leave.abort()),
        this.#every(period, "beat", async () => this.#queue?.beat()),
        this.#every(this.options.sweep, "sweep", () => this.#sweep()),
      ]);
      await Promise.race([ended, this.#left()]);
    } finally {
      this.#leave.abort();
      await site?.close();
      const closed = Promise.allSettled([this.#reloading.then(() => this.#generation?.end()), this.#queue?.close()]);
      await Promise.race([closed, pauseFor(CLOSING, NEVER)]);
    }
  }

  /** Takes up the policy as it is now; one that does not hold is told of, and the old one stays. */
  reload(): Promise<void> {
    // At the start it is read anyway.
    if (this.#generation === null) return Promise.resolve();
    const before = this.#reloading;
    this.#reloading = (async () => {
      await before;
      await this.#reload();
    })();
    return this.#reloading;
  }

  async #reload(): Promise<void> {
    const { terminal, globals } = this.session;
    try {
      const next = await this.#load();
      const { location } = next.engine.state;
      const other = location !== this.#location ? "state" : next.policy.state.lease !== this.#lease ? "lease" : null;
      if (other !== null) {
        await next.end();
        const hints = ["stop this worker and start another"];
        throw new UserError("usage", `the policy names another ${other} than this worker began with`, { hints });
      }
      const last = this.#generation;
      this.#generation = next;
      await last?.end();
      terminal.announce(`keyturn worker: the policy is taken up: ${next.policy.secrets.size} secrets`);
    } catch (error) {
      terminal.announce(failureText(failureOf(error), globals.verbose));
      terminal.announce("keyturn worker: goes on with the policy that it has");
      return;
    }
    await this.#sweep().catch((error: unknown) => this.#complaints.failed("sweep", error));
  }

  async #load(): Promise<Generation> {
    const { globals, terminal, process } = this.session;
    const session = new Session(globals, terminal, { ...process, signal: this.#leave.signal });
    try {
      return await Generation.open(session, (call) => this.#metrics.called(call), this.options.concurrency);
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  async #open({ session }: Generation): Promise<Queue> {
    const queue = await session.queue();
    if (queue === null) {
      const hints = ["--state postgres://… , once `keyturn state migrate --to postgres://…` has moved it there"];
      throw new UserError("usage", "workers share a state in PostgreSQL, and this one is elsewhere", {
        exit: 2,
        hints,
      });
    }
    await queue.prepare();
    return queue;
  }

  async #work(): Promise<void> {
    const { concurrency } = this.#current();
    await this.#queue?.work({
      concurrency,
      signal: this.session.signal,
      woken: (name, late) => this.#turn(name, late),
      failed: (error) => this.#complaints.failed("queue", error),
    });
  }

  /** Once it has to leave, whatever is still under way. */
  async #left(): Promise<void> {
    const { signal } = this.#leave;
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    await pauseFor(CLOSING, NEVER);
  }

  async #turn(name: string, late: Duration): Promise<void> {
    this.#complaints.succeeded("queue");
    const secret = this.#current().policy.secrets.get(name);
    if (secret === undefined) return this.#giveBack(name);
    if (this.#busy.has(name)) return this.#queue?.add([{ secret: name, in: AFTER_IT, seen: "" }]);
    this.#busy.add(name);
    try {
      await this.#current().use(async (generation) => {
        const turn = await takeTurn(generation, secret, (progress) => this.#progress(progress));
        if (!turn.isPutOff) this.#tell(name, turn, late);
        const wakes = [turn.next, turn.isPutOff ? null : generation.crowd.letIn(secret)];
        await this.#queue?.add(wakes.filter((wake) => wake !== null));
      });
      this.#complaints.succeeded("turns");
    } catch (error) {
      // The queue tries it again, and the sweep after that.
      this.#complaints.failed("turns", error);
      throw error;
    } finally {
      this.#busy.delete(name);
    }
  }

  /** Of another policy, for whoever has that; of none any more, so not for ever. Its sweep asks again. */
  async #giveBack(name: string): Promise<void> {
    const { now } = this.session.process;
    const last = this.#strangers.get(name);
    const count = last === undefined || now() - last.at > Math.max(this.options.sweep, FORGOTTEN) ? 0 : last.count;
    if (count === OFFERS) return;
    this.#strangers.set(name, { count: count + 1, at: now() });
    await this.#queue?.add([{ secret: name, in: AFTER_IT, seen: "" }]);
  }

  #progress({ name, event }: Progress): void {
    if (event !== undefined) this.#metrics.happened(name, event.type);
  }

  /** A line whenever a secret stands in something else. */
  #tell(name: string, { result, failure }: Turn, late: Duration): void {
    const { terminal } = this.session;
    const outcome = failure?.outcome ?? result?.outcome ?? "done";
    const reason = failure?.reason ?? result?.reason ?? "not-due";
    this.#metrics.ran(outcome, reason, late);
    if (result === null && failure === null) return;
    const message = failure?.message ?? result?.message ?? "";
    const isNews = this.#said.get(name) !== `${outcome} ${reason}` || (result?.actions.length ?? 0) > 0;
    this.#said.set(name, `${outcome} ${reason}`);
    if (!isNews) return;
    terminal.progress(`${name}: ${outcome}: ${message}`);
    if (outcome !== "failed" && outcome !== "blocked") return;
    for (const hint of failure?.hints ?? result?.hints ?? []) terminal.progress(`${name}: hint: ${hint}`);
  }

  async #sweep(): Promise<void> {
    await this.#current().use(async (generation) => {
      if (this.#queue === null) return;
      const outcomes: string[] = [];
      const { damages, late } = await sweep(generation, this.#queue, (standing) => {
        this.#metrics.stands(standing);
        outcomes.push(standing.outcome);
      });
      this.#metrics.swept(generation.policy.secrets, late);
      this.#complain(damages);
      const isWell = damages.length === 0 && !outcomes.includes("failed") && !outcomes.includes("blocked");
      await beat(generation.session, isWell, `worker: ${tallyOf(outcomes)}`);
    });
  }

  /** At each sweep anew: nobody else will say it. */
  #complain(damages: readonly UserError[]): void {
    const { terminal, globals } = this.session;
    const most = damages.slice(0, MOST_DAMAGES);
    this.#damages = most.map(({ message }) => message);
    const more = damages.length - most.length;
    if (more > 0) this.#damages = [...this.#damages, `and ${more} documents more`];
    for (const damage of most) terminal.announce(failureText(failureOf(damage), globals.verbose));
    if (more > 0) terminal.announce(`keyturn: ${more} documents more cannot be read`);
  }

  /** Until it is told to stop; what fails is told once, and tried again. */
  async #every(period: Duration, part: Part, work: () => Promise<void>): Promise<void> {
    const { signal } = this.session;
    while (!signal.aborted) {
      await pauseFor(period, signal);
      if (signal.aborted) return;
      try {
        await work();
        this.#complaints.succeeded(part);
      } catch (error) {
        this.#complaints.failed(part, error);
      }
    }
  }

  async #ready(): Promise<{ obstacle: string | null; remarks: readonly string[] }> {
    const remarks = this.#damages;
    if (this.session.signal.aborted) return { obstacle: "stopping", remarks };
    const answer = this.#current()
      .engine.state.load(EVERYTHING)
      .then(
        () => null,
        (error: unknown) => (error instanceof UserError ? error.message : "the state does not answer"),
      );
    const late = pauseFor(READY_WITHIN, this.#leave.signal).then(() => "the state does not answer in time");
    return { obstacle: await Promise.race([answer, late]), remarks };
  }

  #current(): Generation {
    if (this.#generation === null) throw new Error("no policy is loaded");
    return this.#generation;
  }
}
