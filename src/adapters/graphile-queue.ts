import { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Pool } from "pg";
import { Logger, run, runMigrations, type WorkerEvents, type WorkerPool } from "graphile-worker";
import type { Duration } from "../core/duration.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import type { Queue, Waiting, Wake, Working } from "../ports/queue.ts";
import { StatePlace } from "./state-place.ts";
import { Postgres } from "./postgres.ts";
import { serverOf, type PostgresSettings } from "./postgres-settings.ts";

const TASK = "keyturn";
/** Wakes that are added by one statement. */
const AT_ONCE = 500;
/** Beside the connection that listens: taking up a wake and ending it take a millisecond each. */
const CONNECTIONS = 6;
/** How often the library looks by itself, for wakes whose time has come. */
const POLL: Duration = 1000;
const TRY_AGAIN: Duration = 1000;
/** A wake that fails is the sweep's business soon enough. */
const ATTEMPTS = 3;

/** So many queues work in this process; the first of them takes the console away, the last gives it back. */
let atWork = 0;
let voices = {};

/** The library writes to the console what goes wrong below it: people are told in our own words, by `failed`. */
async function unheard<T>(work: () => Promise<T>): Promise<T> {
  if (atWork === 0) {
    const { error, trace, warn } = console;
    voices = { error, trace, warn };
    Object.assign(console, { error: () => {}, trace: () => {}, warn: () => {} });
  }
  atWork += 1;
  try {
    return await work();
  } finally {
    atWork -= 1;
    if (atWork === 0) Object.assign(console, voices);
  }
}

/**
 * graphile-worker, in a schema of its own beside the state's: one job for each secret, its key the secret's name, its
 * one flag what was known of the secret. It listens, which comes to nothing behind PgBouncer: then it polls alone.
 *
 * The library leaves the jobs of a killed worker locked for four hours. So each worker says in a table of ours that it
 * is alive, and jobs locked by one that does not are unlocked; the document's lease then tells whether it is.
 */
export class GraphileQueue implements Queue {
  readonly #postgres: Postgres;
  readonly #name: string;
  readonly #schema: string;
  /** Of the library's pool that works now: what jobs are locked by. */
  #id: string | null = null;

  /** @param silence a worker that has not said for so long that it is alive is dead */
  constructor(
    { schema, ...options }: PostgresSettings,
    private readonly deps: AdapterDeps,
    private readonly silence: Duration,
  ) {
    const server = serverOf({ ...options, schema }, deps);
    this.#postgres = new Postgres(server, new StatePlace(server.location), CONNECTIONS);
    this.#name = `${schema}_queue`;
    this.#schema = `"${this.#name}"`;
  }

  async prepare(): Promise<void> {
    await this.#postgres.lend((pool) => runMigrations(this.#options(pool)));
    await this.#postgres.alone(this.#name, (ask) =>
      ask(`CREATE TABLE IF NOT EXISTS ${this.#schema}.keyturn_workers (
        id text PRIMARY KEY,
        seen_at timestamptz NOT NULL
      )`),
    );
  }

  async add(wakes: readonly Wake[]): Promise<void> {
    for (let from = 0; from < wakes.length; from += AT_ONCE) {
      const some = wakes.slice(from, from + AT_ONCE);
      await this.#postgres.ask(
        `SELECT count(*) FROM ${this.#schema}.add_jobs(ARRAY(
           SELECT ROW('${TASK}', json_build_object('secret', secret), NULL, now() + delay * interval '1 millisecond',
             ${ATTEMPTS}, secret, NULL, ARRAY[seen])::${this.#schema}.job_spec
           FROM unnest($1::text[], $2::float8[], $3::text[]) AS wake (secret, delay, seen)))`,
        [some.map(({ secret }) => secret), some.map((wake) => Math.max(0, wake.in)), some.map(({ seen }) => seen)],
      );
    }
  }

  async waiting(): Promise<ReadonlyMap<string, Waiting>> {
    const rows = await this.#postgres.ask(
      `SELECT key, locked_at IS NOT NULL AS taken, (extract(epoch FROM run_at - now()) * 1000)::float8 AS ahead,
         (SELECT min(flag) FROM jsonb_object_keys(flags) AS flag) AS seen
       FROM ${this.#schema}.jobs
       WHERE task_identifier = '${TASK}' AND key IS NOT NULL AND (attempts < max_attempts OR locked_at IS NOT NULL)`,
    );
    return new Map(
      rows.map(({ key, taken, ahead, seen }) => [
        key as string,
        { seen: seen as string | null, in: ahead as number, isTaken: taken === true },
      ]),
    );
  }

  /** Whatever ends the library's loop, a server that is away for long above all: it is started again. */
  work(working: Working): Promise<void> {
    return unheard(() => this.#work(working));
  }

  async #work(working: Working): Promise<void> {
    const { signal, failed } = working;
    while (!signal.aborted) {
      try {
        await this.#postgres.lend((pool) => this.#run(pool, working));
      } catch (error) {
        failed(error);
      }
      await sleep(TRY_AGAIN, undefined, { signal }).catch(() => {});
    }
  }

  async beat(): Promise<void> {
    const workers = `${this.#schema}.keyturn_workers`;
    if (this.#id !== null)
      await this.#postgres.ask(
        `INSERT INTO ${workers} (id, seen_at) VALUES ($1, clock_timestamp())
         ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`,
        [this.#id],
      );
    const silence = "$1::float8 * interval '1 millisecond'";
    await this.#postgres.ask(
      `SELECT ${this.#schema}.force_unlock_workers(ARRAY(
         SELECT DISTINCT locked_by FROM ${this.#schema}.jobs
         WHERE task_identifier = '${TASK}' AND locked_at < now() - ${silence} AND NOT EXISTS (
           SELECT FROM ${workers} WHERE id = locked_by AND seen_at > now() - ${silence})))`,
      [this.silence],
    );
    // Given up by their worker, and since replaced.
    await this.#postgres.ask(
      `SELECT count(*) FROM ${this.#schema}.complete_jobs(ARRAY(
         SELECT id FROM ${this.#schema}.jobs
         WHERE task_identifier = '${TASK}' AND locked_at IS NULL AND attempts >= max_attempts))`,
    );
    await this.#postgres.ask(`DELETE FROM ${workers} WHERE seen_at < now() - interval '1 day'`);
  }

  close(): Promise<void> {
    return this.#postgres.close();
  }

  async #run(pool: Pool, { concurrency, signal, woken }: Working): Promise<void> {
    const events: WorkerEvents = new EventEmitter();
    events.on("pool:create", ({ workerPool }: { workerPool: WorkerPool }) => (this.#id = workerPool.id));
    const stopping = new Promise<void>((resolve) => events.once("pool:gracefulShutdown", () => resolve()));
    const runner = await run({
      ...this.#options(pool),
      events,
      noHandleSignals: true,
      // Its batches are awaited at the end, and tried again; single ones are let go of, and their failure is nobody's.
      preset: {
        worker: {
          concurrentJobs: concurrency,
          pollInterval: POLL,
          // Behind PgBouncer the next statement may be another session's.
          preparedStatements: false,
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
      parsedCronItems: [],
      taskList: {
        [TASK]: async (payload, { job }) =>
          woken((payload as { secret: string }).secret, Math.max(0, this.deps.now() - job.run_at.getTime())),
      },
    });
    const stop = (): void => void runner.stop().catch(() => {});
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
    try {
      await this.beat().catch(() => {});
      // An outage that keeps it from ending two jobs makes it stop by itself, and never come to the end of that. What
      // it holds is freed once its id is silent.
      await Promise.race([runner.promise, stopping.then(() => (signal.aborted ? runner.promise : undefined))]);
    } finally {
      this.#id = null;
      signal.removeEventListener("abort", stop);
      stop();
    }
  }

  #options(pgPool: Pool) {
    // Its words are third-party ones, and about jobs: people are told of secrets.
    const logger = new Logger(() => () => {});
    return { pgPool, schema: this.#name, logger };
  }
}
