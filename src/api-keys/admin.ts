import * as z from "zod";
import { Refusal } from "./refusal.ts";
import type { Key, Registry } from "./registry.ts";
import type { UsageBook } from "./usage.ts";

/** One admin request, already authenticated: path segments after `/v1/admin`, parsed JSON body (undefined: none). */
export interface AdminRequest {
  readonly method: string;
  readonly segments: readonly string[];
  readonly query: URLSearchParams;
  readonly body: unknown;
}

export interface AdminAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

interface World {
  readonly registry: Registry;
  readonly usage: UsageBook;
  readonly now: () => number;
}

interface Call extends World {
  /** What stood at the `:name` places of the route. */
  readonly at: (name: string) => string;
  readonly query: URLSearchParams;
  readonly body: unknown;
}

type Handler = (call: Call) => AdminAnswer;

const scopes = z.array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/)).max(100);
const newClient = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
  maxKeys: z.int().min(1).max(100).default(2),
  scopes: scopes.default([]),
});
const newKey = z.strictObject({
  label: z.string().max(100).optional(),
  scopes: scopes.optional(),
  expiresIn: z
    .int()
    .min(1)
    .max(10 * 365 * 86_400_000)
    .optional(),
});
const wanted = z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/) });

const ROUTES: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  authority: { GET: () => ok({}) },
  clients: {
    GET: ({ registry }) => ok({ clients: registry.clients() }),
    POST: ({ registry, body }) => {
      const { name, maxKeys, scopes } = parse(newClient, body);
      return created({ client: registry.addClient(name, maxKeys, scopes) });
    },
  },
  "clients/:client": { GET: ({ registry, at }) => ok({ client: registry.client(at("client")) }) },
  "clients/:client/keys": {
    GET: ({ registry, at }) => ok({ keys: registry.keys(at("client")) }),
    POST: ({ registry, at, body }) => {
      const { key, value } = registry.addKey(at("client"), parse(newKey, body ?? {}));
      return created({ key: { ...key, value } });
    },
  },
  "clients/:client/keys/:key": {
    GET: ({ registry, at }) => ok({ key: registry.key(at("client"), at("key")) }),
    DELETE: (call) => setStatus(call, "deleted"),
  },
  "clients/:client/keys/:key/disable": { POST: (call) => setStatus(call, "disabled") },
  "clients/:client/keys/:key/enable": { POST: (call) => setStatus(call, "enabled") },
  "clients/:client/identify": { POST: identify },
  "clients/:client/usage": { GET: usageOf },
};

/**
 * Answers one admin request. Times are ms since 1970 on the server's clock.
 * @throws Refusal for everything that is not done; nothing has changed then.
 */
export function answerAdmin(request: AdminRequest, world: World): AdminAnswer {
  for (const [pattern, methods] of Object.entries(ROUTES)) {
    const places = match(pattern.split("/"), request.segments);
    if (!places) continue;
    const handler = methods[request.method];
    if (!handler) throw new Refusal(405, "method", "this address does not know the method");
    const at = (name: string): string => places.get(name) as string;
    return handler({ ...world, at, query: request.query, body: request.body });
  }
  throw new Refusal(404, "unknown-route", "no such address");
}

function match(pattern: readonly string[], segments: readonly string[]): Map<string, string> | null {
  if (pattern.length !== segments.length) return null;
  const places = new Map<string, string>();
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] as string;
    if (part.startsWith(":")) places.set(part.slice(1), segment);
    else if (part !== segment) return null;
  }
  return places;
}

function setStatus({ registry, at }: Call, status: Key["status"]): AdminAnswer {
  return ok({ key: registry.setStatus(at("client"), at("key"), status) });
}

/** The client's key behind the SHA-256 of a value, so that whoever holds the value need not use it to find out. */
function identify({ registry, at, body }: Call): AdminAnswer {
  const { name } = registry.client(at("client"));
  const key = registry.byHash(parse(wanted, body).sha256);
  return ok({ keyId: key?.client === name && key.status !== "deleted" ? key.id : null });
}

/** Every key the client ever had, or those named by `?key=`, with what was seen of each since `?since=` (ms). */
function usageOf({ registry, usage, at, query, now }: Call): AdminAnswer {
  const since = Number(query.get("since") ?? 0);
  if (!Number.isSafeInteger(since)) throw new Refusal(400, "invalid", "since is no time in ms");
  const asked = new Set(query.getAll("key"));
  const keys = registry.history(at("client")).filter((key) => asked.size === 0 || asked.has(key.id));
  usage.flush();
  const until = now();
  const usageOfKey = ({ id, status, createdAt }: Key) => {
    const from = Math.max(createdAt, usage.watchedFrom);
    return { keyId: id, status, createdAt, from, until, ...usage.of(id, since) };
  };
  return ok({ usage: keys.map(usageOfKey) });
}

function parse<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const places = result.error.issues.map((issue) => issue.path.join(".") || "body");
  throw new Refusal(400, "invalid", `not acceptable: ${[...new Set(places)].join(", ")}`);
}

function ok(body: Readonly<Record<string, unknown>>): AdminAnswer {
  return { status: 200, body };
}

function created(body: Readonly<Record<string, unknown>>): AdminAnswer {
  return { status: 201, body };
}
