import { timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { answerAdmin } from "./admin.ts";
import { closeDatabase, openDatabase } from "./database.ts";
import { Refusal } from "./refusal.ts";
import { Registry } from "./registry.ts";
import { UsageBook } from "./usage.ts";
import { hashOf } from "./value.ts";
import { bearerToken, whoami } from "./whoami.ts";

const BODY_MAX = 64 * 1024;
const DRAIN = 5_000;

export interface AuthorityOptions {
  /** The database file; made when it is not there. */
  readonly db: string;
  /** 127.0.0.1 unless told. The server speaks plain HTTP: put TLS before it on any other address. */
  readonly host?: string;
  /** 0, the default: any free one. */
  readonly port?: number;
  /** Printable ASCII without spaces: it has to fit into a header. */
  readonly adminToken: string;
  /** Wall clock, ms. */
  readonly now?: () => number;
}

export interface RunningAuthority {
  /** `http://127.0.0.1:8787`, no slash at the end. */
  readonly url: string;
  /** Answers what is under way (for up to 5 s), refuses what is new, writes everything down. */
  close(): Promise<void>;
}

/**
 * Starts the API-key authority: `GET /v1/whoami` for callers, `/v1/admin/…` for whoever holds the admin token.
 * Every admin answer carries `authority` (the database's own id) and `now` (ms).
 *
 * @throws DatabaseUnusable, TypeError for a token that nobody could send, or the system error of `listen`.
 */
export async function startAuthority(options: AuthorityOptions): Promise<RunningAuthority> {
  if (!isUsableToken(options.adminToken))
    throw new TypeError("the admin token is empty, or holds more than printable ASCII");
  const now = options.now ?? Date.now;
  const db = openDatabase(options.db);
  const registry = new Registry(db, now);
  const usage = new UsageBook(db, now);
  const isAdmin = tokenCheck(options.adminToken);

  const admin = async (request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> => {
    const stamp = () => ({ authority: registry.authority, now: now() });
    try {
      if (!isAdmin(request.headers.authorization))
        throw new Refusal(401, "unauthenticated", "the admin token is needed");
      const body = await readJson(request);
      const segments = url.pathname.split("/").slice(3).map(decode);
      const call = { method: request.method ?? "", segments, query: url.searchParams, body };
      const answer = answerAdmin(call, { registry, usage, now });
      send(response, answer.status, { ...stamp(), ...answer.body });
    } catch (error) {
      const { status, code, message } =
        error instanceof Refusal ? error : new Refusal(500, "failed", "could not be done");
      if (!request.complete) response.setHeader("connection", "close");
      send(response, status, { ...stamp(), error: { code, message } });
    }
  };

  const server = createServer((request, response) => {
    const url = parseUrl(request.url);
    if (url?.pathname === "/v1/whoami") {
      if (request.method !== "GET") return refuse(response, 405, "method");
      const { status, body } = whoami(request.headers, registry, usage, now());
      return send(response, status, body);
    }
    if (url?.pathname.startsWith("/v1/admin/")) return void admin(request, response, url);
    return refuse(response, 404, "unknown-route");
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 15_000;
  server.keepAliveTimeout = 60_000;

  const shut = (): void => {
    usage.close();
    closeDatabase(db);
  };
  try {
    await listen(server, options.port ?? 0, options.host ?? "127.0.0.1");
  } catch (error) {
    shut();
    throw error;
  }
  let closed: Promise<void> | undefined;
  return {
    url: addressOf(server),
    close: () => (closed ??= drain(server).then(shut)),
  };
}

export function isUsableToken(token: string): boolean {
  return /^[!-~]+$/.test(token);
}

/** Compares digests, which have one length, so that the time taken tells nothing of the token. */
function tokenCheck(token: string): (authorization: string | undefined) => boolean {
  const wanted = Buffer.from(hashOf(token));
  return (authorization) => timingSafeEqual(Buffer.from(hashOf(bearerToken(authorization) ?? "")), wanted);
}

/** @throws Refusal when there is more than 64 KiB, or no JSON. */
async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_MAX) throw new Refusal(413, "too-large", "the body is larger than 64 KiB");
    chunks.push(chunk);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8")) as unknown;
  } catch {
    throw new Refusal(400, "malformed", "the body is not JSON");
  }
}

function send(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
  });
  response.end(text);
}

function refuse(response: ServerResponse, status: number, error: string): void {
  send(response, status, { error });
}

function parseUrl(target: string | undefined): URL | null {
  return URL.canParse(target ?? "", "http://authority") ? new URL(target ?? "", "http://authority") : null;
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new Refusal(404, "unknown-route", "no such address");
  }
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function addressOf(server: Server): string {
  const { address, family, port } = server.address() as AddressInfo;
  return `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
}

/** `close` ends the connections that are idle now; those that become idle later have to be ended as well. */
function drain(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const sweep = setInterval(() => server.closeIdleConnections(), 50);
    const cut = setTimeout(() => server.closeAllConnections(), DRAIN);
    server.close(() => {
      clearInterval(sweep);
      clearTimeout(cut);
      resolve();
    });
  });
}
