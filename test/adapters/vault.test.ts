import { generateKeyPairSync, sign } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http, { type IncomingHttpHeaders, type ServerResponse } from "node:http";
import https from "node:https";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { auth } from "../../src/adapters/vault-auth.ts";
import { signed } from "../../src/adapters/vault-aws.ts";
import { Vault } from "../../src/adapters/vault.ts";
import { ProviderError } from "../../src/core/errors.ts";
import { ctx, fencedCtx } from "../contract/store.ts";
import { motoPython, startMoto } from "../support/moto.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { depsOf } from "./vault-support.ts";

const there = await baoProgram();
const anything = z.object({ data: z.unknown() });
const ofSelf = { method: "GET", path: "auth/token/lookup-self", what: "looking", needs: ["read"] } as const;
const self = z.object({ data: z.object({ display_name: z.string(), policies: z.array(z.string()) }) });

let bao: Bao;
let secure: Bao;
let folder: string;
const servers: Server[] = [];
beforeAll(async () => {
  if (!there) return;
  [bao, secure] = await Promise.all([startBao(), startBao({ tls: true })]);
  folder = mkdtempSync(join(tmpdir(), "keyturn-vault-"));
});
afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve));
});
afterAll(async () => {
  await Promise.all([bao?.stop(), secure?.stop()]);
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

interface Passing {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  // oxlint-disable-next-line typescript/no-explicit-any -- whatever was sent
  readonly body: any;
}

/** Stands before the real server; `instead` may answer a request, `also` adds headers to the answer. */
async function relay(
  instead: (call: Passing, to: ServerResponse) => boolean = () => false,
  also: (call: Passing) => Record<string, string> = () => ({}),
): Promise<{ readonly address: string; readonly calls: Passing[] }> {
  const calls: Passing[] = [];
  const server = http.createServer((incoming, outgoing) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString();
      const { method = "", url: path = "", headers } = incoming;
      const call = { method, path, headers, body: text === "" ? null : JSON.parse(text) };
      calls.push(call);
      if (instead(call, outgoing)) return;
      // A server without a cluster takes no index.
      const { host: _, "content-length": __, "transfer-encoding": ___, "x-vault-index": ____, ...rest } = headers;
      const answer = await fetch(`${bao.address}${path}`, {
        method,
        headers: { ...(rest as Record<string, string>), connection: "close" },
        body: text === "" ? null : text,
      });
      outgoing.writeHead(answer.status, { date: answer.headers.get("date") ?? "", connection: "close", ...also(call) });
      outgoing.end(await answer.text());
    })().catch(() => outgoing.destroy());
  });
  return { address: await listening(server, "http"), calls };
}

async function listening(server: Server, scheme: string): Promise<string> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const vault = (env: Record<string, string>, how?: z.input<typeof auth>, more: object = {}): Vault =>
  new Vault({ ...(how && { auth: auth.parse(how) }) }, depsOf(env, more));
const me = async (one: Vault) => (await one.get(self, ofSelf, ctx())).data;

async function refusal(call: Promise<unknown>): Promise<ProviderError> {
  const error = await call.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ProviderError);
  return error as ProviderError;
}

describe.runIf(there)("reaching Vault", () => {
  const env = (more: Record<string, string> = {}) => ({
    VAULT_ADDR: secure.address,
    VAULT_TOKEN: secure.rootToken,
    ...more,
  });

  test("the authority's certificate: by file, by text, by folder; else it is not trusted", async () => {
    const certs = mkdtempSync(join(folder, "ca-"));
    const pem = readFileSync(secure.caFile, "utf8");
    writeFileSync(join(certs, "one.pem"), pem);
    for (const more of [
      { VAULT_CACERT: secure.caFile },
      { VAULT_CACERT_BYTES: pem },
      { VAULT_CAPATH: certs },
      { VAULT_SKIP_VERIFY: "true" },
    ])
      expect((await me(vault(env(more)))).policies).toEqual(["root"]);
    for (const more of [{}, { VAULT_SKIP_VERIFY: "false" }]) {
      const error = await refusal(me(vault(env(more))));
      expect(error).toMatchObject({ kind: "unavailable", applied: "no" });
      expect(error.detail.hint).toContain("VAULT_CACERT");
    }
    const error = await refusal(me(vault(env({ VAULT_CACERT: "/nonexistent.pem" }))));
    expect(error).toMatchObject({
      kind: "invalid",
      message: expect.stringContaining("VAULT_CACERT names /nonexistent.pem"),
    });
  });

  test("the server's name may be told", async () => {
    const address = secure.address.replace("127.0.0.1", "localhost");
    const ca = { VAULT_CACERT: secure.caFile };
    const names = { VAULT_TLS_SERVER_NAME: "not.its.name" };
    expect((await me(vault(env({ VAULT_ADDR: address, ...ca })))).policies).toEqual(["root"]);
    const error = await refusal(me(vault(env({ VAULT_ADDR: address, ...ca, ...names }))));
    expect(error).toMatchObject({ kind: "unavailable", applied: "no" });
  });

  test("a client certificate is shown", async () => {
    const home = dirname(secure.caFile);
    const own = { cert: readFileSync(join(home, "vault-cert.pem")), key: readFileSync(join(home, "vault-key.pem")) };
    const asks = { ...own, ca: readFileSync(secure.caFile), requestCert: true, rejectUnauthorized: true };
    const server = https.createServer(asks, (_, outgoing) => {
      outgoing.end(JSON.stringify({ data: { display_name: "shown", policies: [] } }));
    });
    const address = await listening(server, "https");
    const shown = {
      VAULT_CACERT: secure.caFile,
      VAULT_CLIENT_CERT: join(home, "vault-cert.pem"),
      VAULT_CLIENT_KEY: join(home, "vault-key.pem"),
    };
    expect((await me(vault(env({ VAULT_ADDR: address, ...shown })))).display_name).toBe("shown");
    const error = await refusal(me(vault(env({ VAULT_ADDR: address, VAULT_CACERT: secure.caFile }))));
    expect(error).toMatchObject({ kind: "unavailable" });
  });

  test("a standby's redirect is followed where TLS shows who answers, and nowhere else", async () => {
    const home = dirname(secure.caFile);
    const own = { cert: readFileSync(join(home, "vault-cert.pem")), key: readFileSync(join(home, "vault-key.pem")) };
    let seen = 0;
    const onward = (to: string) => (incoming: http.IncomingMessage, outgoing: ServerResponse) => {
      seen++;
      outgoing.writeHead(307, { location: `${to}${incoming.url}`, connection: "close" });
      outgoing.end();
    };
    const toTls = await listening(https.createServer(own, onward(secure.address)), "https");
    const toPlain = await listening(https.createServer(own, onward(bao.address)), "https");
    const fromPlain = await listening(http.createServer(onward(secure.address)), "http");
    const ca = { VAULT_CACERT: secure.caFile };
    expect((await me(vault(env({ VAULT_ADDR: toTls, ...ca })))).policies).toEqual(["root"]);
    const write = {
      method: "POST",
      path: "secret/data/r",
      body: { data: { a: "1" } },
      what: "writing",
      needs: [],
      mutates: true,
    } as const;
    await vault(env({ VAULT_ADDR: toTls, ...ca })).do(write, ctx());
    expect((await secure.must("GET", "secret/data/r")).data).toEqual({ a: "1" });
    await expect(vault(env({ VAULT_ADDR: toTls, ...ca })).do(write, fencedCtx())).rejects.toMatchObject({
      applied: "no",
    });
    for (const [address, more] of [
      [toPlain, ca],
      [fromPlain, ca],
      [toTls, { VAULT_SKIP_VERIFY: "1" }],
    ] as const) {
      const error = await refusal(vault(env({ VAULT_ADDR: address, ...more })).do(write, ctx()));
      expect(error).toMatchObject({
        kind: "unavailable",
        applied: "no",
        detail: { hint: expect.stringMatching(/^set VAULT_ADDR to http/) },
      });
    }
    expect(seen).toBe(5);
  });

  test("nobody there, no address, nothing that Vault would say", async () => {
    const nobody = await refusal(me(vault({ VAULT_ADDR: "http://127.0.0.1:1", VAULT_TOKEN: "t" })));
    expect(nobody).toMatchObject({
      kind: "unavailable",
      applied: "no",
      detail: { hint: expect.stringContaining("VAULT_ADDR") },
    });
    const nowhere = await refusal(me(vault({ VAULT_TOKEN: "t" })));
    expect(nowhere).toMatchObject({ kind: "invalid", detail: { hint: expect.stringContaining("VAULT_ADDR") } });
    const odd = await refusal(me(vault({ VAULT_ADDR: "unix:///run/vault.sock", VAULT_TOKEN: "t" })));
    expect(odd).toMatchObject({ kind: "invalid", applied: "no" });
  });

  test.each([
    [412, "required index state not present"],
    [429, null],
  ])("reads follow our own writes: a node that lags (%i) is asked again", async (status, word) => {
    let lagging = 2;
    const through = await relay(
      (call, outgoing) => {
        if (call.method !== "GET" || lagging-- <= 0) return false;
        outgoing.writeHead(status, { connection: "close" });
        outgoing.end(JSON.stringify({ errors: word === null ? [] : [word] }));
        return true;
      },
      (call) => (call.method === "POST" ? { "x-vault-index": "the-index-of-it" } : {}),
    );
    const one = vault({ VAULT_ADDR: through.address, VAULT_TOKEN: bao.rootToken });
    const write = {
      method: "POST",
      path: "secret/data/i",
      body: { data: { a: "1" } },
      what: "writing",
      needs: [],
      mutates: true,
    } as const;
    await one.do(write, ctx());
    const read = { method: "GET", path: "secret/data/i", what: "reading", needs: ["read"] } as const;
    await one.get(anything, read, ctx());
    const reads = through.calls.filter(({ method }) => method === "GET");
    expect(reads.map(({ headers }) => headers["x-vault-index"])).toEqual(Array(3).fill("the-index-of-it"));
    lagging = 99;
    expect(await refusal(one.get(anything, read, ctx()))).toMatchObject({ kind: "unavailable", applied: "no" });
  });

  test("an absence is looked at twice where copies may lag, and once where they cannot", async () => {
    const told = async (leader: object, health: object | null) => {
      const through = await relay((call, outgoing) => {
        const body = call.path === "/v1/sys/leader" ? leader : call.path === "/v1/sys/health" ? health : null;
        if (body !== null) outgoing.writeHead(200, { connection: "close" }).end(JSON.stringify(body));
        return body !== null;
      });
      const waits: number[] = [];
      const wait = { sleep: async (ms: number) => void waits.push(ms) };
      const one = vault({ VAULT_ADDR: through.address, VAULT_TOKEN: bao.rootToken }, undefined, wait);
      let looks = 0;
      expect(await one.surely(async () => (looks++, null), ctx())).toBeNull();
      return [looks, waits];
    };
    const ha = { ha_enabled: true };
    expect(await told({ ha_enabled: false }, null)).toEqual([1, []]);
    expect(await told(ha, { version: "1.19.0", performance_standby: false })).toEqual([1, []]);
    expect(await told(ha, { version: "1.19.0+ent", performance_standby: false })).toEqual([2, [10_000]]);
    expect(await told(ha, { version: "2.7.2" })).toEqual([2, [10_000]]);
  });

  test.each([
    [503, { errors: ["Vault is sealed"] }, "unavailable", "sealed", "vault operator unseal"],
    [501, { initialized: false }, "unavailable", "not initialised", "vault status"],
    [473, {}, "unavailable", "standby of another cluster", "primary"],
    [429, { errors: ["request path: rate limit quota exceeded"] }, "throttled", "answered 429", undefined],
    [404, { errors: ['no handler for route "x"'] }, "not-found", "nothing is mounted", "mount:"],
    [404, "not found", "unavailable", "not as Vault does", undefined],
    [200, "<html>log in</html>", "unavailable", "not as Vault does", undefined],
    [502, "bad gateway", "unavailable", "answered 502", undefined],
  ])("%i %j", async (status, body, kind, message, hint) => {
    const through = await relay((_, outgoing) => {
      outgoing.writeHead(status, { connection: "close", "retry-after": "7" });
      outgoing.end(typeof body === "string" ? body : JSON.stringify(body));
      return true;
    });
    const error = await refusal(me(vault({ VAULT_ADDR: through.address, VAULT_TOKEN: "t" })));
    expect(error).toMatchObject({ kind, applied: "no", message: expect.stringContaining(message) });
    expect(error.detail.hint ?? "none").toContain(hint ?? "none");
    expect(error.detail.retryAfter).toBe(status === 429 || status === 502 ? 7000 : undefined);
  });

  test("a server that is sealed", async () => {
    const own = await startBao();
    try {
      await own.api("PUT", "sys/seal");
      const error = await refusal(me(vault({ VAULT_ADDR: own.address, VAULT_TOKEN: own.rootToken })));
      expect(error).toMatchObject({ kind: "unavailable", message: expect.stringContaining("sealed") });
    } finally {
      await own.stop();
    }
  });
});

describe.runIf(there)("logging in to Vault", () => {
  beforeAll(async () => {
    if (!there) return;
    for (const type of ["approle", "userpass", "jwt"]) await bao.must("POST", `sys/auth/${type}`, { type });
    await bao.must("PUT", "sys/policies/acl/app", { policy: 'path "secret/data/*" { capabilities = ["read"] }' });
  });
  const at = (more: Record<string, string> = {}) => ({ VAULT_ADDR: bao.address, ...more });

  test("by VAULT_TOKEN, by ~/.vault-token, by a setting", async () => {
    const token = await bao.tokenFor('path "secret/*" { capabilities = ["read"] }');
    const home = mkdtempSync(join(folder, "home-"));
    writeFileSync(join(home, ".vault-token"), `${token}\n`);
    for (const one of [
      vault(at({ VAULT_TOKEN: token })),
      vault(at({ HOME: home })),
      vault(at({ VAULT_TOKEN: "another" }), { method: "token", token }),
    ])
      expect((await me(one)).display_name).toBe("token");
    const none = await refusal(me(vault(at())));
    expect(none).toMatchObject({ kind: "unauthenticated", detail: { hint: expect.stringContaining("VAULT_TOKEN") } });
  });

  test("a dead token is told from a missing permission", async () => {
    const token = await bao.tokenFor('path "secret/data/mine" { capabilities = ["read"] }');
    const one = vault(at({ VAULT_TOKEN: token }));
    const look = { method: "GET", path: "secret/data/theirs", what: "reading", needs: ["read"] } as const;
    expect(await refusal(one.get(anything, look, ctx()))).toMatchObject({
      kind: "denied",
      message: "reading: the token may not read secret/data/theirs",
      detail: { hint: 'its policy needs path "secret/data/theirs" { capabilities = ["read"] }' },
    });
    await bao.must("POST", "auth/token/revoke", { token });
    expect(await refusal(one.get(anything, look, ctx()))).toMatchObject({ kind: "unauthenticated", applied: "no" });
  });

  test("by a wrapped token, which is unwrapped once for all that share it", async () => {
    const wrapped = async (): Promise<string> => {
      const headers = { "x-vault-token": bao.rootToken, "x-vault-wrap-ttl": "60s", connection: "close" };
      const body = JSON.stringify({ policies: ["app"] });
      const answer = await fetch(`${bao.address}/v1/auth/token/create`, { method: "POST", headers, body });
      return ((await answer.json()) as { wrap_info: { token: string } }).wrap_info.token;
    };
    const how = { method: "token", wrapped: true } as const;
    const deps = depsOf(at({ VAULT_TOKEN: await wrapped() }));
    const [one, two] = [0, 1].map(() => new Vault({ auth: auth.parse(how) }, deps)) as [Vault, Vault];
    expect((await Promise.all([me(one), me(two)])).map(({ policies }) => policies)).toEqual(
      [0, 1].map(() => ["app", "default"]),
    );
    const late = await refusal(me(vault(deps.env as Record<string, string>, how)));
    expect(late).toMatchObject({ kind: "unauthenticated", message: expect.stringContaining("used up") });
  });

  test("by AppRole, its secret id plain or wrapped", async () => {
    await bao.must("POST", "auth/approle/role/ci", { token_policies: ["app"], token_ttl: "10m" });
    const { role_id: roleId } = await bao.must("GET", "auth/approle/role/ci/role-id");
    const { secret_id: secretId } = await bao.must("POST", "auth/approle/role/ci/secret-id", {});
    expect((await me(vault(at(), { method: "approle", roleId, secretId }))).display_name).toBe("approle");
    const headers = { "x-vault-token": bao.rootToken, "x-vault-wrap-ttl": "60s", connection: "close" };
    const answer = await fetch(`${bao.address}/v1/auth/approle/role/ci/secret-id`, {
      method: "POST",
      headers,
      body: "{}",
    });
    const { token } = ((await answer.json()) as { wrap_info: { token: string } }).wrap_info;
    expect((await me(vault(at(), { method: "approle", roleId, secretId: token, wrapped: true }))).display_name).toBe(
      "approle",
    );
    const error = await refusal(me(vault(at(), { method: "approle", roleId, secretId: "wrong-secret-id" })));
    expect(error).toMatchObject({ kind: "unauthenticated", message: expect.stringContaining("auth/approle/login") });
    expect(`${error.message}${error.detail.hint}${error.stack}`).not.toContain("wrong-secret-id");
  });

  test("by JWT: given, GitLab's, and GitHub's on request", async () => {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const pem = publicKey.export({ type: "spki", format: "pem" });
    await bao.must("POST", "auth/jwt/config", { jwt_validation_pubkeys: [pem] });
    const role = { role_type: "jwt", user_claim: "sub", bound_audiences: ["vault"], token_policies: ["app"] };
    await bao.must("POST", "auth/jwt/role/ci", role);
    const now = Math.floor(Date.now() / 1000);
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const jwtFor = (aud: string): string => {
      const text = `${part({ alg: "RS256", typ: "JWT" })}.${part({ sub: "job", aud, iat: now, exp: now + 600 })}`;
      return `${text}.${sign("sha256", Buffer.from(text), privateKey).toString("base64url")}`;
    };
    let asked: string | undefined;
    const github = http.createServer((incoming, outgoing) => {
      asked = `${incoming.headers.authorization} ${incoming.url}`;
      outgoing.end(
        JSON.stringify({ value: jwtFor(new URL(incoming.url ?? "", "http://x").searchParams.get("audience") ?? "") }),
      );
    });
    const url = `${await listening(github, "http")}/token?api-version=2.0`;
    const how = { method: "jwt", role: "ci" } as const;
    expect((await me(vault(at(), { ...how, token: jwtFor("vault") }))).display_name).toBe("jwt-job");
    expect((await me(vault(at({ VAULT_ID_TOKEN: jwtFor("vault") }), how))).display_name).toBe("jwt-job");
    const job = at({ ACTIONS_ID_TOKEN_REQUEST_URL: url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: "of-the-job" });
    expect((await me(vault(job, { ...how, audience: "vault" }))).display_name).toBe("jwt-job");
    expect(asked).toBe("Bearer of-the-job /token?api-version=2.0&audience=vault");
    expect(await refusal(me(vault(job, how)))).toMatchObject({ kind: "unauthenticated" });
    expect(await refusal(me(vault(at(), how)))).toMatchObject({
      detail: { hint: expect.stringContaining("id-token: write") },
    });
  });

  test("by Kubernetes: the request that Vault documents", async () => {
    const through = await relay((call, outgoing) => {
      if (!call.path.endsWith("/login")) return false;
      const granted = { client_token: bao.rootToken, lease_duration: 3600, renewable: true };
      outgoing.writeHead(200, { connection: "close" }).end(JSON.stringify({ auth: granted }));
      return true;
    });
    const tokenPath = join(folder, "service-account");
    writeFileSync(tokenPath, "the.pod.token\n");
    const how = { method: "kubernetes", role: "app", mount: "k8s/prod", tokenPath } as const;
    await me(vault({ VAULT_ADDR: through.address }, how));
    expect(through.calls[0]).toMatchObject({
      method: "POST",
      path: "/v1/auth/k8s/prod/login",
      body: { role: "app", jwt: "the.pod.token" },
    });
    expect(through.calls[0]?.headers["x-vault-token"]).toBeUndefined();
    const nowhere = await refusal(me(vault(at(), { ...how, tokenPath: "/nonexistent/token" })));
    expect(nowhere).toMatchObject({ kind: "unauthenticated", message: expect.stringContaining("/nonexistent/token") });
  });

  test("by AWS: the request that Vault documents, signed as STS accepts it", async () => {
    const through = await relay((call, outgoing) => {
      if (!call.path.endsWith("/login")) return false;
      const granted = { client_token: bao.rootToken, lease_duration: 3600, renewable: true };
      outgoing.writeHead(200, { connection: "close" }).end(JSON.stringify({ auth: granted }));
      return true;
    });
    const keys = {
      AWS_ACCESS_KEY_ID: "AKIDEXAMPLE",
      AWS_SECRET_ACCESS_KEY: "the-aws-secret",
      AWS_SESSION_TOKEN: "session",
    };
    const how = { method: "aws", role: "ci", region: "eu-west-1", serverId: "vault.example.com" } as const;
    await me(vault({ VAULT_ADDR: through.address, ...keys }, how));
    const { body, path } = through.calls[0] as Passing;
    expect(path).toBe("/v1/auth/aws/login");
    const plain = (name: string): string => Buffer.from(body[name], "base64").toString();
    expect([body.role, body.iam_http_request_method]).toEqual(["ci", "POST"]);
    expect(plain("iam_request_url")).toBe("https://sts.eu-west-1.amazonaws.com/");
    expect(plain("iam_request_body")).toBe("Action=GetCallerIdentity&Version=2011-06-15");
    const headers = JSON.parse(plain("iam_request_headers"));
    expect(headers).toMatchObject({
      Host: "sts.eu-west-1.amazonaws.com",
      "X-Amz-Security-Token": "session",
      "X-Vault-AWS-IAM-Server-ID": "vault.example.com",
      Authorization: expect.stringMatching(
        /^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\/\d{8}\/eu-west-1\/sts\/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token;x-vault-aws-iam-server-id, Signature=[0-9a-f]{64}$/,
      ),
    });
    expect(JSON.stringify(body)).not.toContain(Buffer.from("the-aws-secret").toString("base64"));
  });

  test("by user and password", async () => {
    await bao.must("POST", "auth/userpass/users/ann", { password: "correct horse", token_policies: ["app"] });
    const how = { method: "userpass", username: "ann", password: "correct horse" } as const;
    expect((await me(vault(at(), how))).display_name).toBe("userpass-ann");
    const error = await refusal(me(vault(at(), { ...how, password: "wrong" })));
    expect(error).toMatchObject({ kind: "unauthenticated", applied: "no" });
  });

  test("a token is renewed while it can be, and got anew when it cannot, or was revoked", async () => {
    const limits = { token_ttl: "3s", token_max_ttl: "5s" };
    await bao.must("POST", "auth/userpass/users/bob", { password: "pw", token_policies: ["app"], ...limits });
    const through = await relay();
    const one = vault({ VAULT_ADDR: through.address }, { method: "userpass", username: "bob", password: "pw" });
    const did = () => through.calls.splice(0).map(({ path }) => path.replace("/v1/auth/", ""));
    await me(one);
    await me(one);
    expect(did()).toEqual(["userpass/login/bob", "token/lookup-self", "token/lookup-self"]);
    await sleep(2300);
    await me(one);
    expect(did()).toEqual(["token/renew-self", "token/lookup-self"]);
    await sleep(2300);
    await me(one);
    expect(did()).toEqual(["token/renew-self", "userpass/login/bob", "token/lookup-self"]);
    const token = await one.session.token(ctx());
    await bao.must("POST", "auth/token/revoke", { token });
    expect(await refusal(me(one))).toMatchObject({
      kind: "unauthenticated",
      detail: { hint: expect.stringContaining("anew") },
    });
    expect((await me(one)).display_name).toBe("userpass-bob");
  });

  test("a token that was handed over is renewed once a look has told its life", async () => {
    const { client_token: token } = await bao.must("POST", "auth/token/create", {
      policies: ["app"],
      ttl: "3s",
      renewable: true,
    });
    const through = await relay();
    const one = vault({ VAULT_ADDR: through.address, VAULT_TOKEN: token });
    await me(one);
    one.session.learn(token, 3, true);
    await sleep(2300);
    await me(one);
    expect(through.calls.map(({ path }) => path)).toContain("/v1/auth/token/renew-self");
  });
});

describe("AWS's signature", () => {
  test("is the one that STS reckons", async () => {
    if ((await motoPython()) === null) return;
    const moto = await startMoto({ auth: true });
    try {
      const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
      const send = async (secret: string): Promise<number> => {
        const keys = { accessKeyId, secretAccessKey: secret };
        const headers = signed(new URL(moto.url), "eu-west-1", keys, Date.now(), "vault.example.com");
        return new Promise((resolve, reject) => {
          const sent = http.request(moto.url, { method: "POST", headers, agent: false }, (answer) => {
            answer.resume();
            resolve(answer.statusCode ?? 0);
          });
          sent.on("error", reject);
          sent.end("Action=GetCallerIdentity&Version=2011-06-15");
        });
      };
      expect([await send(secretAccessKey), await send(`${secretAccessKey}x`)]).toEqual([200, 403]);
    } finally {
      await moto.stop();
    }
  });
});
