import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/issuers/api-keys.ts";
import { ProviderError } from "../../src/core/errors.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import { issuerContract } from "../contract/issuer.ts";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";

let authority: TestAuthority;
const servers: http.Server[] = [];
beforeEach(async () => {
  authority = await startTestAuthority();
  await authority.addClient("bot", { scopes: ["read", "trade"] });
});
afterEach(async () => {
  await authority.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

const deps = {
  folder: "/",
  env: {},
  now: Date.now,
  sleep: () => Promise.resolve(),
  debug: () => {},
  announce: () => {},
};
const ctx = { signal: new AbortController().signal, fence: () => {}, attempt: 1, rotationId: null };

function issuer(more: Record<string, unknown> = {}): Issuer {
  const given = { url: authority.url, client: "bot", adminToken: authority.adminToken, ...more };
  return adapter.create(adapter.settings.parse(given), "payments", deps, []);
}

/** An authority that has gone, lies, or is none: each request gets this answer. */
async function impostor(status: number, body: string): Promise<string> {
  const server = http.createServer((_, response) => response.writeHead(status).end(body));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => expect.unreachable("it did not fail"),
    (error: unknown) => {
      expect(error).toBeInstanceOf(ProviderError);
      return error as ProviderError;
    },
  );

issuerContract("api-keys", async () => {
  await authority.addClient("contract", { maxKeys: 3 });
  const stranger = await authority.addKey("contract", { label: "somebody else's" });
  const given = { client: "contract", adminToken: authority.adminToken, maxKeys: 3 };
  return {
    url: authority.url,
    open: (url = authority.url) => adapter.create(adapter.settings.parse({ ...given, url }), "payments", deps, []),
    strangers: async () => (await authority.list("contract")).filter(({ id }) => id === stranger.id),
    junk: SecretValue.of({ apiKey: `kt_${"0".repeat(40)}` }),
    absent: "key_0000000000000000",
    dispose: async () => {},
  };
});

describe("keys", () => {
  it("issues, lists, verifies, disables, enables, deletes", async () => {
    const bot = issuer();
    const { keyId, value, createdAt } = await bot.issue("v1-aaaa", null, ctx);
    expect(value.fieldNames).toEqual(["apiKey"]);
    const listing = await bot.list(ctx);
    expect(listing.keys).toEqual([{ keyId, createdAt, state: "enabled", label: "v1-aaaa" }]);
    expect(listing.asOf).toBeGreaterThanOrEqual(createdAt);
    expect(await bot.verify(value, ctx)).toBe("accepted");
    for (const _ of [1, 2]) await bot.disable(keyId, ctx);
    expect(await bot.verify(value, ctx)).toBe("rejected");
    expect((await bot.list(ctx)).keys).toMatchObject([{ state: "disabled" }]);
    for (const _ of [1, 2]) await bot.enable(keyId, ctx);
    expect(await bot.verify(value, ctx)).toBe("accepted");
    for (const _ of [1, 2]) await bot.delete(keyId, ctx);
    expect(await bot.verify(value, ctx)).toBe("rejected");
    expect((await bot.list(ctx)).keys).toEqual([]);
  });

  it("takes an absent key for disabled and for deleted, but not for enabled", async () => {
    await issuer().disable("key_0000000000000000", ctx);
    await issuer().delete("key_0000000000000000", ctx);
    expect(await failure(issuer().enable("key_0000000000000000", ctx))).toMatchObject({
      kind: "not-found",
      applied: "no",
    });
  });

  it("makes a new key for each issue, even with the same label, until the quota", async () => {
    const [first, second] = [await issuer().issue("v1", null, ctx), await issuer().issue("v1", null, ctx)];
    expect(first.keyId).not.toBe(second.keyId);
    expect(await failure(issuer().issue("v1", null, ctx))).toMatchObject({ kind: "quota", applied: "no" });
  });

  it("gives new keys the scopes and the life of the policy", async () => {
    const made = await issuer({ scopes: ["read"], expires: "1h" }).issue("v1", null, ctx);
    const { value, createdAt, expiresAt } = made;
    expect(expiresAt).toBe(createdAt + 3_600_000);
    expect((await issuer().list(ctx)).keys).toMatchObject([{ keyId: made.keyId, createdAt, expiresAt }]);
    expect((await authority.whoami(value.reveal().apiKey as string)).body.scopes).toEqual(["read"]);
    const [key] = await authority.list("bot");
    expect((key?.expiresAt ?? 0) - (key?.createdAt ?? 0)).toBe(3_600_000);
    expect(await failure(issuer({ scopes: ["admin"] }).issue("v2", null, ctx))).toMatchObject({
      kind: "invalid",
      applied: "no",
    });
  });

  it("sends nothing that changes something past the fence, and needs none for looks", async () => {
    const { keyId } = await issuer().issue("v1", null, ctx);
    const refusal = new ProviderError("unavailable", "no", "too late");
    const late = {
      ...ctx,
      fence: () => {
        throw refusal;
      },
    };
    const bot = issuer();
    for (const call of [
      bot.issue("v2", null, late),
      bot.disable(keyId, late),
      bot.enable(keyId, late),
      bot.delete(keyId, late),
    ]) {
      expect(await failure(call)).toBe(refusal);
    }
    expect((await bot.list(late)).keys).toMatchObject([{ keyId, state: "enabled" }]);
  });
});

describe("identify", () => {
  it("finds the key without using it, and only the client's own living ones", async () => {
    await authority.addClient("other");
    const [mine, theirs] = [await authority.addKey("bot"), await authority.addKey("other")];
    const ask = (apiKey: string) => issuer().identify?.(SecretValue.of({ apiKey }), ctx);
    expect(await ask(mine.value)).toBe(mine.id);
    expect(await ask(theirs.value)).toBeNull();
    expect(await ask("nonsense")).toBeNull();
    expect((await authority.usage("bot"))[0]?.events).toEqual([]);
    await authority.delete("bot", mine.id);
    expect(await ask(mine.value)).toBeNull();
  });
});

describe("verify", () => {
  it("throws where it cannot tell", async () => {
    await authority.addClient("other");
    const value = SecretValue.of({ apiKey: (await authority.addKey("other")).value });
    expect(await failure(issuer().verify(value, ctx))).toMatchObject({ kind: "invalid" });
    const judged = async (status: number, body: string) => {
      const { kind, applied } = await failure(issuer({ url: await impostor(status, body) }).verify(value, ctx));
      return [kind, applied];
    };
    expect(await judged(401, "<html>log in first</html>")).toEqual(["unavailable", "no"]);
    expect(await judged(401, '{"error":"who are you"}')).toEqual(["unavailable", "no"]);
    expect(await judged(200, "{}")).toEqual(["unavailable", "no"]);
    expect(await judged(503, "")).toEqual(["unavailable", "no"]);
    expect(await judged(429, "")).toEqual(["throttled", "no"]);
    expect(await failure(issuer().verify(SecretValue.of({ other: "x" }), ctx))).toMatchObject({ kind: "invalid" });
  });
});

describe("what it says of itself", () => {
  it("binds to the authority's own id and the client, not to the address", async () => {
    const { body } = await authority.admin("GET", "authority");
    const expected = { binding: `api-keys:${String(body.authority)}:bot`, findings: [] };
    expect(await issuer().describe(ctx)).toEqual(expected);
    expect(await issuer({ url: `${authority.url.replace("127.0.0.1", "localhost")}/` }).describe(ctx)).toEqual(
      expected,
    );
  });

  it("finds a refused token, an unknown client, too few keys and missing scopes", async () => {
    const reasons = async (more: Record<string, unknown>) => {
      const { binding, findings } = await issuer(more).describe(ctx);
      expect(binding).toMatch(/^api-keys:[0-9a-f-]{36}:/);
      return findings.map(({ reason, blocks }) => [reason, blocks]);
    };
    expect(await reasons({ adminToken: "wrong" })).toEqual([["credentials-missing", true]]);
    expect(await reasons({ client: "nobody" })).toEqual([["identity-mismatch", true]]);
    expect(await reasons({ maxKeys: 3, scopes: ["read", "admin"] })).toEqual([
      ["permission-missing", true],
      ["permission-missing", true],
    ]);
    await authority.addClient("single", { maxKeys: 1 });
    expect(await reasons({ client: "single" })).toEqual([["permission-missing", true]]);
    expect(await reasons({ client: "single", maxKeys: 1 })).toEqual([]);
  });

  it("throws where nobody answers, or nobody sensible", async () => {
    expect(await failure(issuer({ url: "http://127.0.0.1:1" }).describe(ctx))).toMatchObject({
      kind: "unavailable",
      applied: "no",
    });
    expect(await failure(issuer({ url: await impostor(200, "{}") }).describe(ctx))).toMatchObject({
      kind: "unavailable",
    });
  });
});

describe("an address where no authority answers", () => {
  it("is never believed: no absence, no success, no listing", async () => {
    for (const [status, body] of [
      [404, "not here"],
      [404, '{"error":{"code":"unknown-key"}}'],
      [200, "{}"],
      [200, "<html>"],
    ] as const) {
      const bot = issuer({ url: await impostor(status, body) });
      await failure(bot.disable("key_1", ctx));
      await failure(bot.delete("key_1", ctx));
      await failure(bot.list(ctx));
      await failure(bot.issue("v1", null, ctx));
    }
    const lying = issuer({ url: await impostor(201, "{}") });
    expect(await failure(lying.issue("v1", null, ctx))).toMatchObject({ kind: "unavailable", applied: "maybe" });
  });

  it("quotes neither the token nor an answer in its errors", async () => {
    const bot = issuer({ url: await impostor(500, "canary"), adminToken: "canary" });
    const errors = [
      await failure(bot.list(ctx)),
      await failure(bot.issue("v1", null, ctx)),
      await failure(bot.describe(ctx)),
    ];
    for (const error of errors) expect(JSON.stringify([error.message, error.detail])).not.toContain("canary");
  });
});

describe("usage", () => {
  it("tells who used which key, how it went, and what was keyturn itself", async () => {
    const bot = issuer();
    const { keyId, value, createdAt } = await bot.issue("v1", null, ctx);
    const apiKey = value.reveal().apiKey as string;
    await authority.whoami(apiKey, "checkout-1", "v1");
    await authority.whoami(apiKey, "checkout-2", "v1");
    await authority.whoami(apiKey, "checkout-2", "v1");
    await authority.whoami(apiKey);
    await bot.verify(value, ctx);
    await bot.disable(keyId, ctx);
    await authority.whoami(apiKey, "checkout-1", "v1");
    const usage = (await bot.usage?.usageOf([keyId, "key_0000000000000000"], 0, ctx)) ?? new Map();
    expect(usage.get(keyId)).toMatchObject({ status: "covered", from: createdAt });
    const seen = usage.get(keyId).events.map((event: { who: string }) => event);
    expect(seen).toHaveLength(5);
    expect(seen).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ who: "checkout-1", outcome: "ok", count: 1, own: false }),
        expect.objectContaining({ who: "checkout-2", outcome: "ok", count: 2, longestGap: expect.any(Number) }),
        expect.objectContaining({ who: "", outcome: "ok" }),
        expect.objectContaining({ who: "keyturn", outcome: "ok", own: true }),
        expect.objectContaining({ who: "checkout-1", outcome: "denied" }),
      ]),
    );
    expect(usage.get("key_0000000000000000")).toMatchObject({ status: "unknown", events: [] });
  });

  it("still sees refused uses of a deleted key, and nothing from before the window", async () => {
    const bot = issuer();
    const { keyId, value } = await bot.issue("v1", null, ctx);
    await authority.whoami(value.reveal().apiKey as string, "early");
    await bot.delete(keyId, ctx);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const since = Date.now();
    await authority.whoami(value.reveal().apiKey as string, "late");
    const usage = await bot.usage?.usageOf([keyId], since, ctx);
    expect(usage?.get(keyId)).toMatchObject({ status: "covered", events: [{ who: "late", outcome: "denied" }] });
  });

  it("does not claim silence once more callers came than are told apart", async () => {
    const bot = issuer();
    const { keyId, value } = await bot.issue("v1", null, ctx);
    const apiKey = value.reveal().apiKey as string;
    for (let caller = 0; caller < 502; caller++) {
      await fetch(`${authority.url}/v1/whoami`, {
        headers: { "x-api-key": apiKey, "x-keyturn-instance": `c${caller}` },
      }).then((answer) => answer.text());
    }
    const usage = await bot.usage?.usageOf([keyId], 0, ctx);
    expect(usage?.get(keyId)).toMatchObject({ status: "unknown" });
    expect(usage?.get(keyId)?.events).toHaveLength(501);
  });
});
