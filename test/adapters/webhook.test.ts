import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { adapter } from "../../src/adapters/notifiers/webhook.ts";
import { ProviderError, isTransient } from "../../src/core/errors.ts";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { Notification } from "../../src/ports/notifier.ts";

const NOW = Date.parse("2026-01-02T03:04:05.678Z");
const SECRET = "whsec-canary";

const notification: Notification = {
  id: "evt-payments-7",
  secret: "payments",
  at: NOW - 2000,
  type: "blocked",
  reason: "overlap-maximum",
  message: "the old key is still used – “checkout”",
  data: { consumers: ["checkout"] },
};

interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

let server: Server;
let base: string;
let received: Received[];
let answer: { status: number; headers?: Record<string, string>; body?: string } | "hang" | "cut";

beforeEach(async () => {
  received = [];
  answer = { status: 204 };
  server = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString("utf8");
    received.push({ method: incoming.method ?? "", path: incoming.url ?? "", headers: incoming.headers, body });
    if (answer === "cut") incoming.socket.destroy();
    else if (answer !== "hang") outgoing.writeHead(answer.status, answer.headers).end(answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const deps: AdapterDeps = {
  folder: "/",
  env: {},
  now: () => NOW,
  sleep: () => Promise.resolve(),
  debug: () => {},
  announce: () => {},
};

function context(more: Partial<Ctx> = {}): Ctx {
  return { signal: new AbortController().signal, fence: () => {}, attempt: 1, rotationId: null, ...more };
}

function send(settings: Record<string, unknown> = {}, ctx: Ctx = context()): Promise<void> {
  const parsed = adapter.settings.parse({ url: `${base}/hooks/T0K3N?token=canary`, ...settings });
  return adapter.create(parsed, deps).send(notification, ctx);
}

async function failure(sending: Promise<void>): Promise<ProviderError> {
  const error: unknown = await sending.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ProviderError);
  const told = `${(error as Error).message} ${JSON.stringify((error as ProviderError).detail)}`;
  expect(told).not.toMatch(/canary|T0K3N|overlap-maximum/);
  return error as ProviderError;
}

/** As a receiver would do it, from the headers and the raw body alone. */
function isGenuine({ headers, body }: Received, secret: string, now: number): boolean {
  const timestamp = String(headers["keyturn-timestamp"]);
  const [scheme, given = ""] = String(headers["keyturn-signature"]).split("=");
  const expected = createHmac("sha256", secret).update(`${timestamp}.${body}`).digest();
  const bytes = Buffer.from(given, "hex");
  const fresh = Math.abs(now / 1000 - Number(timestamp)) <= 300;
  return scheme === "v1" && fresh && bytes.length === expected.length && timingSafeEqual(bytes, expected);
}

test("POSTs the notification as JSON", async () => {
  await send();
  const [request] = received;
  expect(request).toMatchObject({ method: "POST", path: "/hooks/T0K3N?token=canary" });
  expect(request?.headers).toMatchObject({
    "content-type": "application/json",
    "keyturn-event-id": "evt-payments-7",
    "keyturn-timestamp": "1767323045",
  });
  expect(request?.headers).not.toHaveProperty("keyturn-signature");
  expect(JSON.parse(request?.body ?? "")).toEqual(notification);
});

test("a receiver can tell that it is genuine, and that a changed, foreign or old one is not", async () => {
  await send({ secret: SECRET });
  const [request] = received as [Received];
  expect(isGenuine(request, SECRET, NOW)).toBe(true);
  expect(isGenuine({ ...request, body: request.body.replace("blocked", "done") }, SECRET, NOW)).toBe(false);
  expect(isGenuine(request, "another", NOW)).toBe(false);
  expect(isGenuine(request, SECRET, NOW + 600_000)).toBe(false);
  const later = { ...request, headers: { ...request.headers, "keyturn-timestamp": "1767323645" } };
  expect(isGenuine(later, SECRET, NOW + 600_000)).toBe(false);
  expect(JSON.stringify(request)).not.toContain(SECRET);
});

test("a second attempt carries the same event id", async () => {
  answer = { status: 503 };
  await failure(send());
  answer = { status: 200, body: "taken" };
  await send({}, context({ attempt: 2 }));
  expect(received.map(({ headers }) => headers["keyturn-event-id"])).toEqual(["evt-payments-7", "evt-payments-7"]);
});

describe("what an answer means", () => {
  test.each([200, 201, 202, 204])("%i: taken", async (status) => {
    answer = { status };
    await expect(send()).resolves.toBeUndefined();
  });

  test.each([400, 401, 403, 404, 405, 410, 413, 422])("%i: refused for good", async (status) => {
    answer = { status, body: "canary" };
    const error = await failure(send());
    expect(isTransient(error.kind)).toBe(false);
    expect(error.applied).toBe("no");
  });

  test.each([408, 409, 425, 429, 500, 502, 503, 504])("%i: later", async (status) => {
    answer = { status, body: "canary" };
    expect(["throttled", "unavailable"]).toContain((await failure(send())).kind);
  });

  test("a redirect is not followed", async () => {
    answer = { status: 307, headers: { location: `${base}/elsewhere` } };
    expect((await failure(send())).kind).toBe("invalid");
    expect(received).toHaveLength(1);
  });

  test("Retry-After is handed on", async () => {
    answer = { status: 429, headers: { "retry-after": "7" } };
    expect(await failure(send())).toMatchObject({ kind: "throttled", detail: { retryAfter: 7000 } });
  });

  test("no answer in time, a cut connection and a closed port: later", async () => {
    answer = "hang";
    expect(await failure(send({ timeout: "200ms" }))).toMatchObject({ kind: "unavailable", applied: "maybe" });
    answer = "cut";
    expect(await failure(send())).toMatchObject({ kind: "unavailable", applied: "maybe" });
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    expect(await failure(send())).toMatchObject({ kind: "unavailable", applied: "no" });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
});

test("an address that is no URL is refused without showing it", async () => {
  expect((await failure(send({ url: "hooks.canary" }))).kind).toBe("invalid");
});

test("a password in the URL becomes basic authentication", async () => {
  await send({ url: base.replace("//", "//bot:p%40ss@") });
  expect(received[0]?.headers.authorization).toBe(`Basic ${btoa("bot:p@ss")}`);
});

test("an abort ends the attempt", async () => {
  answer = "hang";
  const run = new AbortController();
  const sending = failure(send({}, context({ signal: run.signal })));
  await expect.poll(() => received.length).toBe(1);
  run.abort();
  expect((await sending).kind).toBe("unavailable");
});

test("nothing is sent when the call's time has passed", async () => {
  const fence = () => {
    throw new ProviderError("unavailable", "no", "too late");
  };
  expect((await failure(send({}, context({ fence })))).message).toBe("too late");
  expect(received).toEqual([]);
});

test("settings: a duration that is none and an unknown key are refused", () => {
  expect(adapter.settings.safeParse({ url: base, timeout: "soon" }).success).toBe(false);
  expect(adapter.settings.safeParse({ url: base, method: "PUT" }).success).toBe(false);
});
