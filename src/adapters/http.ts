import { setMaxListeners } from "node:events";
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from "node:http";
import http from "node:http";
import https from "node:https";
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { formatDuration, type Duration } from "../core/duration.ts";
import { ProviderError, type Applied, type ProviderErrorKind } from "../core/errors.ts";
import type { Ctx } from "../ports/context.ts";
import { proxyHeaders, tunnel } from "./http-proxy.ts";

const DEFAULT_TIMEOUT: Duration = 10_000;
const ANSWER_MAX = 1024 * 1024;

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "LIST";
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** For the whole call, connecting included. 10 s unless told. */
  readonly timeout?: Duration;
  readonly ctx: Pick<Ctx, "signal" | "fence">;
  /** Whether the request may change something: then it is fenced, and a lost answer is applied `maybe`. */
  readonly mutates: boolean;
  /** Keeps connections for the calls that follow. Without it each call has its own. */
  readonly agent?: http.Agent;
  readonly tls?: TlsOptions;
  /** A proxy's URL: http requests are handed to it, for https ones it is asked for a tunnel. See {@link proxyOf}. */
  readonly proxy?: string;
}

/** `ca`: certificates in PEM that are trusted instead of the system's; `cert` and `key`: our own, in PEM. */
export type TlsOptions = Pick<ConnectionOptions, "ca" | "cert" | "key" | "servername" | "rejectUnauthorized">;

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** @throws ProviderError `unavailable`, applied `maybe` for a mutating request, when the body is no JSON. */
  json(): unknown;
}

/**
 * Sends one request and reads the whole answer, whatever its status ({@link failureOf} judges that). Follows no
 * redirect, tries nothing twice, quotes no header, body, path or query: paths of webhooks are credentials too.
 *
 * A mutating request calls `ctx.fence` on an established connection (TLS done), in the same tick as the write and
 * right before it. What the fence throws is passed on, and not one byte has left.
 *
 * @throws ProviderError `unavailable`: applied `no` when nothing was written, or nothing can have changed, else
 * `maybe`; `invalid` for a URL or a header that cannot be sent.
 */
export function request(options: HttpRequest): Promise<HttpAnswer> {
  const { ctx, mutates } = options;
  return new Promise((resolve, reject) => {
    let written = false;
    let settled = false;
    let outgoing: ClientRequest | undefined;
    const over = new AbortController();
    const place = originOf(options.url);
    const lost = (why: string): ProviderError => {
      const applied: Applied = mutates && written ? "maybe" : "no";
      const detail = why.startsWith("the proxy") ? { hint: PROXY_HINT } : {};
      return new ProviderError("unavailable", applied, `${options.method} ${place}: ${why}`, detail);
    };
    const settle = (finish: () => void): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      ctx.signal.removeEventListener("abort", onAbort);
      over.abort();
      finish();
    };
    const fail = (error: unknown): void => {
      settle(() => reject(error));
      outgoing?.destroy();
    };
    const onAbort = (): void => fail(lost("interrupted"));
    const timeout = options.timeout ?? DEFAULT_TIMEOUT;
    const timer = setTimeout(() => fail(lost(`no full answer within ${formatDuration(timeout)}`)), timeout);
    // As many calls listen to it as are in the air: no leak.
    setMaxListeners(0, ctx.signal);
    ctx.signal.addEventListener("abort", onAbort);
    if (ctx.signal.aborted) return onAbort();

    try {
      outgoing = open(options, over.signal);
    } catch {
      return fail(new ProviderError("invalid", "no", `${options.method} ${place}: not a request that can be sent`));
    }
    const sending = outgoing;
    const write = (): void => {
      if (settled) return;
      try {
        if (mutates) ctx.fence();
      } catch (refusal) {
        return fail(refusal);
      }
      written = true;
      sending.end(options.body);
    };
    sending.once("socket", (socket) => whenReady(socket, sending.protocol === "https:", write));
    const onClose = (): void => fail(lost("the connection was closed"));
    const viaProxy = options.proxy !== undefined && options.url.startsWith("http:");
    sending.on("error", (error) => fail(lost(explain(error, viaProxy && !written))));
    sending.once("close", onClose);
    sending.once("response", (incoming) => {
      sending.off("close", onClose);
      readAll(incoming).then(
        (text) => settle(() => resolve(answerOf(incoming, text, () => lost("the answer is not JSON")))),
        (error: unknown) => fail(lost(explain(error))),
      );
    });
  });
}

/** A URL as errors may show it: scheme, host and port only. */
export function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : "an address that is no URL";
}

const KINDS: Readonly<Record<number, ProviderErrorKind>> = {
  400: "invalid",
  401: "unauthenticated",
  403: "denied",
  404: "not-found",
  408: "unavailable",
  409: "conflict",
  422: "invalid",
  429: "throttled",
};

/**
 * What a status other than success means. 4xx was refused, so applied `no`; a redirect, a 408 or a 5xx of a
 * mutating request may still have done something.
 *
 * @param what what was being done, in the adapter's own words: "listing keys"
 */
export function failureOf(
  answer: Pick<HttpAnswer, "status" | "headers">,
  what: string,
  mutates: boolean,
): ProviderError {
  const { status } = answer;
  const kind = KINDS[status] ?? (status >= 500 ? "unavailable" : "invalid");
  const refused = status >= 400 && status < 500 && status !== 408;
  const retryAfter = retryAfterOf(answer.headers["retry-after"], Date.now());
  const detail = retryAfter === null ? {} : { retryAfter };
  return new ProviderError(kind, mutates && !refused ? "maybe" : "no", `${what}: answered ${status}`, detail);
}

/** `Retry-After`, seconds or a date, as ms from now; null when there is none or it makes no sense. */
export function retryAfterOf(header: string | undefined, now: number): Duration | null {
  if (header === undefined) return null;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}

/** The request with its connection under way; nothing is written before `end`. `over` ends a tunnel, made or not. */
function open({ method, url, headers, agent, tls, proxy }: HttpRequest, over: AbortSignal): ClientRequest {
  const target = new URL(url);
  const secure = target.protocol === "https:";
  if (!secure && target.protocol !== "http:") throw new TypeError("neither http nor https");
  const common = { method, headers: { ...headers }, agent: agent ?? false, ...tls };
  if (proxy === undefined) return secure ? https.request(target, common) : http.request(target, common);
  const via = new URL(proxy);
  if (!secure) {
    const whole = { path: `${target.origin}${target.pathname}${target.search}` };
    const forProxy = { ...common.headers, host: target.host, ...proxyHeaders(via) };
    return (via.protocol === "https:" ? https : http).request(new URL(via.origin), {
      ...common,
      ...whole,
      headers: forProxy,
    });
  }
  const { agent: _none, ...own } = common;
  return https.request(target, {
    ...own,
    createConnection: (_options, done) => {
      tunnel(via, target, tls ?? {}, over, done);
      return undefined;
    },
  });
}

/** Calls back in the tick in which the connection is there, or at once when it is an old one. */
function whenReady(socket: Socket, secure: boolean, ready: () => void): void {
  if (socket.connecting) socket.once(secure ? "secureConnect" : "connect", ready);
  else ready();
}

async function readAll(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > ANSWER_MAX) throw new Error("too large", { cause: "too-large" });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function answerOf(incoming: IncomingMessage, text: string, junk: () => ProviderError): HttpAnswer {
  const json = (): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      throw junk();
    }
  };
  return { status: incoming.statusCode ?? 0, headers: incoming.headers, text, json };
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "the connection was closed",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "the host's name cannot be looked up now",
  ETIMEDOUT: "the host does not answer",
  EHOSTUNREACH: "the host cannot be reached",
  ENETUNREACH: "the network cannot be reached",
};

const PROXY_HINT = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY";
const DISTRUST = /^(?:ERR_TLS_)?CERT_|^UNABLE_TO_|SELF_SIGNED/;

/** Whether what is told is a certificate that nobody here vouches for. */
export function isDistrust({ message }: Error): boolean {
  return message.includes(": its certificate is not trusted ");
}

/**
 * Our words for an error of the network; the code where we have none; never its message.
 *
 * @param ofProxy it was a proxy that was called, and nothing was written yet
 */
export function explain(error: unknown, ofProxy = false): string {
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  if (cause === "too-large") return "the answer is larger than 1 MiB";
  if (typeof cause === "object" && cause !== null && "proxy" in cause) return String(cause.proxy);
  if (typeof code !== "string" || !/^[A-Z0-9_]+$/.test(code)) return "the connection failed";
  if (ofProxy) return `the proxy cannot be reached (${code})`;
  if (DISTRUST.test(code)) return `its certificate is not trusted (${code})`;
  return REASONS[code] ?? `the connection failed (${code})`;
}
