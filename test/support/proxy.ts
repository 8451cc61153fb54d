import { createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One request on its way to the authority. */
export interface Call {
  /** Counts from 1 since the last `reset`. */
  readonly n: number;
  /** What is asked, without ids: `POST keys`, `POST disable`, `DELETE key`, `GET usage`, `GET whoami`. */
  readonly kind: string;
  readonly mutates: boolean;
}

/** `before`: nothing was forwarded; `between`: done there, nobody told; `after`: the answer is on its way back. */
export type Point = "before" | "between" | "after";
export const POINTS: readonly Point[] = ["before", "between", "after"];

/** What the proxy does instead of forwarding. */
export type Instead = { readonly status: number; readonly body: string } | "hang" | "cut";

export interface Proxy {
  readonly url: string;
  /** Since the last `reset`. */
  readonly calls: readonly Call[];
  /** Every key value that ever passed through, told or not. */
  readonly issued: ReadonlySet<string>;
  /** Asked at each point of each call; the call is held for as long as the promise is pending. */
  at: (call: Call, point: Point) => Promise<void> | void;
  /** Asked before a call is forwarded. */
  instead: (call: Call) => Instead | null;
  /** Counts anew, with nothing in the way. */
  reset(): void;
  close(): Promise<void>;
}

/** Stands between the command line and the authority on a port of its own, where every call can be interfered with. */
export async function startProxy(target: () => string): Promise<Proxy> {
  const calls: Call[] = [];
  const issued = new Set<string>();
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const body = await bytes(incoming);
    const kind = kindOf(incoming.method ?? "", incoming.url ?? "");
    const call = { n: calls.length + 1, kind, mutates: MUTATING.has(kind) };
    calls.push(call);
    await proxy.at(call, "before");
    const instead = proxy.instead(call);
    if (instead === "hang") return;
    if (instead === "cut") return void outgoing.destroy();
    const answer = instead ?? (await forward(incoming, body, target()));
    const value = kind === "POST keys" ? (valueIn(answer.body) ?? null) : null;
    if (value !== null) issued.add(value);
    await proxy.at(call, "between");
    outgoing.writeHead(answer.status, { "content-type": "application/json", connection: "close" });
    outgoing.end(answer.body, () => void proxy.at(call, "after"));
  };
  const server = createServer((incoming, outgoing) => void handle(incoming, outgoing).catch(() => outgoing.destroy()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  const proxy: Proxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    issued,
    at: () => undefined,
    instead: () => null,
    reset: () => {
      calls.length = 0;
      proxy.at = () => undefined;
      proxy.instead = () => null;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return proxy;
}

const MUTATING: ReadonlySet<string> = new Set(["POST keys", "POST disable", "POST enable", "DELETE key"]);

function kindOf(method: string, url: string): string {
  const [path = ""] = url.split("?");
  const parts = path.split("/").slice(2);
  if (parts[0] === "whoami") return `${method} whoami`;
  const [, , , what = "client", id, verb] = parts;
  return `${method} ${verb ?? (id === undefined ? what : "key")}`;
}

async function bytes(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function forward(from: IncomingMessage, body: Buffer, to: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = { ...from.headers, connection: "close" };
    const sent = request(
      new URL(from.url ?? "/", to),
      { method: from.method ?? "GET", headers, agent: false },
      (answer) => {
        bytes(answer).then((text) => resolve({ status: answer.statusCode ?? 0, body: text.toString("utf8") }), reject);
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

function valueIn(body: string): string | undefined {
  try {
    return (JSON.parse(body) as { key?: { value?: string } }).key?.value;
  } catch {
    return undefined;
  }
}
