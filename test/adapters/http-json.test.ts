import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { adapter } from "../../src/adapters/usage/http-json.ts";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { KeyUsage } from "../../src/ports/usage.ts";
import { lookCtx, usageContract } from "../contract/usage.ts";
import { startTestAuthority } from "../support/authority.ts";

const deps: AdapterDeps = {
  folder: "/",
  env: {},
  now: Date.now,
  sleep: () => Promise.resolve(),
  debug: () => {},
  announce: () => {},
};

// The API-key authority's own page about usage: a real API that tells of one key, or of all (then of nobody by name).
for (const [name, query, perKey] of [
  ["one key a request", "&key=${key}", true],
  ["all keys in one answer", "", false],
] as const) {
  usageContract(`http-json, ${name}`, { keys: ["first", "second"] }, async () => {
    const authority = await startTestAuthority();
    await authority.addClient("app", { maxKeys: 3 });
    const keys = new Map<string, { id: string; value: string }>();
    for (const alias of ["first", "second"]) keys.set(alias, await authority.addKey("app"));
    const settings = adapter.settings.parse({
      url: `${authority.url}/v1/admin/clients/app/usage?since=0${query}`,
      token: authority.adminToken,
      entries: perKey ? "usage.0.events" : "usage",
      fields: perKey
        ? { who: "instance", first: "first", last: "last", count: "count", status: "outcome" }
        : { key: "keyId", first: "events.0.first", last: "events.0.last" },
      from: perKey ? "usage.0.from" : undefined,
      until: perKey ? "usage.0.until" : "now",
      keeps: "30d",
    });
    const monitor = adapter.create(settings, "s", deps);
    const idOf = (alias: string) => keys.get(alias)?.id ?? "";
    return {
      // The contract's names for the keys are the test's own.
      open: () => ({
        traits: monitor.traits,
        usageOf: async (aliases, since, ctx) => {
          const seen = await monitor.usageOf(aliases.map(idOf), since, ctx);
          return new Map(aliases.map((alias) => [alias, seen.get(idOf(alias)) as KeyUsage]));
        },
      }),
      use: async (alias, who) => void (await authority.whoami(keys.get(alias)?.value ?? "", who)),
      pass: () => sleep(20),
      cut: () => authority.close(),
      dispose: () => authority.close(),
    };
  });
}

describe("answers", () => {
  let server: Server;
  let url: string;
  let asked: IncomingMessage[];
  let answer: (path: string) => { status?: number; body: unknown; headers?: Record<string, string> };
  beforeEach(async () => {
    asked = [];
    server = createServer((incoming, outgoing) => {
      asked.push(incoming);
      const { status = 200, body, headers } = answer(incoming.url ?? "");
      outgoing.writeHead(status, { connection: "close", ...headers });
      outgoing.end(typeof body === "string" ? body : JSON.stringify(body));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => server.close());

  type Options = Partial<Parameters<typeof adapter.settings.parse>[0] & object>;
  const look = async (options: Options = {}): Promise<KeyUsage> => {
    const all = { url: `${url}/\${key}`, fields: { last: "lastUsed", who: "by" }, keeps: "7d", ...options };
    const monitor = adapter.create(adapter.settings.parse(all), "s", deps);
    return (await monitor.usageOf(["a b/?&", "AK-2"], 0, lookCtx())).get("a b/?&") as KeyUsage;
  };
  const at = "2026-11-20T10:00:00.000Z";
  const date = "Sat, 21 Nov 2026 12:00:00 GMT";

  test("one entry, up to the time of the answer, as far back as the API remembers", async () => {
    answer = () => ({ body: { lastUsed: at, by: "checkout" }, headers: { date } });
    const headers = { "x-org": "seven" };
    expect(await look({ token: "t0ken", headers })).toEqual({
      status: "covered",
      from: Date.parse("2026-11-14T12:00:00Z"),
      until: Date.parse(date),
      events: [{ who: "checkout", first: Date.parse(at), last: Date.parse(at), count: 1, outcome: "ok", own: false }],
    });
    expect(asked.map(({ url }) => url)).toEqual(["/a%20b%2F%3F%26", "/AK-2"]);
    expect(asked[0]?.headers).toMatchObject({ authorization: "Bearer t0ken", "x-org": "seven" });
  });

  test("many entries, of which some are refusals, of others' keys, our own, or never used", async () => {
    const rows = [
      { id: "a b/?&", t: "1795262340", by: "checkout", n: 7, st: 200 },
      { id: "a b/?&", t: 1_795_262_340_000, by: "late", n: "x", st: 401 },
      { id: "a b/?&", t: null, by: "never" },
      { id: "AK-9", t: at, by: "other" },
      { id: "a b/?&", t: at, by: "keyturn/0.1" },
    ];
    answer = () => ({ body: { data: { rows, watched: at } }, headers: { date } });
    const fields = { key: "id", last: "t", who: "by", count: "n", status: "st" };
    const seen = await look({ url, entries: "/data/rows", fields, from: "data.watched" });
    expect(asked).toHaveLength(1);
    expect(seen).toMatchObject({ status: "covered", from: Date.parse(at) });
    expect(seen.events.map(({ who, outcome, count, own }) => [who, outcome, count, own])).toEqual([
      ["checkout", "ok", 7, false],
      ["late", "denied", 1, false],
      ["keyturn/0.1", "ok", 1, true],
    ]);
  });

  test("an answer that is not what the policy says is unknown", async () => {
    const because = async (body: unknown, options: Options = {}) => {
      answer = () => ({ body });
      const { status, why } = await look(options);
      return [status, why];
    };
    expect(await because({ a: 1 }, { entries: "rows" })).toEqual(["unknown", "the answer has no entries at rows"]);
    expect(await because({ rows: null }, { entries: "rows" })).toMatchObject(["unknown", /no entries/]);
    expect(await because("null")).toMatchObject(["unknown", /no entries/]);
    expect(await because({ lastUsed: "yesterday" })).toMatchObject(["unknown", /cannot be read/]);
    expect(await because([{ lastUsed: at }], { url, fields: { last: "lastUsed", key: "id" } })).toMatchObject([
      "unknown",
      /cannot be read/,
    ]);
    expect(await because({ lastUsed: at }, { until: "now" })).toMatchObject(["unknown", /no time at now/]);
    expect(await because({ lastUsed: null })).toMatchObject(["unknown", /none of this secret's keys/]);
  });

  test("a key that the API does not know is unknown, the others are not", async () => {
    answer = (path) => (path === "/AK-2" ? { body: { lastUsed: at } } : { status: 404, body: {} });
    expect(await look()).toMatchObject({ status: "unknown", why: "the API answered 404 for this key" });
    await expect(look({ url: `${url}/all`, fields: { last: "l", key: "k" } })).rejects.toMatchObject({
      kind: "not-found",
    });
  });

  test("refusals and junk are failures without a word of theirs", async () => {
    for (const [status, kind] of [
      [401, "unauthenticated"],
      [403, "denied"],
      [429, "throttled"],
      [500, "unavailable"],
      [200, "unavailable"],
    ] as const) {
      answer = () => ({ status, body: "<p>s3cret</p>" });
      const error: unknown = await look({ token: "t0ken" }).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ name: "ProviderError", kind, applied: "no" });
      expect(String(error)).not.toMatch(/s3cret|t0ken/);
    }
  });

  test("an entry must say its key where the url does not", async () => {
    answer = () => ({ body: [] });
    await expect(look({ url })).rejects.toMatchObject({
      kind: "invalid",
      detail: { hint: expect.any(String) as string },
    });
  });

  test("what is told decides what the signal can do", () => {
    const traits = (fields: object) =>
      adapter.create(adapter.settings.parse({ url, keeps: "1d", fields }), "s", deps).traits;
    expect(traits({ last: "l" })).toMatchObject({ names: "none", history: "last-only", seesDenied: false });
    expect(traits({ last: "l", first: "f", who: "w", status: "s" })).toMatchObject({
      names: "consumer",
      history: "events",
      seesDenied: true,
    });
  });
});
