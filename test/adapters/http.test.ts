import { createSign, generateKeyPairSync } from "node:crypto";
import http from "node:http";
import https from "node:https";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { proxyOf } from "../../src/adapters/http-proxy.ts";
import { failureOf, request, retryAfterOf, type HttpRequest } from "../../src/adapters/http.ts";
import { ProviderError } from "../../src/core/errors.ts";

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    if (server instanceof http.Server || server instanceof https.Server) server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

async function listening(server: Server): Promise<string> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A server of bare TCP: what it received, connection by connection, and what it does about it. */
async function raw(
  onData: (socket: Socket, text: string) => void = () => {},
): Promise<{ url: string; received: string[]; sockets: Socket[] }> {
  const received: string[] = [];
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    const index = received.push("") - 1;
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", (data) => {
      received[index] += data.toString();
      onData(socket, received[index] as string);
    });
  });
  return { url: await listening(server), received, sockets };
}

const serve = (handler: http.RequestListener): Promise<string> => listening(http.createServer(handler));

const ctx = (signal = new AbortController().signal, fence = () => {}) => ({ signal, fence });
const send = (url: string, more: Partial<HttpRequest> = {}) =>
  request({ method: "POST", url, ctx: ctx(), mutates: true, ...more });

async function failure(promise: Promise<unknown>): Promise<ProviderError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ProviderError);
  return error as ProviderError;
}

describe("request", () => {
  it("sends method, path, headers and body, and hands back the whole answer", async () => {
    const url = await serve((incoming, response) => {
      let body = "";
      incoming.on("data", (chunk) => (body += chunk));
      incoming.on("end", () => {
        const { method, url, headers } = incoming;
        response
          .writeHead(201, { "x-seen": "yes" })
          .end(JSON.stringify([method, url, headers["x-mine"], headers["content-length"], body]));
      });
    });
    const answer = await send(`${url}/a%20b?c=d`, { method: "PUT", headers: { "x-mine": "1" }, body: "hällo" });
    expect([answer.status, answer.headers["x-seen"], answer.json()]).toEqual([
      201,
      "yes",
      ["PUT", "/a%20b?c=d", "1", "6", "hällo"],
    ]);
  });

  it("uses a connection of its own for each call, and none twice unless an agent keeps them", async () => {
    const ports = new Set<number | undefined>();
    const url = await serve((incoming, response) => {
      ports.add(incoming.socket.remotePort);
      response.end();
    });
    await send(url);
    await send(url);
    expect(ports.size).toBe(2);
    const agent = new http.Agent({ keepAlive: true });
    await send(url, { agent });
    await send(url, { agent });
    expect(ports.size).toBe(3);
    agent.destroy();
  });

  it("follows no redirect", async () => {
    const asked: string[] = [];
    const url = await serve((incoming, response) => {
      asked.push(incoming.url ?? "");
      response.writeHead(307, { location: "/elsewhere" }).end();
    });
    const answer = await send(`${url}/here`);
    expect([answer.status, asked]).toEqual([307, ["/here"]]);
    expect(failureOf(answer, "asking", false)).toMatchObject({ kind: "invalid", applied: "no" });
  });
});

describe("the fence", () => {
  it("sends not one byte when it throws, though the connection was there", async () => {
    const server = await raw();
    const refusal = new ProviderError("unavailable", "no", "too late");
    const fence = (): never => {
      throw refusal;
    };
    expect(await failure(send(server.url, { ctx: ctx(undefined, fence), body: "x" }))).toBe(refusal);
    // A second caller's bytes arrive: whatever the first had sent would have been there before them.
    const probe = connect(Number(new URL(server.url).port), "127.0.0.1", () => probe.end("probe"));
    await expect.poll(() => server.received.at(-1)).toBe("probe");
    expect(server.received).toEqual(["", "probe"]);
  });

  it("is called once, with nothing sent before and everything right after", async () => {
    const server = await raw((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    const seen: unknown[] = [];
    const fence = (): void => {
      seen.push(server.received.join(""));
    };
    await send(server.url, { ctx: ctx(undefined, fence), body: "x" });
    expect(seen).toEqual([""]);
    expect(server.received.join("")).toMatch(/^POST \/ HTTP\/1.1[^]*\r\n\r\nx$/);
  });

  it("is not asked for a look, nor where no connection came about", async () => {
    const url = await serve((_, response) => response.end());
    let asked = 0;
    const fence = (): void => void asked++;
    await send(url, { method: "GET", mutates: false, ctx: ctx(undefined, fence) });
    await failure(send("http://127.0.0.1:1", { ctx: ctx(undefined, fence) }));
    expect(asked).toBe(0);
  });

  it("waits for TLS: a handshake that fails has sent no request", async () => {
    let asked = 0;
    const server = createServer((socket) => socket.on("data", () => socket.end("no tls here")).on("error", () => {}));
    const url = (await listening(server)).replace("http:", "https:");
    const error = await failure(send(url, { ctx: ctx(undefined, () => void asked++) }));
    expect([error.kind, error.applied, asked]).toEqual(["unavailable", "no", 0]);
  });

  it("comes after the server's certificate was accepted", async () => {
    let asked = 0;
    const { key, cert } = selfSigned();
    const answering = https.createServer({ key, cert }, (_, response) => response.end("hello"));
    const url = (await listening(answering)).replace("http:", "https:");
    const answer = await send(url, { tls: { ca: cert }, ctx: ctx(undefined, () => void asked++) });
    expect([answer.text, asked]).toEqual(["hello", 1]);
    asked = 0;
    const error = await failure(send(url, { ctx: ctx(undefined, () => void asked++) }));
    expect([error.kind, error.applied, asked]).toEqual(["unavailable", "no", 0]);
    expect(error.message).toMatch(
      /: its certificate is not trusted \((DEPTH_ZERO_)?(SELF_SIGNED|UNABLE_TO_VERIFY)\w+\)$/,
    );
  });
});

describe("a lost answer", () => {
  const refusing = { method: "GET", mutates: false } as const;

  it("connection refused: certainly not applied", async () => {
    expect(await failure(send("http://127.0.0.1:1"))).toMatchObject({ kind: "unavailable", applied: "no" });
  });

  it("closed after the request: maybe applied, a look never", async () => {
    const { url } = await raw((socket) => socket.destroy());
    expect(await failure(send(url))).toMatchObject({ kind: "unavailable", applied: "maybe" });
    expect(await failure(send(url, refusing))).toMatchObject({ kind: "unavailable", applied: "no" });
  });

  it("cut in the middle of the body: maybe applied", async () => {
    const { url } = await raw((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"));
    expect(await failure(send(url))).toMatchObject({ kind: "unavailable", applied: "maybe" });
  });

  it("a server that hangs, before its answer or within", async () => {
    const silent = await raw();
    const error = await failure(send(silent.url, { timeout: 50 }));
    expect(error).toMatchObject({ kind: "unavailable", applied: "maybe" });
    expect(error.message).toBe(`POST ${silent.url}: no full answer within 50 ms`);
    const dripping = await raw((socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"));
    expect(await failure(send(dripping.url, { timeout: 50, ...refusing }))).toMatchObject({ applied: "no" });
  });

  it("interrupted by the signal: before, and while waiting", async () => {
    const server = await raw();
    expect(await failure(send(server.url, { ctx: ctx(AbortSignal.abort()) }))).toMatchObject({ applied: "no" });
    expect(server.received).toEqual([]);
    const stop = new AbortController();
    const waiting = failure(send(server.url, { ctx: ctx(stop.signal) }));
    await expect.poll(() => server.received.length && server.received[0]).toContain("POST");
    stop.abort();
    expect(await waiting).toMatchObject({ kind: "unavailable", applied: "maybe" });
  });

  it("junk: no HTTP, no JSON, too much", async () => {
    const junk = await raw((socket) => socket.end("220 smtp.example ESMTP\r\n"));
    expect(await failure(send(junk.url))).toMatchObject({ kind: "unavailable", applied: "maybe" });
    const url = await serve((incoming, response) =>
      response.end(incoming.url === "/much" ? "x".repeat(1024 * 1024 + 1) : "<html>"),
    );
    const answer = await send(url);
    expect(() => answer.json()).toThrow(ProviderError);
    expect(await failure(send(url).then((answer) => answer.json()))).toMatchObject({
      kind: "unavailable",
      applied: "maybe",
    });
    expect(await failure(send(`${url}/much`))).toMatchObject({ kind: "unavailable", applied: "maybe" });
  });

  it("an unwanted upgrade ends the call", async () => {
    const { url } = await raw((socket) =>
      socket.end("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    );
    expect(await failure(send(url, { timeout: 5_000 }))).toMatchObject({ kind: "unavailable", applied: "maybe" });
  });
});

describe("a proxy", () => {
  /** Takes what it is handed to the target that was asked for. */
  async function proxy(refusal?: number): Promise<{ url: string; asked: (readonly [string, string | undefined])[] }> {
    const asked: (readonly [string, string | undefined])[] = [];
    const server = http.createServer((incoming, outgoing) => {
      asked.push([`${incoming.method} ${incoming.url}`, incoming.headers["proxy-authorization"]]);
      if (refusal !== undefined) return void outgoing.writeHead(refusal).end();
      const { method = "", headers } = incoming;
      const onwards = http.request(incoming.url ?? "", { method, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.pipe(outgoing);
      });
      incoming.pipe(onwards);
    });
    server.on("connect", (incoming, socket) => {
      asked.push([`${incoming.method} ${incoming.url}`, incoming.headers["proxy-authorization"]]);
      if (refusal !== undefined) return void socket.end(`HTTP/1.1 ${refusal} No\r\n\r\n`);
      const onwards = connect(Number((incoming.url ?? "").split(":")[1]), "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 Connected\r\n\r\n");
        socket.pipe(onwards).pipe(socket);
      });
      for (const end of [socket, onwards]) {
        end.on("error", () => {});
        end.on("close", () => void (socket.destroy(), onwards.destroy()));
      }
    });
    return { url: await listening(server), asked };
  }

  async function secure(): Promise<{ url: string; ca: string; requests: string[] }> {
    const requests: string[] = [];
    const { key, cert } = selfSigned();
    const server = https.createServer({ key, cert }, (incoming, response) => {
      requests.push(`${incoming.method} ${incoming.url}`);
      incoming.resume().on("end", () => response.end("hello"));
    });
    return { url: (await listening(server)).replace("http:", "https:"), ca: cert, requests };
  }

  it("is handed http requests, with the user and password of its URL", async () => {
    const { url: via, asked } = await proxy();
    const target = await serve((incoming, response) => response.end(`${incoming.method} ${incoming.url}`));
    const answer = await send(`${target}/a?b=c`, { body: "x", proxy: via.replace("//", "//me:pass%20word@") });
    expect(answer.text).toBe("POST /a?b=c");
    const pair = Buffer.from("me:pass word").toString("base64");
    expect(asked).toEqual([[`POST ${target}/a?b=c`, `Basic ${pair}`]]);
  });

  it("opens a tunnel for https; the fence comes when the target's certificate is accepted", async () => {
    const { url: via, asked } = await proxy();
    const { url, ca, requests } = await secure();
    const fenced: number[] = [];
    const fence = (): void => void fenced.push(requests.length);
    const answer = await send(`${url}/a`, { body: "x", proxy: via, tls: { ca }, ctx: ctx(undefined, fence) });
    expect([answer.text, fenced, requests]).toEqual(["hello", [0], ["POST /a"]]);
    expect(asked).toEqual([[`CONNECT ${new URL(url).host}`, undefined]]);
    const refusal = new ProviderError("unavailable", "no", "too late");
    const late = (): never => {
      throw refusal;
    };
    expect(await failure(send(url, { proxy: via, tls: { ca }, ctx: ctx(undefined, late) }))).toBe(refusal);
    const distrusted = await failure(send(url, { proxy: via, ctx: ctx(undefined, fence) }));
    expect(distrusted).toMatchObject({ kind: "unavailable", applied: "no" });
    expect([fenced, requests]).toEqual([[0], ["POST /a"]]);
  });

  it.each([
    [403, "the proxy answered 403"],
    [407, "the proxy wants a user and a password"],
  ])("that refuses with %i is named, and nothing was sent", async (status, why) => {
    const { url: via } = await proxy(status);
    const error = await failure(send("https://target.invalid/canary", { proxy: via }));
    expect(error).toMatchObject({ kind: "unavailable", applied: "no" });
    expect(error.message).toBe(`POST https://target.invalid: ${why}`);
  });

  it("that is down or no proxy is named, and so is one that hangs", async () => {
    const down = await failure(send("https://target.invalid", { proxy: "http://me:canary@127.0.0.1:1" }));
    expect(down).toMatchObject({ kind: "unavailable", applied: "no" });
    expect(down.message).toContain("the proxy cannot be reached");
    expect(down.detail.hint).toContain("NO_PROXY");
    const plain = await failure(send("http://target.invalid", { proxy: "http://127.0.0.1:1" }));
    expect(plain.message).toBe("POST http://target.invalid: the proxy cannot be reached (ECONNREFUSED)");
    const odd = await failure(send("https://target.invalid", { proxy: "socks5://me:canary@127.0.0.1:1" }));
    expect(odd.message).toContain("the proxy's address cannot be used");
    for (const error of [down, odd]) expect(JSON.stringify([error.message, error.detail])).not.toContain("canary");
    const silent = await raw();
    const hung = await failure(send("https://target.invalid", { proxy: silent.url, timeout: 50 }));
    expect(hung).toMatchObject({ kind: "unavailable", applied: "no" });
  });

  it.each([
    ["https://a.example/x", { HTTPS_PROXY: "http://p:1" }, "http://p:1"],
    ["https://a.example/x", { https_proxy: "p:1", HTTPS_PROXY: "http://q:1" }, "http://p:1"],
    ["http://a.example/x", { HTTPS_PROXY: "http://p:1" }, undefined],
    ["http://a.example/x", { HTTP_PROXY: "http://p:1" }, "http://p:1"],
    ["http://a.example/x", { HTTP_PROXY: "http://p:1", REQUEST_METHOD: "GET" }, undefined],
    ["http://a.example/x", { all_proxy: "http://p:1" }, "http://p:1"],
    ["https://a.example/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "b.example, .example" }, undefined],
    ["https://a.example/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "a.example:8443" }, "http://p:1"],
    ["https://a.example:8443/x", { HTTPS_PROXY: "http://p:1", NO_PROXY: "a.example:8443" }, undefined],
    ["https://xa.example/x", { HTTPS_PROXY: "http://p:1", no_proxy: "a.example" }, "http://p:1"],
    ["https://127.0.0.1/x", { HTTPS_PROXY: "http://p:1", no_proxy: "127.0.0.1" }, undefined],
    ["https://a.example/x", { HTTPS_PROXY: "http://p:1", no_proxy: "*" }, undefined],
    ["https://a.example/x", { HTTPS_PROXY: "" }, undefined],
    ["no url", { HTTPS_PROXY: "http://p:1" }, undefined],
  ])("for %s under %o is %s", (url, env, expected) => {
    expect(proxyOf(url, env)).toBe(expected);
  });
});

describe("errors", () => {
  it("quote neither path, query, user, header nor body", async () => {
    const { url } = await raw((socket) => socket.end("HTTP/1.1 200 canary\r\ncanary\r\n\r\n"));
    const secret = `${url.replace("//", "//canary:canary@")}/canary?canary=canary`;
    const failures = [
      await failure(send(secret, { headers: { "x-canary": "canary" }, body: "canary" })),
      await failure(send(url, { headers: { "x-bad": "canary\r\ncanary" } })),
      await failure(send("canary")),
      await failure(send("ftp://canary@canary/canary")),
    ];
    for (const error of failures)
      expect(JSON.stringify([error.message, error.detail]).replace("ftp://canary", "")).not.toContain("canary");
    expect(failures.map((error) => [error.kind, error.applied]).slice(1)).toEqual([
      ["invalid", "no"],
      ["invalid", "no"],
      ["invalid", "no"],
    ]);
  });

  it("maps each status", () => {
    const judged = [302, 400, 401, 403, 404, 408, 409, 418, 422, 429, 500, 503].map((status) => {
      const { kind, applied } = failureOf({ status, headers: {} }, "asking", true);
      return [status, kind, applied];
    });
    expect(judged).toEqual([
      [302, "invalid", "maybe"],
      [400, "invalid", "no"],
      [401, "unauthenticated", "no"],
      [403, "denied", "no"],
      [404, "not-found", "no"],
      [408, "unavailable", "maybe"],
      [409, "conflict", "no"],
      [418, "invalid", "no"],
      [422, "invalid", "no"],
      [429, "throttled", "no"],
      [500, "unavailable", "maybe"],
      [503, "unavailable", "maybe"],
    ]);
    const throttled = failureOf({ status: 429, headers: { "retry-after": "3" } }, "asking", true);
    expect(throttled).toMatchObject({ detail: { retryAfter: 3000 }, message: "asking: answered 429" });
  });

  it("reads Retry-After as seconds or a date", () => {
    const now = Date.parse("2026-01-02T03:04:05Z");
    expect(retryAfterOf("0", now)).toBe(0);
    expect(retryAfterOf("Fri, 02 Jan 2026 03:04:15 GMT", now)).toBe(10_000);
    expect(retryAfterOf("Fri, 02 Jan 2026 03:04:00 GMT", now)).toBe(0);
    expect(retryAfterOf("soon", now)).toBeNull();
    expect(retryAfterOf(undefined, now)).toBeNull();
  });
});

/** A certificate for 127.0.0.1 that only itself vouches for, written as DER by hand: no key lies about in the tree. */
function selfSigned(): { key: string; cert: string } {
  const der = (tag: number, ...parts: (Buffer | number[])[]): Buffer => {
    const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
    const length = body.length < 128 ? [body.length] : [0x82, body.length >> 8, body.length & 255];
    return Buffer.concat([Buffer.from([tag, ...length]), body]);
  };
  const sequence = (...parts: (Buffer | number[])[]): Buffer => der(0x30, ...parts);
  const time = (text: string): Buffer => der(0x17, Buffer.from(text));
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ecdsaWithSha256 = sequence(der(0x06, [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
  const name = sequence(der(0x31, sequence(der(0x06, [0x55, 0x04, 0x03]), der(0x0c, Buffer.from("keyturn test")))));
  const address = der(0x04, sequence(der(0x87, [127, 0, 0, 1])));
  const extensions = der(0xa3, sequence(sequence(der(0x06, [0x55, 0x1d, 0x11]), address)));
  const content = sequence(
    der(0xa0, der(0x02, [2])),
    der(0x02, [1]),
    ecdsaWithSha256,
    name,
    sequence(time("250101000000Z"), time("491231000000Z")),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    extensions,
  );
  const signature = createSign("sha256").update(content).sign(privateKey);
  const cert = sequence(content, ecdsaWithSha256, der(0x03, [0], signature));
  const pem = `-----BEGIN CERTIFICATE-----\n${cert.toString("base64")}\n-----END CERTIFICATE-----\n`;
  return { key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(), cert: pem };
}
