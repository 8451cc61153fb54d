import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export interface Hole {
  readonly url: string;
  /** What was posted to it. */
  readonly bodies: readonly string[];
}

/** Takes whatever is posted to it and never answers, until the test ends. */
export async function startHole(): Promise<Hole> {
  const bodies: string[] = [];
  const server = createServer((request) => {
    let body = "";
    request.setEncoding("utf8").on("data", (part: string) => (body += part));
    request.on("end", () => bodies.push(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, bodies };
}
