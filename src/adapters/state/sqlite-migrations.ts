import type Libsql from "libsql";

type Database = InstanceType<typeof Libsql>;

/** "keyt": tells our files from other programs' databases. */
const APPLICATION_ID = 0x6b657974;

/**
 * The schema as the steps that lead to it; a file's `user_version` counts the steps it has taken.
 * Steps are only ever appended: a released one never changes.
 */
const MIGRATIONS: readonly string[] = [
  // A removed document keeps its row (body null): its revision goes on counting, so an old revision never fits again.
  `CREATE TABLE documents (
     name TEXT PRIMARY KEY,
     revision INTEGER NOT NULL,
     body TEXT,
     saved_at INTEGER NOT NULL,
     schema INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE audit (
     secret TEXT NOT NULL,
     seq INTEGER NOT NULL,
     previous TEXT NOT NULL,
     hash TEXT NOT NULL,
     at INTEGER NOT NULL,
     actor TEXT NOT NULL,
     type TEXT NOT NULL,
     data TEXT NOT NULL,
     PRIMARY KEY (secret, seq)
   ) STRICT;`,
];

const NEWEST = MIGRATIONS.length;
const STAMP = `PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${NEWEST};`;

/** `foreign`: not one of ours, or empty. */
export type Standing = "current" | "behind" | "newer" | "foreign";

export function standing(db: Database): Standing {
  if (pragma(db, "application_id") !== APPLICATION_ID) return "foreign";
  const version = pragma(db, "user_version");
  if (version === NEWEST) return "current";
  return version < NEWEST ? "behind" : "newer";
}

/** Fills a new, empty file. No statement outlives it, so that closing the file leaves it complete. */
export function build(db: Database): void {
  db.exec(`BEGIN IMMEDIATE; ${MIGRATIONS.join("\n")} ${STAMP} COMMIT; PRAGMA journal_mode = WAL`);
}

/** Brings an older file up to date, in one transaction; two processes may do it at once. */
export function upgrade(db: Database): void {
  db.exec("BEGIN IMMEDIATE");
  try {
    for (const step of MIGRATIONS.slice(pragma(db, "user_version"))) db.exec(step);
    db.exec(`${STAMP} COMMIT`);
  } catch (error) {
    if (db.inTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

function pragma(db: Database, name: string): number {
  return (db.prepare(`PRAGMA ${name}`).get() as Record<string, number>)[name] as number;
}
