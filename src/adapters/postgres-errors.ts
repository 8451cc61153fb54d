import { ProviderError, UserError } from "../core/errors.ts";
import { explain } from "./http.ts";
import type { StatePlace } from "./state-place.ts";

const TRUST =
  /^(SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_|CERT_|ERR_TLS_CERT|ERR_SSL_TLSV1_ALERT_UNKNOWN_CA)/;

/** PostgreSQL's code of what went wrong (`42P01`); "" where it is no refusal of the server's. */
function sqlState(error: unknown): string {
  const { code, severity } = (error ?? {}) as { code?: unknown; severity?: unknown };
  return typeof severity === "string" && typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : "";
}

/** Beside whole classes: deadlocks and the like, a cancelled statement, damaged pages. */
const REFUSED = ["40001", "40P01", "57014", "XX001", "XX002"];

/**
 * Whether the statement was certainly refused, so that it changed nothing: the server ended it by an error of its
 * own, and not the connection.
 */
export function isRefused(error: unknown): boolean {
  const state = sqlState(error);
  return /^(0[A-Z]|2[0-9A-Z]|3[0-9A-Z]|4[24]|53|54|55)/.test(state) || REFUSED.includes(state);
}

/** What an error of `pg` means; its own text is never passed on. */
export function postgresError(error: unknown, place: StatePlace, user: string): unknown {
  if (error instanceof UserError || error instanceof ProviderError) return error;
  const state = sqlState(error);
  switch (state) {
    case "28P01":
    case "28000":
      return place.failure(
        "unauthenticated",
        `the server refuses the user ${user} (${state})`,
        "check user and password, and the server's pg_hba.conf: it may want TLS (sslmode), or refuse this address",
      );
    case "3D000":
      return place.failure("not-found", "there is no such database", "CREATE DATABASE, or name another one");
    case "42501":
      return place.unwritable(
        `the user ${user} may not do that there`,
        "GRANT CREATE on the database (or USAGE, CREATE on the schema) and SELECT, INSERT, UPDATE on its tables",
      );
    case "25006":
      return place.unwritable("this server is read-only", "name the primary, not a replica");
    case "53100":
      return place.unwritable("the server's disk is full", "free some space, then run again");
    case "53300":
      return place.unavailable("the server has no connection left (53300)", "put PgBouncer before it");
    case "XX001":
    case "XX002":
      return place.damaged("the server finds its own pages damaged");
    case "42P01":
    case "42703":
    case "42804":
    case "42883":
    case "3F000":
      return place.damaged("its tables are gone or not those of keyturn");
    default:
      return unanswered(error, place);
  }
}

/** What became of a statement is not known by this. */
export function unanswered(error: unknown, place: StatePlace): ProviderError {
  const state = sqlState(error);
  return state === "" ? unreached(error, place) : place.unavailable(`the server answered ${state}`);
}

/** No answer of the server's. */
function unreached(error: unknown, place: StatePlace): ProviderError {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === "string" && TRUST.test(code)) {
    const hint = "name the CA by sslrootcert, and the server as its certificate does; or set another sslmode";
    return place.failure("denied", `the server's certificate is not trusted (${code})`, hint);
  }
  if (hasNoTls(error)) return place.failure("denied", "the server speaks no TLS", "set sslmode as the server needs it");
  if (typeof code !== "string" && typeof message === "string") {
    // pg's own words for what it saw.
    if (/timeout/i.test(message)) return place.unavailable("the server does not answer in time", REACH);
    if (/SASL|SCRAM|authentication/i.test(message))
      return place.failure("unauthenticated", "the server asks for a way to log in that is not known here");
    if (/terminated|closed|ended|not queryable/i.test(message))
      return place.unavailable("the connection was closed", REACH);
  }
  return place.unavailable(explain(error), REACH);
}

const REACH = "check host and port, that the server is up, and that it can be reached from here: pg_isready";

/** What pg says where TLS is asked for and the server has none. */
export function hasNoTls(error: unknown): boolean {
  return error instanceof Error && error.message === "The server does not support SSL connections";
}
