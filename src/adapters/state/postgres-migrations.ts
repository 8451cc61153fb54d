/**
 * The tables as the steps that lead to them; `keyturn_migrations` has a row for each step taken.
 * Steps are only ever appended: a released one never changes.
 *
 * @param schema its name, quoted
 */
export function migrations(schema: string): readonly string[] {
  return [
    // A removed document keeps its row (body null): its revision goes on counting, so an old revision never fits again.
    // Text, not jsonb: what was saved comes back as it was, and jsonb has no \u0000.
    `CREATE TABLE ${schema}.keyturn_documents (
       name text COLLATE "C" PRIMARY KEY,
       revision bigint NOT NULL,
       body text,
       saved_at timestamptz NOT NULL
     );
     CREATE TABLE ${schema}.keyturn_audit (
       id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
       secret text COLLATE "C" NOT NULL,
       seq bigint NOT NULL,
       previous text NOT NULL,
       hash text NOT NULL,
       at bigint NOT NULL,
       actor text NOT NULL,
       type text NOT NULL,
       data text NOT NULL,
       PRIMARY KEY (secret, seq)
     );`,
  ];
}

/** Before the first step. The schema may be there, and this user not be allowed to make one. */
export function foundation(schema: string, isThere: boolean): string {
  return `${isThere ? "" : `CREATE SCHEMA ${schema};`}
    CREATE TABLE IF NOT EXISTS ${schema}.keyturn_migrations (
      step integer PRIMARY KEY,
      taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );`;
}

/** Whether any step was ever taken. */
export function isBegun(schema: string): string {
  return `SELECT to_regclass('${schema}.keyturn_migrations') IS NOT NULL AS there`;
}

/** Steps taken so far; 0 for none. */
export function taken(schema: string): string {
  return `SELECT coalesce(max(step), 0) AS step FROM ${schema}.keyturn_migrations`;
}
