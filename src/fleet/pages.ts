import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { UserError } from "../core/errors.ts";

export interface Pages {
  /** What stands in the way of work, or of some of it. */
  readonly ready: () => Promise<{ readonly obstacle: string | null; readonly remarks: readonly string[] }>;
  readonly metrics: () => Promise<{ readonly type: string; readonly text: string }>;
}

export interface Site {
  readonly url: string;
  close(): Promise<void>;
}

interface Page {
  readonly status: number;
  readonly type?: string;
  readonly text: string;
}

/** `/healthz`, `/readyz` and `/metrics`, for whoever reaches this address: names of secrets are there, values are not. */
export async function openSite(host: string, port: number, pages: Pages): Promise<Site> {
  const find = async (path: string): Promise<Page> => {
    switch (path) {
      case "/healthz":
        return { status: 200, text: "ok\n" };
      case "/readyz": {
        const { obstacle, remarks } = await pages.ready();
        const text = [obstacle ?? "ok", ...remarks].map((line) => `${line}\n`).join("");
        return { status: obstacle === null ? 200 : 503, text };
      }
      case "/metrics":
        return { status: 200, ...(await pages.metrics()) };
      default:
        return { status: 404, text: "there are /healthz, /readyz and /metrics\n" };
    }
  };
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = (request.url ?? "").replace(/\?.*$/, "");
    const isRead = request.method === "GET" || request.method === "HEAD";
    const failed: Page = { status: 500, text: "failed\n" };
    const page = isRead ? await find(path).catch(() => failed) : { status: 405, text: "GET only\n" };
    const { status, type = "text/plain; charset=utf-8", text } = page as Page;
    response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text) });
    response.end(request.method === "HEAD" ? undefined : text);
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve, reject) => {
    server.once("error", ({ code = "?" }: NodeJS.ErrnoException) => {
      const message = `cannot listen on ${host}:${port} (${code})`;
      reject(new UserError("cannot-listen", message, { exit: 1, hints: ["give another --listen HOST:PORT"] }));
    });
    server.listen(port, host, resolve);
  });
  const { port: at } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${at}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
