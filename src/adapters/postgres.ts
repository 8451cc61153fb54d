import type { Pool, PoolClient, PoolConfig } from "pg";
import { ProviderError } from "../core/errors.ts";
import type { StatePlace } from "./state-place.ts";
import { hasNoTls, isRefused, postgresError, unanswered } from "./postgres-errors.ts";
import type { Server } from "./postgres-settings.ts";

const CONNECT_TIMEOUT = 10_000;
const ANSWER_TIMEOUT = 10_000;
/** Secrets that are worked on side by side share these; a statement takes a millisecond or two. */
const CONNECTIONS = 4;

export type Row = Readonly<Record<string, unknown>>;
type Ask = (statement: string, values?: readonly unknown[]) => Promise<readonly Row[]>;

/** Taken for the length of a transaction, for PgBouncer hands the session to somebody else after it. */
const LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('keyturn ' || $1, 0))";

/** A statement was sent and no answer came: it may have been carried out, or may yet be. */
export class NoAnswer extends ProviderError {
  constructor({ message, detail }: ProviderError) {
    super("unavailable", "maybe", message, detail);
  }
}

/**
 * Connections to one server, opened when needed. They hold nothing between two transactions: no session lock, no
 * named statement, no setting, no LISTEN, for behind PgBouncer the next one may be another session.
 *
 * Whatever goes wrong is thrown in our words: `ProviderError`, `UserError`, and {@link NoAnswer} where a statement was
 * sent.
 */
export class Postgres {
  #pool: Promise<Pool> | null = null;

  constructor(
    private readonly server: Server,
    private readonly place: StatePlace,
    private readonly connections = CONNECTIONS,
  ) {}

  /** One statement, a transaction of its own. */
  async ask(statement: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    return this.#with((client) => this.#send(client, statement, values));
  }

  /**
   * Several statements that take effect together or not at all, while nobody else does the same.
   *
   * @param name what for: one at a time, whichever process it is
   */
  async alone<T>(name: string, body: (ask: Ask) => Promise<T>): Promise<T> {
    return this.#with(async (client) => {
      const ask: Ask = (statement, values = []) => this.#send(client, statement, values);
      await ask("BEGIN");
      try {
        await ask(LOCK, [name]);
        const result = await body(ask);
        await ask("COMMIT");
        return result;
      } catch (error) {
        if (!(error instanceof NoAnswer)) await ask("ROLLBACK");
        throw error;
      }
    });
  }

  /** For a library that brings its own statements. */
  async lend<T>(use: (pool: Pool) => Promise<T>): Promise<T> {
    try {
      return await use(await this.#open());
    } catch (error) {
      throw this.#told(error);
    }
  }

  async close(): Promise<void> {
    const pool = await this.#pool?.catch(() => null);
    this.#pool = null;
    await pool?.end();
  }

  async #with<T>(body: (client: PoolClient) => Promise<T>): Promise<T> {
    const client = await this.lend((pool) => pool.connect());
    try {
      const result = await body(client);
      client.release();
      return result;
    } catch (error) {
      client.release(error instanceof NoAnswer);
      throw error;
    }
  }

  async #send(client: PoolClient, statement: string, values: readonly unknown[]): Promise<readonly Row[]> {
    try {
      return (await client.query<Row>(statement, [...values])).rows;
    } catch (error) {
      throw isRefused(error) ? this.#told(error) : new NoAnswer(unanswered(error, this.place));
    }
  }

  #told(error: unknown): unknown {
    return postgresError(error, this.place, this.server.user);
  }

  #open(): Promise<Pool> {
    return (this.#pool ??= this.#connect().catch((error: unknown) => {
      this.#pool = null;
      throw error;
    }));
  }

  async #connect(): Promise<Pool> {
    const { sslmode, tls } = this.server;
    const mayBePlain = sslmode === "prefer" || sslmode === "allow";
    const pool = await this.#make(sslmode === "disable" ? false : tls);
    if (!mayBePlain) return pool;
    try {
      (await pool.connect()).release();
      return pool;
    } catch (error) {
      await pool.end();
      if (!hasNoTls(error)) throw error;
      return this.#make(false);
    }
  }

  async #make(ssl: PoolConfig["ssl"]): Promise<Pool> {
    const { default: pg } = await import("pg");
    const pool = new pg.Pool({
      ...this.server.config,
      ssl,
      password: () => this.#password(),
      application_name: "keyturn",
      connectionTimeoutMillis: CONNECT_TIMEOUT,
      query_timeout: ANSWER_TIMEOUT,
      max: this.connections,
      keepAlive: true,
      allowExitOnIdle: true,
    });
    // A connection that breaks says so to whoever waits for its answer, and besides as an event that has to be heard.
    pool.on("connect", (client) => void client.on("error", () => {}));
    pool.on("error", () => {});
    return pool;
  }

  /** Asked for by `pg` only when the server wants one. */
  #password(): string {
    const { password, user } = this.server;
    if (password !== undefined) return password;
    const why = `the server asks for a password of ${user}, and none is given`;
    throw this.place.failure("unauthenticated", why, "set PGPASSWORD, or write ${env:NAME} for it into the URL");
  }
}
