import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { awsAt } from "../../src/adapters/aws.ts";
import { adapter } from "../../src/adapters/usage/cloudtrail.ts";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { KeyUsage } from "../../src/ports/usage.ts";
import { lookCtx, usageContract } from "../contract/usage.ts";
import { ministackBin, startMinistack, type Ministack } from "../support/ministack.ts";

/** Hands on what the real server answers in pages of `size` events. */
async function startPager(target: string, size: number): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer(async (incoming, outgoing) => {
    const asked = (await json(incoming)) as { NextToken?: string };
    const from = Number(asked.NextToken ?? 0);
    const { "x-amz-target": action = "", "content-type": type = "", authorization = "" } = incoming.headers;
    const headers = { "x-amz-target": String(action), "content-type": type, authorization, connection: "close" };
    const answer = await fetch(target, {
      method: "POST",
      headers,
      body: JSON.stringify({ ...asked, NextToken: undefined }),
    });
    const { Events } = (await answer.json()) as { Events: unknown[] };
    const next = from + size < Events.length ? { NextToken: String(from + size) } : {};
    outgoing.writeHead(answer.status, { "content-type": type, connection: "close" });
    outgoing.end(JSON.stringify({ Events: Events.slice(from, from + size), ...next }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    server.close();
    await once(server, "close");
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}

const there = (await ministackBin()) !== null;
const REGION = "eu-west-1";

describe.runIf(there)("cloudtrail", () => {
  let aws: Ministack;
  let deps: AdapterDeps;
  let round = 0;
  beforeAll(async () => {
    aws = await startMinistack();
    deps = {
      folder: "/",
      env: { ...aws.env, AWS_ACCESS_KEY_ID: "AKIAKEYTURN000000000", AWS_SECRET_ACCESS_KEY: "unused" },
      now: Date.now,
      sleep: async (ms, signal) => void (await sleep(ms, undefined, signal ? { signal } : {})),
      debug: () => {},
      announce: () => {},
    };
  });
  afterAll(() => aws?.stop());
  beforeEach(() => void round++);

  const keyOf = (alias: string) => `AKIA${alias.toUpperCase()}${String(round).padStart(10, "0")}`;
  const monitor = (options: Partial<Parameters<typeof adapter.settings.parse>[0] & object> = {}, url = aws.url) =>
    adapter.create(adapter.settings.parse({ region: REGION, regions: [REGION], endpoint: url, ...options }), "s", deps);
  /** A consumer with the vendor's own SDK. */
  const use = async (keyId: string, name: string, region = REGION) => {
    const client = new STSClient({
      region,
      endpoint: aws.url,
      credentials: { accessKeyId: keyId, secretAccessKey: "unused" },
      customUserAgent: name,
    });
    await client.send(new GetCallerIdentityCommand({}));
    client.destroy();
  };

  usageContract("cloudtrail", { keys: ["old", "new"], provesSilence: false, skew: 60_000 }, async () => {
    let endpoint = aws.url;
    const open = () => monitor({ who: "userAgent" }, endpoint);
    return {
      open: () => ({
        traits: open().traits,
        usageOf: async (aliases, since, ctx) => {
          const seen = await open().usageOf(aliases.map(keyOf), since, ctx);
          const named = (usage: KeyUsage): KeyUsage => {
            const events = usage.events.map((event) => ({
              ...event,
              who: /checkout-1|billing-1/.exec(event.who)?.[0] ?? "",
            }));
            return { ...usage, events };
          };
          return new Map(aliases.map((alias) => [alias, named(seen.get(keyOf(alias)) as KeyUsage)]));
        },
      }),
      use: (alias, who) => use(keyOf(alias), who),
      pass: () => sleep(50),
      cut: async () => void (endpoint = "http://127.0.0.1:9"),
      dispose: async () => {},
    };
  });

  const look = async (options = {}): Promise<KeyUsage> => {
    const seen = await monitor(options).usageOf([keyOf("a"), keyOf("b")], 0, lookCtx());
    return seen.get(keyOf("a")) as KeyUsage;
  };

  test("names the address, the agent or the user; its silence stays unknown", async () => {
    await use(keyOf("a"), "checkout");
    const seen = await look();
    expect(seen).toMatchObject({ status: "unknown", why: expect.stringContaining("management events only") as string });
    expect(seen.events).toMatchObject([{ who: "127.0.0.1", outcome: "ok", count: 1, own: false }]);
    expect((await look({ who: "userAgent" })).events[0]?.who).toMatch("checkout");
    expect((await look({ history: "1ms" })).events).toEqual([]);
  });

  test("reads page after page, up to so many, and takes no time between events for silence", async () => {
    // ministack knows no second page.
    const { url, close } = await startPager(aws.url, 2);
    try {
      for (let i = 0; i < 5; i++) await use(keyOf("a"), "checkout");
      const whole = await look({ endpoint: url });
      expect(whole.events).toMatchObject([{ count: 5 }]);
      expect(whole.events[0]).not.toHaveProperty("longestGap");
      const newest = await look({ endpoint: url, pages: 2 });
      expect(newest.events).toMatchObject([{ count: 4, last: whole.events[0]?.last }]);
    } finally {
      await close();
    }
  });

  test("what keyturn did itself is told apart", async () => {
    const own = awsAt({ region: REGION, endpoint: aws.url }, deps).as({
      accessKeyId: keyOf("a"),
      secretAccessKey: "unused",
    });
    await own.send("sts:GetCallerIdentity", new GetCallerIdentityCommand({}), { ctx: lookCtx(), mutates: false });
    await use(keyOf("a"), "checkout");
    expect((await look()).events.map(({ who, own }) => [who, own])).toEqual([
      ["keyturn", true],
      ["127.0.0.1", false],
    ]);
  });

  test("looks in every region that is named", async () => {
    await use(keyOf("a"), "checkout", "eu-central-1");
    expect((await look()).events).toEqual([]);
    expect((await look({ regions: [REGION, "eu-central-1"] })).events).toHaveLength(1);
    expect((await look({ region: "eu-central-1", regions: undefined })).events).toHaveLength(1);
  });

  test("is refused in another account", async () => {
    const expected = look({ expect: { account: "999999999999" } });
    await expect(expected).rejects.toMatchObject({ kind: "denied", applied: "no" });
    await expect(look({ expect: { account: "000000000000" } })).resolves.toBeDefined();
  });

  test("asks for one permission and no more, and is optional", () => {
    expect(monitor().permissions?.()).toEqual([
      { for: "aws", why: "see who uses the keys", actions: ["cloudtrail:LookupEvents"], resources: ["*"] },
    ]);
    expect(adapter.optional).toBe(true);
  });
});
