import { accessSync, constants, existsSync, rmSync } from "node:fs";
import { chmod, writeFile } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import type Libsql from "libsql";
import * as z from "zod";
import type { SecretState } from "../../core/model.ts";
import { path, type AdapterDeps, type StateAdapter } from "../../ports/adapter.ts";
import type { AuditEntry, AuditLog, Loaded, Revision, StateBackend } from "../../ports/state.ts";
import { linkNew, privateFolder, syncFolder, sweepTemps, tempName, withLock } from "../files.ts";
import { readable } from "../in-order.ts";
import { loadLibsql } from "../libsql.ts";
import { StatePlace } from "../state-place.ts";
import { stateError } from "./sqlite-errors.ts";
import { build, standing, upgrade } from "./sqlite-migrations.ts";

type Database = InstanceType<typeof Libsql>;
type Statement = Libsql.Statement<unknown[]>;

/** The newest form of a document that this version reads. */
const DOCUMENT_SCHEMA: SecretState["schema"] = 1;
const BUSY_TIMEOUT = 5000;

interface Row {
  readonly name: string;
  readonly revision: number;
  readonly body: string;
  readonly saved_at: number;
  readonly schema: number;
}

/**
 * State in one SQLite file: WAL, every commit synced before it is answered.
 *
 * Opened at the first call; a read of a file that is not there makes none. A save is never `unknown`: SQLite says
 * whether it committed, and where it fails the error is thrown.
 */
export class SqliteState implements StateBackend {
  readonly location: string;
  readonly audit: AuditLog;
  readonly #path: string;
  readonly #place: StatePlace;
  readonly #deps: AdapterDeps;
  readonly #statements = new Map<string, Statement>();
  #connection: Promise<Database> | null = null;
  #wrote = false;

  constructor(file: string, deps: AdapterDeps) {
    this.#path = resolve(deps.folder, file);
    this.#place = new StatePlace(this.#path);
    this.#deps = deps;
    this.location = `sqlite:${this.#path}`;
    this.audit = {
      append: (entries) => this.#append(entries),
      read: (secret, limit) => this.#readAudit(secret, limit),
    };
  }

  async load(name: string): Promise<Loaded | null> {
    const row = await this.#read(
      (db) => this.#sql(db, "SELECT * FROM documents WHERE name = ? AND body IS NOT NULL").get(name) as Row | undefined,
    );
    return row ? this.#loaded(row) : null;
  }

  /** Every document in one query. */
  async *loadAll(): AsyncIterable<Loaded> {
    const rows = await this.#read(
      (db) => this.#sql(db, "SELECT * FROM documents WHERE body IS NOT NULL ORDER BY name").all() as Row[],
    );
    yield* readable(rows ?? [], 1, (row) => this.#loaded(row));
  }

  async save(name: string, next: SecretState, expected: Revision | null): ReturnType<StateBackend["save"]> {
    const body = JSON.stringify(next);
    return this.#write((db) => {
      const now = this.#deps.now();
      const { changes } =
        expected === null
          ? this.#sql(
              db,
              `INSERT INTO documents (name, revision, body, saved_at, schema) VALUES (?, 1, ?, ?, ?)
              ON CONFLICT (name) DO UPDATE SET revision = revision + 1, body = excluded.body, saved_at = excluded.saved_at,
              schema = excluded.schema WHERE body IS NULL`,
            ).run(name, body, now, next.schema)
          : this.#sql(
              db,
              `UPDATE documents SET revision = revision + 1, body = ?, saved_at = ?, schema = ?
              WHERE name = ? AND revision = ? AND body IS NOT NULL`,
            ).run(body, now, next.schema, name, revisionNumber(expected));
      if (changes === 0) return { result: "stale" };
      const { revision } = this.#sql(db, "SELECT revision FROM documents WHERE name = ?").get(name) as Row;
      return { result: "saved", revision: String(revision) };
    });
  }

  async remove(name: string, expected: Revision): Promise<"removed" | "stale"> {
    return this.#write((db) => {
      const { changes } = this.#sql(
        db,
        `UPDATE documents SET revision = revision + 1, body = NULL, saved_at = ?
        WHERE name = ? AND revision = ? AND body IS NOT NULL`,
      ).run(this.#deps.now(), name, revisionNumber(expected));
      return changes === 0 ? "stale" : "removed";
    });
  }

  async close(): Promise<void> {
    const db = await this.#connection?.catch(() => null);
    this.#connection = null;
    this.#statements.clear();
    if (!db) return;
    try {
      // The file alone then holds everything, so that a plain copy of it is a backup.
      if (this.#wrote) db.exec("PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)");
    } catch {
      // Somebody else has it open: the last one to leave does it.
    }
    db.close();
  }

  async #append(entries: readonly AuditEntry[]): Promise<void> {
    if (entries.length === 0) return;
    await this.#write((db) => {
      const insert = this.#sql(
        db,
        `INSERT INTO audit (secret, seq, previous, hash, at, actor, type, data)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (secret, seq) DO NOTHING`,
      );
      for (const e of entries) {
        const { changes } = insert.run(
          e.secret,
          e.seq,
          e.previous,
          e.hash,
          e.at,
          e.actor,
          e.type,
          JSON.stringify(e.data),
        );
        if (changes === 1) continue;
        const there = this.#sql(db, "SELECT hash FROM audit WHERE secret = ? AND seq = ?").get(e.secret, e.seq) as {
          hash: string;
        };
        if (there.hash !== e.hash) throw this.#place.forged(e);
      }
    });
  }

  /** The newest `limit` entries, oldest first: in the order of a secret's own sequence, or as they came in. */
  async #readAudit(secret: string | null, limit: number): Promise<readonly AuditEntry[]> {
    const rows = await this.#read((db) =>
      secret === null
        ? this.#sql(db, "SELECT * FROM audit ORDER BY rowid DESC LIMIT ?").all(limit)
        : this.#sql(db, "SELECT * FROM audit WHERE secret = ? ORDER BY seq DESC LIMIT ?").all(secret, limit),
    );
    return ((rows ?? []) as (Omit<AuditEntry, "data"> & { data: string })[]).toReversed().map((row) => ({
      secret: row.secret,
      seq: row.seq,
      previous: row.previous,
      hash: row.hash,
      at: row.at,
      actor: row.actor,
      type: row.type,
      data: this.#place.json(row.data, `audit entry ${row.seq} of "${row.secret}"`) as AuditEntry["data"],
    }));
  }

  #loaded(row: Row): Loaded {
    if (row.schema > DOCUMENT_SCHEMA) throw this.#place.newer();
    const state = this.#place.document(row.name, row.body);
    return { revision: String(row.revision), state, age: Math.max(0, this.#deps.now() - row.saved_at) };
  }

  /** null: there is no file yet. */
  async #read<T>(query: (db: Database) => T): Promise<T | null> {
    if (this.#connection === null && !existsSync(this.#path)) return null;
    return this.#guarded(async () => query(await this.#open()));
  }

  async #write<T>(change: (db: Database) => T): Promise<T> {
    return this.#guarded(async () => {
      const db = await this.#open();
      db.exec("BEGIN IMMEDIATE");
      try {
        const result = change(db);
        db.exec("COMMIT");
        this.#wrote = true;
        return result;
      } catch (error) {
        if (db.inTransaction) db.exec("ROLLBACK");
        throw error;
      }
    });
  }

  async #guarded<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      throw stateError(error, this.#place);
    }
  }

  #open(): Promise<Database> {
    return (this.#connection ??= this.#connect().catch((error: unknown) => {
      this.#connection = null;
      throw error;
    }));
  }

  async #connect(): Promise<Database> {
    const Database = await loadLibsql();
    if (!existsSync(this.#path)) await this.#create(Database);
    // Opened read-only, SQLite would leave files beside it that are read-only too, and in the way ever after.
    accessSync(this.#path, constants.W_OK);
    const db = new Database(this.#path, { timeout: BUSY_TIMEOUT });
    try {
      db.exec("PRAGMA synchronous = FULL");
      const found = standing(db);
      if (found === "newer") throw this.#place.newer();
      if (found === "foreign") throw this.#place.damaged("it is empty or no state of keyturn's");
      if (found === "behind") upgrade(db);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  }

  /** A new file gets its name only when it is complete: an empty one is then always a loss, never a beginning. */
  async #create(Database: typeof Libsql): Promise<void> {
    const folder = dirname(this.#path);
    if (basename(folder) === ".keyturn") await privateFolder(folder);
    const lock = { signal: new AbortController().signal, sleep: this.#deps.sleep };
    await withLock(`${this.#path}.lock`, lock, async () => {
      await sweepTemps(folder, this.#path);
      const temp = tempName(this.#path);
      try {
        await writeFile(temp, "", { flag: "wx", mode: 0o600 });
        await chmod(temp, 0o600);
        const db = new Database(temp);
        try {
          db.exec("PRAGMA synchronous = FULL");
          build(db);
        } finally {
          db.close();
        }
        if (linkNew(temp, this.#path)) await syncFolder(folder);
      } finally {
        for (const suffix of ["", "-journal", "-wal", "-shm"]) rmSync(temp + suffix, { force: true });
      }
    });
  }

  #sql(db: Database, text: string): Statement {
    let statement = this.#statements.get(text);
    if (!statement) this.#statements.set(text, (statement = db.prepare(text)));
    return statement;
  }
}

/** -1 fits no revision. */
function revisionNumber(revision: Revision): number {
  return /^[1-9]\d{0,14}$/.test(revision) ? Number(revision) : -1;
}

const settings = z.strictObject({
  path: path().default(".keyturn/state.db").describe("The database file, relative to the policy's folder"),
});

export const adapter: StateAdapter<typeof settings> = {
  type: "sqlite",
  settings,
  fromUrl: (url) => (/^sqlite:./.test(url) ? { path: url.slice("sqlite:".length) } : null),
  create: async (options, deps) => new SqliteState(options.path, deps),
};
