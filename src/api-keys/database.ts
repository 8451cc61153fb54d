import { closeSync, openSync } from "node:fs";
import Database from "libsql";

export type Db = Database.Database;

/** Numbered by place: the first brings an empty file to version 1. Only ever appended to. */
const MIGRATIONS = [
  `CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
   CREATE TABLE clients (
     name TEXT PRIMARY KEY, max_keys INTEGER NOT NULL, scopes TEXT NOT NULL, created_at INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE keys (
     id TEXT PRIMARY KEY, client TEXT NOT NULL REFERENCES clients (name), hash TEXT NOT NULL UNIQUE,
     prefix TEXT NOT NULL, status TEXT NOT NULL, label TEXT NOT NULL, scopes TEXT NOT NULL,
     created_at INTEGER NOT NULL, expires_at INTEGER
   ) STRICT;
   CREATE TABLE usage (
     key TEXT NOT NULL REFERENCES keys (id), instance TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
     first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, longest_gap INTEGER NOT NULL,
     version TEXT NOT NULL, PRIMARY KEY (key, instance, outcome, reason)
   ) STRICT, WITHOUT ROWID;`,
];

/** The database of an authority cannot be served from. The message names the file and is fit for a person. */
export class DatabaseUnusable extends Error {
  override readonly name = "DatabaseUnusable";
}

/**
 * Opens (or makes, mode 0600) the authority's database and locks it for as long as it is open: what is served
 * comes from memory, so a second server on the same file would serve keys that the first one has deleted.
 * A commit is on disk when it returns (WAL, synchronous FULL).
 *
 * @throws DatabaseUnusable another server has it, a newer version wrote it, it is no database, no permission.
 */
export function openDatabase(path: string): Db {
  let db: Db | undefined;
  try {
    closeSync(openSync(path, "a", 0o600));
    db = new Database(path, { timeout: 1000 });
    db.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    db.transaction(migrate).immediate(db, path);
    return db;
  } catch (error) {
    db?.close();
    throw error instanceof DatabaseUnusable ? error : new DatabaseUnusable(`${path}: ${explain(error)}`);
  }
}

/**
 * Leaves one file at rest, without a log beside it, and lets go of the lock. `close` alone would keep the lock
 * until the collector comes by, and SQLite gives an exclusive one up only outside WAL, at the next read.
 */
export function closeDatabase(db: Db): void {
  db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  db.exec("PRAGMA journal_mode = DELETE");
  db.exec("PRAGMA locking_mode = NORMAL");
  db.prepare("SELECT count(*) FROM meta").all();
  db.close();
}

function migrate(db: Db, path: string): void {
  const [row] = db.prepare("PRAGMA user_version").all() as { user_version: number }[];
  const version = row?.user_version ?? 0;
  if (version > MIGRATIONS.length) throw new DatabaseUnusable(`${path}: written by a newer version of keyturn`);
  for (const sql of MIGRATIONS.slice(version)) db.exec(sql);
  if (version < MIGRATIONS.length) db.exec(`PRAGMA user_version = ${MIGRATIONS.length}`);
}

function explain(error: unknown): string {
  const code = String((error as { code?: unknown }).code ?? "");
  if (code.startsWith("SQLITE_BUSY")) return "another server is using it";
  if (code === "SQLITE_NOTADB" || code.startsWith("SQLITE_CORRUPT")) return "not a database, or a damaged one";
  return `cannot be opened${code === "" ? "" : ` (${code})`}`;
}
