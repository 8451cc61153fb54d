import { stepName, type Action, type Case, type Decision } from "../core/case.ts";
import { decide } from "../core/decide.ts";
import type { Duration } from "../core/duration.ts";
import type { Fact } from "../core/facts.ts";
import { versionOf, type ActionRecord } from "../core/model.ts";
import type { Failed } from "../core/observed.ts";
import { isFull } from "../core/outbox.ts";
import { phaseOf } from "../core/phase.ts";
import { failureOf } from "../core/failures.ts";
import { outcomeOf } from "../core/reasons.ts";
import { ProviderError } from "../core/errors.ts";
import { wantedId } from "../core/wanted.ts";
import type { Ctx } from "../ports/context.ts";
import type { EngineDeps, SecretPorts } from "./deps.ts";
import { Document } from "./document.ts";
import { fenceFrom } from "./fence.ts";
import { Lease } from "./lease.ts";
import { Observer } from "./observe.ts";
import { flush, isPending, whyFull } from "./outbox.ts";
import { PauseOfAll, turnsOnPause } from "./pause-of-all.ts";
import { intentFor, isEffect, perform, retryDelay, type Effect } from "./perform.ts";
import { conclude, ended, offsetOf, pausedIn } from "./result.ts";
import type { Account, RunOptions, RunResult, Standing } from "./result.ts";
import { napFor, outlasts, type Room } from "./sit.ts";
import { Values } from "./values.ts";

/** Works on one secret until time, the world or a person is needed, as far as the options let it wait. */
export async function runSecret(deps: EngineDeps, ports: SecretPorts, options: RunOptions): Promise<RunResult> {
  return new Run(deps, ports, options, await Document.open(deps, ports.rules.name)).go();
}

/** More decisions in one run than any rotation takes: a loop of ours, not the world's. */
const TOO_MANY = 100_000;

const INTERRUPTED: Standing = {
  decision: "wait",
  reason: "settling",
  message: "interrupted; the next run goes on from here",
  until: null,
};

class Run {
  readonly #values: Values;
  readonly #observer: Observer;
  readonly #lease: Lease;
  readonly #pause: PauseOfAll;
  readonly #began: number;
  readonly #actions: ActionRecord[] = [];
  /** The first refusal or failed revocation of this run that it did not get past: it is what the run ended in. */
  #failed: (Failed & { readonly step: string; readonly debt?: string }) | null = null;
  /** Time spent waiting for another run's lease: it has a bound of its own. */
  #queued: Duration = 0;
  #told = 0;
  /** Moves when a person's word fences whoever is at work. */
  readonly #epoch: number;
  /** The sequence of the document that the last decision was made on. */
  #restsOn = 0;

  constructor(
    private readonly deps: EngineDeps,
    private readonly ports: SecretPorts,
    private readonly options: RunOptions,
    private readonly document: Document,
  ) {
    this.#values = new Values(ports);
    this.#observer = new Observer(ports, this.#values, deps.clock);
    this.#lease = new Lease(deps, document, options.signal);
    this.#pause = new PauseOfAll(options.pausedAll);
    this.#began = deps.clock.monotonic();
    this.#told = document.state.outbox.seq;
    this.#epoch = document.state.epoch;
  }

  async go(): Promise<RunResult> {
    try {
      return await this.#turns();
    } catch (thrown) {
      // The state backend does not answer: nothing more can be known or promised, and the next run goes on.
      if (!(thrown instanceof ProviderError)) throw thrown;
      return ended("failed", "provider-unavailable", thrown.message, null, this.#account());
    } finally {
      this.#lease.stop();
    }
  }

  async #turns(): Promise<RunResult> {
    for (let turn = 0; turn < TOO_MANY; turn++) {
      if (this.options.signal.aborted) return this.#leave(INTERRUPTED);
      const decision = await this.#decide();
      switch (decision.decision) {
        case "look":
          if (await this.#mayWork()) await this.#observer.look(decision.queries, this.document.state, this.#looking);
          else return this.#locked();
          break;
        case "note":
          if (!(await this.#mayWork())) return this.#locked();
          await this.#commit(decision.facts);
          break;
        case "act":
          if (!(await this.#mayWork())) return this.#locked();
          await this.#act(decision.action);
          break;
        default: {
          const goesOn = await this.#rest(decision);
          if (!goesOn) return this.#leave(decision);
        }
      }
    }
    throw new Error(`no end of decisions for ${this.ports.rules.name}`);
  }

  async #decide(): Promise<Decision> {
    await this.document.wake();
    const { state } = this.document;
    // A leaked key does not wait for the log: its events stay in the document until it takes them.
    if (isFull(state) && state.incident === null) {
      await this.#flush();
      if (isFull(this.document.state)) return { decision: "blocked", ...(await whyFull(this.deps, state)) };
    }
    const decision = decide(await this.#case(false));
    return turnsOnPause(decision) ? decide(await this.#case(true)) : decision;
  }

  async #case(anew: boolean): Promise<Case> {
    const { document, ports, deps } = this;
    const all = await this.#pause.answer(document.state, anew);
    this.#restsOn = document.state.seq;
    this.#observer.restOn(this.#restsOn);
    const now = document.now();
    const due = this.options.start ? ports.due(document.state, now.wall) : { at: null, due: false, opensAt: null };
    const paused = document.state.paused ?? pausedIn(all, now);
    return {
      rules: ports.rules,
      state: { ...document.state, paused },
      seen: this.#observer.seen,
      now,
      due,
      fresh: deps.random(8),
      off: deps.off,
    };
  }

  /**
   * Holds the lease, or waits for it as long as asked; false: another run keeps it, or a person's word has taken the
   * work away from this one, and whoever said it goes on.
   */
  async #mayWork(): Promise<boolean> {
    for (;;) {
      if (this.document.state.epoch !== this.#epoch) return false;
      const result = await this.#lease.acquire();
      if (result === "held") return true;
      if (result === "stale") continue;
      const left = this.options.lockTimeout - this.#queued;
      if (left <= 0 || this.options.signal.aborted) return false;
      const before = this.deps.clock.monotonic();
      await this.#nap(Math.min(left, 1000));
      await this.document.load();
      this.#queued += this.deps.clock.monotonic() - before;
    }
  }

  async #commit(facts: readonly Fact[]): Promise<"saved" | "stale"> {
    const result = await this.document.commit(facts, this.#restsOn);
    this.#tell();
    return result;
  }

  async #act(action: Action): Promise<void> {
    if (isEffect(action)) return this.#effect(action);
    if (action.do === "verify") return this.#verify(action.version);
    const rotation = this.document.state.rotation;
    const version = versionOf(this.document.state, wantedId(this.document.state));
    const context = {
      secret: this.ports.rules.name,
      reason: rotation?.reason ?? "manual",
      version: version?.id ?? null,
      keyId: version?.keyId ?? null,
    };
    const value =
      version === null || version.keyId === null
        ? null
        : await this.#values.of(version.id, this.#looking).catch(() => null);
    const { signal } = this.#lease;
    try {
      const call = {
        point: action.point,
        index: action.index,
        id: `${rotation?.id ?? ""}/${action.id}`,
        rotationId: rotation?.id ?? "",
        context,
        value,
      };
      await this.ports.runHook(call, signal);
      await this.#fact([{ fact: "hook-done", hook: action.id, rotation: rotation?.id ?? null }]);
    } catch (thrown) {
      if (signal.aborted) return;
      const step = stepName(action);
      const message = thrown instanceof Error ? thrown.message : "a hook failed";
      const retryIn = retryDelay(failureOf(this.document.state, step), this.ports.rules.retry.backoff);
      const failure = { step, reason: "hook-failed", message } as const;
      await this.#fact([{ fact: "failed", rotation: rotation?.id ?? null, failure, retryIn, counts: true }]);
    }
  }

  async #verify(id: string): Promise<void> {
    const version = versionOf(this.document.state, id);
    if (version === null) return;
    const ctx = this.#looking;
    let result: "accepted" | "rejected" | "unknown" = "unknown";
    try {
      result = await this.ports.issuer.verify(await this.#values.need(version, this.document.state, ctx), ctx);
    } catch (thrown) {
      this.deps.debug(`verify ${id}: ${ProviderError.from(thrown).message}`);
    }
    this.#record("verify", id, null);
    await this.#fact([{ fact: "verified", version: id, result }]);
  }

  /** Intent, effect, fact: three steps, and a crash after any of them leaves a document that tells what may be. */
  async #effect(action: Effect): Promise<void> {
    const { deps, document } = this;
    if (!this.#observer.holds) return;
    const intent = intentFor(action, deps, document.now());
    const fence = fenceFrom(deps.clock, intent.duration, deps.off?.has("fence-at-send") ?? false);
    // Its key is made within the intent, and that begins here, however long ago the keys were listed.
    const passed = this.#observer.keysAgeAtMost + intent.duration;
    const mint = action.do === "issue" ? { ...action.mint, within: action.mint.within + passed } : null;
    const facts: readonly Fact[] = [
      { fact: "intended", intent, mint },
      { fact: "renewed", runner: deps.runner.id },
    ];
    // The document moved since: the decision no longer rests on anything, and falls.
    if (deps.off?.has("intent-rests-on-revision")) await document.record(facts);
    else if ((await this.#commit(facts)) === "stale") return;
    const ended = await perform(action, intent, document.state, this.ports, this.#values, this.#ctx(fence));
    for (const fact of ended) this.#noteFailure(fact, action);
    await this.#fact(ended);
    if (ended[0]?.fact !== "closed" || ended[0].closing.how !== "done") return;
    if (this.#failed?.step === stepName(action)) this.#failed = null;
    this.#record(action.do, action.version, intent.delivery);
  }

  #noteFailure(fact: Fact, action: Effect): void {
    const step = stepName(action);
    if (fact.fact === "refused") this.#failed ??= { step, reason: fact.stopped.reason, message: fact.stopped.message };
    if (fact.fact === "debt") {
      const message = `${action.do} of ${action.version}: ${fact.error}`;
      this.#failed ??= { step, reason: "provider-unavailable", message, debt: action.version };
    }
  }

  /** Facts about the world are kept whatever happened to the document meanwhile. */
  async #fact(facts: readonly Fact[]): Promise<void> {
    await this.document.record(facts);
    this.#tell();
  }

  /** True: time passed, decide again. False: this is as far as this run goes. */
  async #rest(decision: Standing): Promise<boolean> {
    const { deps, document } = this;
    const facts = "facts" in decision && decision.facts !== undefined ? decision.facts : [];
    if (facts.length > 0 && this.#lease.held && (await this.#commit(facts)) === "stale") return true;
    this.#progress(decision);
    const room: Room = {
      sit: this.options.sit,
      waitMax: this.options.waitMax,
      waited: deps.clock.monotonic() - this.#began - this.#queued,
      state: document.state,
      now: document.now(),
      rules: this.ports.rules,
      held: this.#values.held,
    };
    const nap = napFor(decision, room);
    if (nap === null) return false;
    const isLong = outlasts(deps.lease, decision, nap, room);
    if (isLong || (this.#lease.held && isPending(document.state, this.ports, document.now())))
      await this.#release(isLong, decision);
    await this.#nap(nap);
    await document.load();
    if (!(decision.decision === "wait" && decision.keep)) this.#observer.forget();
    return true;
  }

  #nap(ms: Duration): Promise<void> {
    const nap = (): Promise<void> => this.deps.clock.sleep(ms, this.options.signal);
    return this.options.aside === undefined ? nap() : this.options.aside(nap);
  }

  async #flush(): Promise<readonly Fact[]> {
    const fact = await flush(this.deps, this.ports, this.document.state, this.document.now(), this.#looking);
    if (fact === null) return [];
    return (await this.document.commit([fact])) === "saved" ? [fact] : [];
  }

  /** Hands over what the outbox holds, and with `letGo` the lease as well. */
  async #release(letGo: boolean, standing: Standing): Promise<void> {
    const { reason, message } = standing;
    const last = this.document.state.standing;
    if (letGo && (last?.reason !== reason || last.message !== message)) {
      await this.document.record([
        { fact: "stood", reason, message, until: standing.decision === "wait" ? standing.until : null },
      ]);
    }
    await this.#flush();
    if (!letGo) return;
    this.#lease.stop();
    if (this.document.state.lease?.runner === this.deps.runner.id)
      await this.document.record([{ fact: "released", runner: this.deps.runner.id }]);
  }

  async #leave(decision: Standing): Promise<RunResult> {
    const quietly = this.options.signal.aborted;
    const news = decision.decision === "blocked" && this.document.state.standing?.reason !== decision.reason;
    if (this.#lease.held) await this.#release(true, decision);
    else if (
      !quietly &&
      this.document.exists &&
      (news || isPending(this.document.state, this.ports, this.document.now())) &&
      (await this.#lease.acquire()) === "held"
    )
      await this.#release(true, decision);
    return conclude(decision, this.#account());
  }

  #locked(): RunResult {
    const { lease } = this.document.state;
    const who =
      lease === null ? "whoever said a word meanwhile" : `${lease.actor} (${lease.host}, process ${lease.pid})`;
    const since = lease === null ? "" : ` since ${new Date(lease.since + offsetOf(this.document.now())).toISOString()}`;
    return ended("locked", "locked", `${who} works on it${since}`, null, this.#account());
  }

  /** What failed left a debt, and has been seen to be done since. */
  get #isPaid(): boolean {
    const victim = this.#failed?.debt;
    return victim !== undefined && versionOf(this.document.state, victim)?.debt == null;
  }

  #account(): Account {
    const { document } = this;
    const state = document.exists ? document.state : null;
    const { sit } = this.options;
    return {
      name: this.ports.rules.name,
      state,
      actions: this.#actions,
      now: document.now(),
      failed: this.#isPaid ? null : this.#failed,
      sit,
    };
  }

  #record(action: string, version: string, delivery: string | null): void {
    const keyId = versionOf(this.document.state, version)?.keyId ?? null;
    this.#actions.push({ action, wall: this.deps.clock.wall(), version, keyId, delivery });
  }

  #tell(): void {
    const { state } = this.document;
    for (const event of state.outbox.events) {
      if (event.seq <= this.#told) continue;
      this.#told = event.seq;
      this.options.onProgress?.({
        name: state.name,
        phase: phaseOf(state),
        outcome: "waiting",
        reason: "settling",
        message: event.type,
        until: null,
        state,
        event,
      });
    }
  }

  #progress(decision: Standing): void {
    const { state } = this.document;
    const until =
      decision.decision === "wait" && decision.until !== null ? decision.until + offsetOf(this.document.now()) : null;
    const outcome = decision.decision === "wait" ? outcomeOf(decision.reason) : decision.decision;
    this.options.onProgress?.({
      name: state.name,
      phase: phaseOf(state),
      outcome,
      reason: decision.reason,
      message: decision.message,
      until,
      state,
    });
  }

  /** Of calls that change nothing. */
  get #looking(): Ctx {
    return this.#ctx(() => undefined);
  }

  #ctx(fence: () => void): Ctx {
    return { signal: this.#lease.signal, fence, attempt: 1, rotationId: this.document.state.rotation?.id ?? null };
  }
}
