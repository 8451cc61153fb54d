import { setTimeout as sleep } from "node:timers/promises";
import type { Duration } from "../core/duration.ts";
import type { Progress } from "../engine/result.ts";
import type { ClientPlan } from "./clients.ts";
import type { Times } from "./policy.ts";
import type { Picture } from "./frame.ts";
import type { Stage } from "./stage.ts";
import { happened, STEPS, stepOf, tail } from "./words.ts";

const PER_SECOND = 60;
const LOOKS_EVERY: Duration = 1_000;
export const STRAGGLER = "reports";

/** Five that follow the store, and one that holds on to its key for an hour. */
export const CLIENTS: readonly ClientPlan[] = [
  ...["checkout", "invoices", "ledger", "search", "mailer"].map((name) => ({
    name,
    perSecond: PER_SECOND,
    keeps: LOOKS_EVERY,
  })),
  { name: STRAGGLER, perSecond: PER_SECOND, keeps: 3_600_000 },
];

export const TIMES: Times = { spread: "1s", minimum: "5s", quiet: "1s", remind: "8s", soak: "3s" };

/** How long both keys are watched before and after the rotation. */
const BEFORE: Duration = 3_000;
const AFTER: Duration = 1_000;
const RATE_OVER: Duration = 2_000;

/** What the demo has to say in the end. */
export interface Ending {
  readonly requests: number;
  readonly failed: number;
  readonly perSecond: number;
  /** Of the old key, presented once more. */
  readonly oldKey: { readonly keyId: string | null; readonly status: number; readonly error: string | null };
  /** How long the straggler kept the old key alive, beyond the minimum overlap; null: not at all. */
  readonly waited: Duration | null;
  readonly reminded: number;
  readonly seconds: number;
}

/** The rotation as its spectators see it. */
export class Show {
  readonly #began = performance.now();
  readonly #notes: string[] = [];
  /** Requests of all clients, at each report. */
  readonly #counts: { readonly at: number; readonly requests: number }[] = [];
  #stage: Stage | null = null;
  #doing = "starting the authority, a process of its own";
  #step = -1;
  #oldKey: string | null = null;
  #reminded = 0;
  #waitingFrom: number | null = null;
  #waited: Duration | null = null;

  constructor(private readonly onNote: (line: string) => void) {}

  /** keyturn's webhook came: somebody on duty goes and tells the team. */
  remind(who: readonly string[]): void {
    if (!who.includes(STRAGGLER)) return;
    this.#reminded++;
    this.#stage?.clients.say(STRAGGLER, "re-read");
    this.#note(`${STRAGGLER} got the reminder and reads its key afresh`);
  }

  /** A client told how far it is. */
  heard(): void {
    const now = performance.now();
    this.#counts.push({ at: now, requests: this.#stage?.clients.requests ?? 0 });
    while ((this.#counts[1]?.at ?? now) <= now - RATE_OVER) this.#counts.shift();
  }

  async play(stage: Stage): Promise<Ending> {
    this.#stage = stage;
    this.#note("the authority runs; keyturn issues the first key into the store");
    await stage.rotate();

    stage.startClients();
    this.#doing = "clients use the first key; a rotation comes in a moment";
    this.#note(`${CLIENTS.length} client processes start; ${STRAGGLER} keeps its key for an hour`);
    while (stage.clients.all.some(({ report }) => report.requests === 0)) await sleep(50, null, stage);
    const from = { at: performance.now(), requests: stage.clients.requests };
    await sleep(BEFORE, null, stage);

    const old = await stage.served();
    this.#oldKey = stage.clients.all[0]?.report.keyId ?? null;
    this.#note("keyturn rotate: a new key, then the end of the old one");
    await stage.rotate((progress) => this.#follow(progress));
    this.#step = STEPS.length;

    const tried = await stage.present(old.value);
    this.#note(`old key ${tail(this.#oldKey)} presented once more: ${tried.status} ${tried.error ?? ""}`.trimEnd());
    this.#doing = "all clients go on with the new key";
    await sleep(AFTER, null, stage);
    const perSecond = (1000 * (stage.clients.requests - from.requests)) / (performance.now() - from.at);
    await stage.clients.stop();
    const { requests, failed } = stage.clients;
    this.#doing = "the rotation is done, and nobody was refused";
    if (failed > 0) this.#doing = `the rotation is done, but ${failed} requests failed`;
    return {
      requests,
      failed,
      perSecond,
      oldKey: { keyId: this.#oldKey, ...tried },
      waited: this.#waited,
      reminded: this.#reminded,
      seconds: this.#seconds(),
    };
  }

  picture(): Picture {
    const clients = this.#stage?.clients.all ?? [];
    return {
      seconds: this.#seconds(),
      perSecond: this.#rate(),
      failed: this.#stage?.clients.failed ?? 0,
      step: this.#step,
      clients,
      straggler: { name: STRAGGLER, reminded: this.#reminded > 0 },
      oldKey: this.#oldKey,
      doing: this.#doing,
      notes: this.#notes,
    };
  }

  #follow(progress: Progress): void {
    const { event, phase, outcome, reason, message } = progress;
    if (phase !== "idle") this.#step = stepOf(phase);
    if (event === undefined) this.#doing = outcome === "waiting" ? `keyturn waits: ${message}` : message;
    const said = happened(progress);
    if (said !== null) this.#note(said);

    const holdsUp = event === undefined && reason === "old-key-in-use" && message.includes(STRAGGLER);
    if (holdsUp) this.#waitingFrom ??= performance.now();
    if (event?.type === "disable" && this.#waitingFrom !== null) this.#waited = performance.now() - this.#waitingFrom;
  }

  #note(line: string): void {
    this.#notes.push(`${this.#seconds().toFixed(1).padStart(5)} s  ${line}`);
    this.onNote(line);
  }

  #seconds(): number {
    return (performance.now() - this.#began) / 1000;
  }

  /** A second, of all clients, lately. */
  #rate(): number {
    const [first, last] = [this.#counts[0], this.#counts.at(-1)];
    if (first === undefined || last === undefined || first === last) return 0;
    return (1000 * (last.requests - first.requests)) / (last.at - first.at);
  }
}
