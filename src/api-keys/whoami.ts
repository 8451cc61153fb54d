import type { IncomingHttpHeaders } from "node:http";
import type { Registry } from "./registry.ts";
import type { UsageBook } from "./usage.ts";
import { hashOf, isWellFormed } from "./value.ts";

/** What a caller is told of its key. */
export type Whoami =
  | {
      readonly status: 200;
      readonly body: { readonly client: string; readonly keyId: string; readonly scopes: readonly string[] };
    }
  | { readonly status: 401; readonly body: { readonly error: "unknown" | "disabled" | "expired" | "malformed" } };

const NAME_MAX = 200;

/**
 * Authenticates one request by its `x-api-key` or bearer token and notes the use, refused ones included.
 * The caller names itself by `x-keyturn-instance` and its key by `x-keyturn-key-version`; longer names are ignored.
 */
export function whoami(headers: IncomingHttpHeaders, registry: Registry, usage: UsageBook, now: number): Whoami {
  const value = single(headers["x-api-key"]) ?? bearerToken(headers.authorization);
  if (value === null || !isWellFormed(value)) return refused("malformed");
  const key = registry.byHash(hashOf(value));
  if (!key) return refused("unknown");
  const instance = shortName(headers["x-keyturn-instance"]);
  const version = shortName(headers["x-keyturn-key-version"]);
  const reason =
    key.status === "deleted"
      ? "unknown"
      : key.status === "disabled"
        ? "disabled"
        : key.expiresAt !== null && key.expiresAt <= now
          ? "expired"
          : null;
  usage.note(key.id, instance, version, reason);
  if (reason !== null) return refused(reason);
  return { status: 200, body: { client: key.client, keyId: key.id, scopes: key.scopes } };
}

/** The token of `authorization: Bearer …`, null when there is none. */
export function bearerToken(authorization: string | undefined): string | null {
  return /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1] ?? null;
}

function refused(error: "unknown" | "disabled" | "expired" | "malformed"): Whoami {
  return { status: 401, body: { error } };
}

function single(header: string | string[] | undefined): string | null {
  return typeof header === "string" ? header : null;
}

function shortName(header: string | string[] | undefined): string {
  const name = single(header) ?? "";
  return name.length <= NAME_MAX ? name : "";
}
