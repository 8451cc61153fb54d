import { readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join, resolve } from "node:path";
import { checkServerIdentity, type ConnectionOptions } from "node:tls";
import type { PoolConfig } from "pg";
import * as z from "zod";
import { UserError } from "../core/errors.ts";
import { credential, path, type AdapterDeps } from "../ports/adapter.ts";
import { queryOf } from "./state-url.ts";

const SSLMODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;

export const settings = z.strictObject({
  host: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Where PostgreSQL or PgBouncer answers: a name, an address or a socket's folder. Default: PGHOST, else localhost.",
    ),
  port: z.coerce.number().int().min(1).max(65535).optional().describe("Its port. Default: PGPORT, else 5432."),
  database: z.string().min(1).optional().describe("The database. Default: PGDATABASE, else the user's name."),
  user: z.string().min(1).optional().describe("The role to log in as. Default: PGUSER, else this machine's user."),
  password: credential().optional().describe("Its password. Default: PGPASSWORD."),
  sslmode: z
    .enum(SSLMODES)
    .optional()
    .describe("As libpq has it; only verify-full proves whose server it is. Default: PGSSLMODE, else prefer."),
  sslrootcert: path()
    .optional()
    .describe(
      "File with the CA's certificates, or `system`. Default: PGSSLROOTCERT, else ~/.postgresql/root.crt where there is one.",
    ),
  sslcert: path().optional().describe("File with our own certificate. Default: PGSSLCERT."),
  sslkey: path().optional().describe("File with its key. Default: PGSSLKEY."),
  schema: z
    .string()
    .regex(/^[a-z_][a-z0-9_]{0,62}$/, "is no name of a schema: write keyturn")
    .default("keyturn")
    .describe("The schema that holds the tables; made where it is missing. Default: keyturn."),
});

export type PostgresSettings = z.output<typeof settings>;

/** What a URL's query may say, by libpq's names; no password, which is looked for in its own place only. */
const QUERY: Readonly<Record<string, keyof PostgresSettings>> = {
  host: "host",
  port: "port",
  dbname: "database",
  user: "user",
  sslmode: "sslmode",
  sslrootcert: "sslrootcert",
  sslcert: "sslcert",
  sslkey: "sslkey",
  schema: "schema",
};

export const URL_KEYS = Object.keys(QUERY);

/** `postgres://user:password@host:port/database?sslmode=verify-full`; null for another URL, or one that says more. */
export function settingsOfUrl(url: string): z.input<typeof settings> | null {
  // The scheme is none that URL knows, so a host may be left out.
  const parts =
    /^postgres(?:ql)?:\/\/(?:([^:@/?#]*)(?::([^@/?#]*))?@)?(\[[^\]]*\]|[^:/?#]*)(?::(\d+))?(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(
      url,
    );
  if (parts === null) return null;
  const [, user, password, host, port, database, query] = parts;
  const found: Record<string, string> = {};
  const set = (key: string, value: string | undefined): void => void (value && (found[key] = value));
  try {
    set("user", decodeURIComponent(user ?? ""));
    set("password", decodeURIComponent(password ?? ""));
    set("host", decodeURIComponent(host ?? "").replace(/^\[(.*)\]$/, "$1"));
    set("port", port);
    set("database", decodeURIComponent(database ?? ""));
  } catch {
    return null;
  }
  for (const [name, value] of new URLSearchParams(query)) {
    const key = Object.hasOwn(QUERY, name) ? QUERY[name] : undefined;
    if (key === undefined) return null;
    set(key, value);
  }
  return settings.safeParse(found).success ? found : null;
}

/** Where and how, with what the environment adds. */
export interface Server {
  readonly location: string;
  readonly address: string;
  readonly sslmode: (typeof SSLMODES)[number];
  readonly user: string;
  /** For `pg`, but for `ssl` and `password`. */
  readonly config: PoolConfig;
  readonly password: string | undefined;
  readonly tls: ConnectionOptions;
}

/** @throws UserError `state-url`, exit 2, for a file that cannot be read or an environment that makes no sense. */
export function serverOf(options: PostgresSettings, { env, folder }: AdapterDeps): Server {
  const host = options.host ?? (env["PGHOST"] || "localhost");
  const port = options.port ?? Number(env["PGPORT"] || 5432);
  const user = options.user ?? (env["PGUSER"] || userInfo().username);
  const database = options.database ?? (env["PGDATABASE"] || user);
  const mode = options.sslmode ?? (env["PGSSLMODE"] || "prefer");
  const sslmode = SSLMODES.find((known) => known === mode);
  if (sslmode === undefined) throw wrong(`PGSSLMODE is none of ${SSLMODES.join(", ")}`);
  // A socket of this machine speaks no TLS.
  const isSocket = host.startsWith("/");
  const shown = isSocket ? "" : `${host.includes(":") ? `[${host}]` : host}:${port}`;
  const path = `/${encodeURIComponent(database)}`;
  const { schema, sslrootcert, sslcert, sslkey } = options;
  const socket = isSocket ? { host, port: String(port) } : {};
  const set = options.sslmode ?? (env["PGSSLMODE"] ? sslmode : undefined);
  const how = { ...socket, sslmode: set, sslrootcert, sslcert, sslkey, schema };
  return {
    location: `postgres://${shown}${path}${queryOf({ ...socket, schema })}`,
    address: `postgres://${encodeURIComponent(user)}@${shown}${path}${queryOf(how)}`,
    sslmode: isSocket ? "disable" : sslmode,
    user,
    password: options.password ?? (env["PGPASSWORD"] || undefined),
    config: { host, port, user, database },
    tls: isSocket ? {} : tlsOf(host, sslmode, options, env, folder),
  };
}

function tlsOf(
  host: string,
  mode: Server["sslmode"],
  options: PostgresSettings,
  env: AdapterDeps["env"],
  folder: string,
): ConnectionOptions {
  const file = (set: string | undefined, name: string): string | undefined =>
    set === undefined ? env[name] || undefined : resolve(folder, set);
  const named = options.sslrootcert === "system" ? "system" : file(options.sslrootcert, "PGSSLROOTCERT");
  const ca =
    named === "system" ? undefined : named === undefined ? usualRoots(env) : text(named, "the CA's certificates");
  const cert = file(options.sslcert, "PGSSLCERT");
  const key = file(options.sslkey, "PGSSLKEY");
  // As in libpq, a CA that is there is held against, though `require` alone asks for none.
  const verifies =
    mode === "verify-full" || mode === "verify-ca" || (mode === "require" && (ca !== undefined || named === "system"));
  const byName = mode === "verify-full" || named === "system";
  return {
    rejectUnauthorized: verifies,
    // pg says the name only where it is no address.
    checkServerIdentity: (_, certificate) => (byName ? checkServerIdentity(host, certificate) : undefined),
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert: text(cert, "the client's certificate") }),
    ...(key !== undefined && { key: text(key, "the client's key") }),
  };
}

function usualRoots(env: AdapterDeps["env"]): string | undefined {
  try {
    return readFileSync(join(env["HOME"] || "/nonexistent", ".postgresql", "root.crt"), "utf8");
  } catch {
    return undefined;
  }
}

function text(file: string, what: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    throw wrong(`${file}, ${what}, cannot be read`);
  }
}

function wrong(message: string): UserError {
  return new UserError("state-url", message, { exit: 2 });
}
