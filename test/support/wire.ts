import { createServer, request, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One HTTP call as it passes, with what an AWS call says of itself. */
export interface WireCall {
  /** 1 for the first since `reset`. */
  readonly n: number;
  /** AWS's action (`CreateAccessKey`); for other servers `METHOD /path`. */
  readonly action: string;
  /** The region and the key that an AWS call is signed for; "" where it is not signed. */
  readonly region: string;
  readonly accessKeyId: string;
  readonly userAgent: string;
  /** A parameter of the form, or a member of the JSON document. */
  param(name: string): string | undefined;
}

export interface WireAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers?: IncomingHttpHeaders;
}

export interface Wire {
  readonly url: string;
  /** Since the last `reset`. */
  readonly calls: readonly WireCall[];
  /** Before a call is forwarded: what happens instead. */
  instead: (call: WireCall) => WireAnswer | "hang" | "cut" | null | Promise<WireAnswer | "hang" | "cut" | null>;
  /** Once it took effect: what the caller gets to hear of it. */
  answer: (call: WireCall, answer: WireAnswer) => WireAnswer | "hang" | "cut" | Promise<WireAnswer | "hang" | "cut">;
  reset(): void;
  close(): Promise<void>;
}

/** Stands on a port of its own before a real server; what is signed for it stays valid, for the host is passed on. */
export async function startWire(target: () => string): Promise<Wire> {
  const calls: WireCall[] = [];
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const body = await bytes(incoming);
    const call = callOf(calls.length + 1, incoming, body.toString("utf8"));
    calls.push(call);
    let answer = await wire.instead(call);
    answer ??= await wire.answer(call, await forward(incoming, body, target()));
    if (answer === "hang") return;
    if (answer === "cut") return void outgoing.destroy();
    const { "content-length": _, "transfer-encoding": __, ...headers } = answer.headers ?? {};
    outgoing.writeHead(answer.status, { ...headers, connection: "close" });
    outgoing.end(answer.body);
  };
  const server = createServer((incoming, outgoing) => void handle(incoming, outgoing).catch(() => outgoing.destroy()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const wire: Wire = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    instead: () => null,
    answer: (_, answer) => answer,
    reset: () => {
      calls.length = 0;
      wire.instead = () => null;
      wire.answer = (_, answer) => answer;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return wire;
}

function callOf(n: number, incoming: IncomingMessage, body: string): WireCall {
  const { authorization = "", "user-agent": userAgent = "", "x-amz-target": target } = incoming.headers;
  const [, accessKeyId = "", region = ""] = /Credential=([^/]+)\/\d+\/([^/]+)\//.exec(authorization) ?? [];
  const form = new URLSearchParams(body);
  const param = (name: string): string | undefined =>
    body.startsWith("{") ? (JSON.parse(body) as Record<string, string>)[name] : (form.get(name) ?? undefined);
  const [path] = (incoming.url ?? "/").split("?");
  const named = typeof target === "string" ? target.split(".").at(-1) : (form.get("Action") ?? undefined);
  return { n, action: named ?? `${incoming.method} ${path}`, region, accessKeyId, userAgent, param };
}

function forward(from: IncomingMessage, body: Buffer, to: string): Promise<WireAnswer> {
  return new Promise((resolve, reject) => {
    const options = { method: from.method ?? "GET", headers: { ...from.headers, connection: "close" }, agent: false };
    const sent = request(new URL(from.url ?? "/", to), options, (answer) => {
      bytes(answer).then(
        (text) => resolve({ status: answer.statusCode ?? 0, body: text.toString("utf8"), headers: answer.headers }),
        reject,
      );
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

async function bytes(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
