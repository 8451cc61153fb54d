import type { ClientRequest } from "node:http";
import http from "node:http";
import https from "node:https";
import { isIP, type Socket } from "node:net";
import tls, { type ConnectionOptions } from "node:tls";

type Env = Readonly<Record<string, string | undefined>>;

/**
 * The proxy that a URL is reached through: `https_proxy` or `http_proxy` by its scheme, else `all_proxy`, unless
 * `no_proxy` names the host (`.example.com`, `example.com`, `host:port`, `*`). Small letters win, as with curl;
 * `HTTP_PROXY` in capitals is not read where a web server may have set it (`REQUEST_METHOD`).
 */
export function proxyOf(url: string, env: Env): string | undefined {
  if (!URL.canParse(url)) return undefined;
  const target = new URL(url);
  const read = (name: string): string => env[name] || env[name.toUpperCase()] || "";
  if (
    read("no_proxy")
      .split(/[\s,]+/)
      .some((rule) => exempts(rule, target))
  )
    return undefined;
  const own =
    target.protocol === "https:"
      ? read("https_proxy")
      : env["http_proxy"] || (env["REQUEST_METHOD"] === undefined && env["HTTP_PROXY"]);
  const proxy = own || read("all_proxy");
  if (!proxy) return undefined;
  return proxy.includes("://") ? proxy : `http://${proxy}`;
}

function exempts(rule: string, target: URL): boolean {
  if (rule === "*") return true;
  const [, name = "", port] = /^\*?\.?(.*?)(?::(\d+))?$/.exec(rule.toLowerCase()) ?? [];
  if (name === "") return false;
  const at = target.port || (target.protocol === "https:" ? "443" : "80");
  if (port !== undefined && port !== at) return false;
  const host = target.hostname.replace(/^\[|\]$/g, "");
  return host === name || (isIP(host) === 0 && host.endsWith(`.${name}`));
}

/** What a proxy wants to know of us besides: the user and password in its own URL. */
export function proxyHeaders(proxy: URL): Record<string, string> {
  if (proxy.username === "") return {};
  const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { "proxy-authorization": `Basic ${Buffer.from(pair).toString("base64")}` };
}

/**
 * Opens a TLS connection to the target through a proxy; calls back once it is ready to be written to.
 * An error has `cause: { proxy }`, our words, where the proxy is at fault.
 */
export function tunnel(
  proxy: URL,
  target: URL,
  options: ConnectionOptions,
  signal: AbortSignal,
  done: (error: Error | null, socket: Socket) => void,
): void {
  const path = `${target.hostname}:${target.port || "443"}`;
  const fail = (error: Error): void => done(error, undefined as never);
  const faulty = (why: string): void => fail(new Error(why, { cause: { proxy: why } }));
  const headers = { host: path, ...proxyHeaders(proxy) };
  let asking: ClientRequest;
  try {
    const request = proxy.protocol === "https:" ? https.request : http.request;
    asking = request(new URL(proxy.origin), { method: "CONNECT", path, headers, agent: false, signal });
  } catch {
    return faulty("the proxy's address cannot be used");
  }
  asking.once("connect", ({ statusCode }, socket) => {
    if (statusCode === 200) return secured(socket, target, options, signal, fail, (ready) => done(null, ready));
    socket.destroy();
    faulty(statusCode === 407 ? "the proxy wants a user and a password" : `the proxy answered ${statusCode}`);
  });
  asking.once("response", ({ statusCode }) => {
    asking.destroy();
    faulty(`the proxy answered ${statusCode}`);
  });
  asking.once("error", (error) => faulty(`the proxy cannot be reached (${(error as { code?: string }).code ?? "?"})`));
  asking.end();
}

function secured(
  socket: Socket,
  target: URL,
  options: ConnectionOptions,
  signal: AbortSignal,
  fail: (error: Error) => void,
  ready: (socket: Socket) => void,
): void {
  const host = target.hostname.replace(/^\[|\]$/g, "");
  const servername = isIP(host) === 0 ? { servername: host } : {};
  const secure = tls.connect({ host, ...servername, ALPNProtocols: ["http/1.1"], ...options, socket });
  const abort = (): void => void (secure.destroy(), socket.destroy());
  const closed = (): void => fail(new Error("closed", { cause: { proxy: "the connection was closed" } }));
  signal.addEventListener("abort", abort, { once: true });
  secure.once("error", fail);
  secure.once("close", closed);
  secure.once("secureConnect", () => {
    secure.off("error", fail).off("close", closed);
    ready(secure);
  });
}
