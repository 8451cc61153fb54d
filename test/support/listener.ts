import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export interface Listener {
  readonly url: string;
  /** `METHOD /path body`, in order. */
  readonly calls: readonly string[];
}

/** Takes whatever is posted to it, until the test ends. */
export async function startListener(): Promise<Listener> {
  const calls: string[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (part: string) => (body += part));
    request.on("end", () => {
      calls.push(`${request.method} ${request.url} ${body}`);
      response.writeHead(200, { connection: "close" }).end("OK");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls };
}
