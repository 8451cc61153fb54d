import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { bench, policyOf, type Bench } from "../cli/harness.ts";
import { CommandLine } from "../support/command-line.ts";

let cli: CommandLine;
let b: Bench;
let server: Server;
let calls: string[];
let status: number;
beforeAll(() => {
  cli = new CommandLine();
});
beforeEach(async () => {
  b = await bench();
  [calls, status] = [[], 200];
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += String(part)));
    request.on("end", () => {
      calls.push(`${request.method} ${request.url} ${body}`);
      response.writeHead(status).end("OK");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  policy(b.authority.url);
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await b.close();
});
afterAll(() => cli.remove());

function policy(authority: string): void {
  const { port } = server.address() as AddressInfo;
  b.env["ALIVE"] = `http://127.0.0.1:${port}/ping/canary-uuid?x=1`;
  b.policy(`${policyOf(authority)}notifiers: { alive: { type: heartbeat, url: "\${env:ALIVE}" } }\n`);
}

const keyturn = (...args: string[]) => cli.run({ folder: b.folder, env: b.env }, ...args);

test("a run over all secrets calls, with nothing due too; another verb, or a run of some of them, does not", async () => {
  expect((await keyturn("rotate", "--all")).code).toBe(0);
  expect((await keyturn("run", "one")).code).toBe(0);
  expect((await keyturn("check")).code).toBe(0);
  expect(calls).toEqual([]);
  expect((await keyturn("run")).code).toBe(0);
  // Nothing is due: the switch is held all the same.
  expect((await keyturn("run")).code).toBe(0);
  const well = "POST /ping/canary-uuid?x=1 run: done: 2 done";
  expect(calls).toEqual([well, well]);
});

test("a run that fails, or is blocked, says so", async () => {
  await keyturn("rotate", "--all");
  policy("http://127.0.0.1:1");
  await keyturn("rotate", "one");
  expect((await keyturn("run")).code).not.toBe(0);
  expect((await keyturn("run", "--state", "postgres://127.0.0.1:1/none")).code).not.toBe(0);
  expect(calls).toHaveLength(2);
  expect(calls[0]).toMatch(/^POST \/ping\/canary-uuid\/fail\?x=1 run: (failed|blocked): /);
  expect(calls[1]).toBe("POST /ping/canary-uuid/fail?x=1 run: failed as a whole");
});

test("it hangs on no other notifier, and none that hears of no run is made for it", async () => {
  const { port } = server.address() as AddressInfo;
  const others = 'ops: { type: webhook, url: "${env:NOT_THERE}" }';
  const alive = `alive: { type: heartbeat, url: "http://127.0.0.1:${port}/x" }`;
  const secrets = policyOf(b.authority.url);
  for (const [notifiers, beats] of [
    [`${others}, ${alive}`, 1],
    [others, 0],
  ] as const) {
    calls = [];
    b.policy(`${secrets}notifiers: { ${notifiers} }\n`);
    const { stderr } = await keyturn("run");
    expect(calls).toHaveLength(beats);
    expect(stderr).not.toContain("no heartbeat");
  }
});

test("a call that is refused is a warning that does not repeat the URL", async () => {
  status = 500;
  const { code, stderr } = await keyturn("run");
  expect(code).toBe(0);
  expect(stderr).toMatch(/warning: alive: calling http:\/\/127\.0\.0\.1:\d+: answered 500/);
  expect(stderr).not.toContain("canary-uuid");
});
