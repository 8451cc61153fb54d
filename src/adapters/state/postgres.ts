import type { SecretState } from "../../core/model.ts";
import type { AdapterDeps, StateAdapter } from "../../ports/adapter.ts";
import type { AuditEntry, AuditLog, Loaded, Revision, StateBackend } from "../../ports/state.ts";
import { readable } from "../in-order.ts";
import { StatePlace } from "../state-place.ts";
import { NoAnswer, Postgres, type Row } from "../postgres.ts";
import { foundation, isBegun, migrations, taken } from "./postgres-migrations.ts";
import { serverOf, settings, settingsOfUrl, URL_KEYS, type PostgresSettings } from "../postgres-settings.ts";

/** Documents that are fetched at once. */
const PAGE = 200;
const AGE = "greatest(0, floor(extract(epoch FROM clock_timestamp() - saved_at) * 1000))::float8 AS age";

/**
 * State in PostgreSQL, or behind a PgBouncer in any of its modes: a row for each document, a row for each entry of
 * the audit log. A save is one conditional statement and so a transaction of its own; where the connection breaks
 * before its answer, it is `unknown`.
 *
 * Ages are the server's: `clock_timestamp()` within the saving statement, which is never before it was sent. The
 * tables are made by the first save; a reader of a database without them finds nothing and makes none.
 */
class PostgresState implements StateBackend {
  readonly location: string;
  readonly address: string;
  readonly audit: AuditLog;
  readonly #place: StatePlace;
  readonly #postgres: Postgres;
  readonly #schema: string;
  readonly #name: string;
  #isReady = false;

  constructor(options: PostgresSettings, deps: AdapterDeps) {
    const server = serverOf(options, deps);
    this.location = server.location;
    this.address = server.address;
    this.#place = new StatePlace(server.location);
    this.#postgres = new Postgres(server, this.#place);
    this.#name = options.schema;
    this.#schema = `"${options.schema}"`;
    this.audit = {
      append: (entries) => this.#append(entries),
      read: (secret, limit) => this.#readAudit(secret, limit),
    };
  }

  async load(name: string): Promise<Loaded | null> {
    const [row] = await this.#read(
      `SELECT name, revision::text, body, ${AGE} FROM ${this.#schema}.keyturn_documents WHERE name = $1 AND body IS NOT NULL`,
      [name],
    );
    return row === undefined ? null : this.#loaded(row);
  }

  loadAll(): AsyncIterable<Loaded> {
    return readable(this.#pages(`name, revision::text, body, ${AGE}`), 1, (row) => this.#loaded(row));
  }

  async save(name: string, next: SecretState, expected: Revision | null): ReturnType<StateBackend["save"]> {
    await this.#prepare(true);
    const body = JSON.stringify(next);
    try {
      const [row] =
        expected === null
          ? await this.#postgres.ask(
              `INSERT INTO ${this.#schema}.keyturn_documents AS old (name, revision, body, saved_at)
               VALUES ($1, 1, $2, clock_timestamp())
               ON CONFLICT (name) DO UPDATE
               SET revision = old.revision + 1, body = excluded.body, saved_at = clock_timestamp()
               WHERE old.body IS NULL
               RETURNING revision::text`,
              [name, body],
            )
          : await this.#postgres.ask(
              `UPDATE ${this.#schema}.keyturn_documents
               SET revision = revision + 1, body = $2, saved_at = clock_timestamp()
               WHERE name = $1 AND revision = $3 AND body IS NOT NULL
               RETURNING revision::text`,
              [name, body, revisionNumber(expected)],
            );
      return row === undefined ? { result: "stale" } : { result: "saved", revision: row["revision"] as string };
    } catch (error) {
      if (error instanceof NoAnswer) return { result: "unknown" };
      throw error;
    }
  }

  async remove(name: string, expected: Revision): Promise<"removed" | "stale"> {
    const rows = await this.#read(
      `UPDATE ${this.#schema}.keyturn_documents SET revision = revision + 1, body = NULL
       WHERE name = $1 AND revision = $2 AND body IS NOT NULL RETURNING name`,
      [name, revisionNumber(expected)],
    );
    return rows.length === 0 ? "stale" : "removed";
  }

  close(): Promise<void> {
    return this.#postgres.close();
  }

  /** All of them or none. Those that somebody else wrote in this very moment are seen by the next attempt. */
  async #append(entries: readonly AuditEntry[]): Promise<void> {
    if (entries.length === 0) return;
    await this.#prepare(true);
    const audit = `${this.#schema}.keyturn_audit`;
    const column = <K extends keyof AuditEntry>(key: K): AuditEntry[K][] => entries.map((entry) => entry[key]);
    const values = [
      column("secret"),
      column("seq"),
      column("previous"),
      column("hash"),
      column("at").map(Math.trunc),
      column("actor"),
      column("type"),
      column("data").map((data) => JSON.stringify(data)),
    ];
    for (;;) {
      const [row] = await this.#postgres.ask(
        `WITH incoming AS (
           SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[])
           WITH ORDINALITY AS e (secret, seq, previous, hash, at, actor, type, data, nth)
         ), there AS (
           SELECT e.seq, e.secret, a.hash = e.hash AS same FROM incoming e JOIN ${audit} a USING (secret, seq)
         ), added AS (
           INSERT INTO ${audit} (secret, seq, previous, hash, at, actor, type, data)
           SELECT secret, seq, previous, hash, at, actor, type, data FROM incoming
           WHERE NOT EXISTS (SELECT FROM there WHERE NOT same) ORDER BY nth
           ON CONFLICT (secret, seq) DO NOTHING RETURNING seq
         )
         SELECT (SELECT count(*) FROM added)::int AS added, (SELECT count(*) FROM there)::int AS there,
           (SELECT json_build_object('secret', secret, 'seq', seq) FROM there WHERE NOT same LIMIT 1) AS forged`,
        values,
      );
      const { added, there, forged } = row as { added: number; there: number; forged: AuditEntry | null };
      if (forged !== null) throw this.#place.forged(forged);
      if (added + there >= entries.length) return;
    }
  }

  /** The newest `limit` entries, oldest first: in the order of a secret's own sequence, or as they came in. */
  async #readAudit(secret: string | null, limit: number): Promise<readonly AuditEntry[]> {
    const rows = await this.#read(
      `SELECT secret, seq::float8, previous, hash, at::float8, actor, type, data FROM ${this.#schema}.keyturn_audit
       ${secret === null ? "ORDER BY id" : "WHERE secret = $2 ORDER BY seq"} DESC LIMIT $1`,
      secret === null ? [limit] : [limit, secret],
    );
    return rows.toReversed().map((row) => ({
      ...(row as unknown as AuditEntry),
      data: this.#place.json(
        row["data"] as string,
        `audit entry ${String(row["seq"])} of "${String(row["secret"])}"`,
      ) as AuditEntry["data"],
    }));
  }

  #loaded({ name, revision, body, age }: Row): Loaded {
    return {
      revision: revision as string,
      state: this.#place.document(name as string, body as string),
      age: age as number,
    };
  }

  async *#pages(columns: string): AsyncIterable<Row> {
    for (let after = ""; ;) {
      const rows = await this.#read(
        `SELECT ${columns} FROM ${this.#schema}.keyturn_documents
         WHERE body IS NOT NULL AND name > $1 ORDER BY name LIMIT ${PAGE}`,
        [after],
      );
      yield* rows;
      if (rows.length < PAGE) return;
      after = rows.at(-1)?.["name"] as string;
    }
  }

  /** Nothing, where the tables are not made yet. */
  async #read(statement: string, values: readonly unknown[]): Promise<readonly Row[]> {
    return (await this.#prepare(false)) ? this.#postgres.ask(statement, values) : [];
  }

  /** Whether the tables are there, and of this version; an older version's are brought up to it. */
  async #prepare(make: boolean): Promise<boolean> {
    if (this.#isReady) return true;
    const steps = migrations(this.#schema);
    const step = await this.#step();
    if (step > steps.length) throw this.#place.newer();
    if (step === 0 && !make) return false;
    if (step < steps.length) await this.#migrate(steps);
    this.#isReady = true;
    return true;
  }

  async #step(): Promise<number> {
    const [begun] = await this.#postgres.ask(isBegun(this.#schema));
    if (begun?.["there"] !== true) return 0;
    const [row] = await this.#postgres.ask(taken(this.#schema));
    return row?.["step"] as number;
  }

  /** Several processes may begin at once: the others wait for the first, and then find everything done. */
  async #migrate(steps: readonly string[]): Promise<void> {
    await this.#postgres.alone(this.#name, async (ask) => {
      const [found] = await ask("SELECT to_regnamespace($1) IS NOT NULL AS there", [this.#schema]);
      await ask(foundation(this.#schema, found?.["there"] === true));
      const [row] = await ask(taken(this.#schema));
      const step = row?.["step"] as number;
      if (step > steps.length) throw this.#place.newer();
      for (let next = step; next < steps.length; next++) {
        await ask(steps[next] as string);
        await ask(`INSERT INTO ${this.#schema}.keyturn_migrations (step) VALUES ($1)`, [next + 1]);
      }
    });
  }
}

/** -1 fits no revision. */
function revisionNumber(revision: Revision): number {
  return /^[1-9]\d{0,14}$/.test(revision) ? Number(revision) : -1;
}

export const adapter: StateAdapter<typeof settings> = {
  type: "postgres",
  settings,
  fromUrl: settingsOfUrl,
  urlKeys: URL_KEYS,
  create: async (options, deps) => new PostgresState(options, deps),
};
