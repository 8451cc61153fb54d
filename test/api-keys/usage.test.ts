import { cp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startAuthority } from "../../src/api-keys/index.ts";
import { startTestAuthority, type KeyUsageAnswer, type TestAuthority } from "../support/authority.ts";

const START = Date.parse("2026-01-02T03:04:05Z");
let now = START;
let authority: TestAuthority;
beforeEach(async () => {
  now = START;
  authority = await startTestAuthority({ now: () => now });
  await authority.addClient("bot");
});
afterEach(() => authority.close());

const only = async (since?: number): Promise<KeyUsageAnswer> => {
  const usage = await authority.usage("bot", since);
  expect(usage).toHaveLength(1);
  return usage[0] as KeyUsageAnswer;
};

describe("usage", () => {
  it("keeps first, last, count, the longest silence and the reported version", async () => {
    const { value, id } = await authority.addKey("bot");
    for (const at of [1000, 3000, 60_000, 61_000]) {
      now = START + at;
      await authority.whoami(value, "bot-1", at < 60_000 ? "v1" : "v2");
    }
    now = START + 100_000;
    expect(await only()).toEqual({
      keyId: id,
      status: "enabled",
      createdAt: START,
      from: START,
      until: START + 100_000,
      crowded: false,
      events: [
        {
          instance: "bot-1",
          outcome: "ok",
          reason: null,
          first: START + 1000,
          last: START + 61_000,
          count: 4,
          longestGap: 57_000,
          version: "v2",
        },
      ],
    });
  });

  it("goes on counting gaps over a restart", async () => {
    const { value } = await authority.addKey("bot");
    await authority.whoami(value, "bot-1");
    await authority.restart();
    now = START + 5000;
    await authority.whoami(value, "bot-1");
    expect(await only()).toMatchObject({ from: START, events: [{ count: 2, longestGap: 5000 }] });
  });

  it("pools neither two instances nor two outcomes", async () => {
    const { value, id } = await authority.addKey("bot");
    await authority.whoami(value, "bot-1");
    await authority.whoami(value, "bot-2");
    await authority.whoami(value);
    await authority.disable("bot", id);
    await authority.whoami(value, "bot-1");
    await authority.delete("bot", id);
    await authority.whoami(value, "bot-1");
    const { status, events } = await only();
    expect(status).toBe("deleted");
    expect(
      events.map(({ instance, outcome, reason, count, longestGap }) => [instance, outcome, reason, count, longestGap]),
    ).toEqual([
      ["bot-1", "ok", null, 1, null],
      ["bot-2", "ok", null, 1, null],
      ["", "ok", null, 1, null],
      ["bot-1", "denied", "disabled", 1, null],
      ["bot-1", "denied", "unknown", 1, null],
    ]);
  });

  it("ignores names that are too long, and counts no use of what is no key", async () => {
    const { value } = await authority.addKey("bot");
    await authority.whoami(value, "x".repeat(201), "y".repeat(201));
    await authority.whoami("nonsense", "bot-1");
    expect((await only()).events).toMatchObject([{ instance: "", version: "", count: 1 }]);
  });

  it("tells only what reaches into the window", async () => {
    const { value } = await authority.addKey("bot");
    await authority.whoami(value, "early");
    now = START + 10_000;
    await authority.whoami(value, "late");
    expect((await only(START + 5000)).events).toMatchObject([{ instance: "late" }]);
    expect((await only(START)).events).toHaveLength(2);
  });

  it("keeps its order when the clock goes back", async () => {
    const { value } = await authority.addKey("bot");
    now = START + 5000;
    await authority.whoami(value, "bot-1");
    now = START;
    await authority.whoami(value, "bot-1");
    expect((await only()).events).toMatchObject([{ first: START + 5000, last: START + 5000, count: 2, longestGap: 0 }]);
  });
});

describe("after a crash", () => {
  it("has every key that was answered for, and claims no silence from before", async () => {
    const { value, id } = await authority.addKey("bot");
    await authority.whoami(value, "bot-1");
    // The files as they lie at this moment are what a crash would leave.
    const crashed = join(tmpdir(), `keyturn-crashed-${id}`);
    await cp(authority.folder, crashed, { recursive: true });
    now = START + 60_000;
    const again = await startAuthority({
      db: join(crashed, "authority.db"),
      adminToken: authority.adminToken,
      now: () => now,
    });
    try {
      const headers = { authorization: `Bearer ${authority.adminToken}` };
      const answer = await fetch(`${again.url}/v1/admin/clients/bot/usage`, { headers });
      const { usage } = (await answer.json()) as { usage: KeyUsageAnswer[] };
      expect(usage).toMatchObject([{ keyId: id, createdAt: START, from: START + 60_000 }]);
      expect((await fetch(`${again.url}/v1/whoami`, { headers: { "x-api-key": value } })).status).toBe(200);
    } finally {
      await again.close();
      await rm(crashed, { recursive: true });
    }
  });
});

describe("close", () => {
  it("answers what is under way before it goes", async () => {
    const { value } = await authority.addKey("bot");
    const under = Array.from({ length: 20 }, (_, index) => authority.whoami(value, `bot-${index}`));
    await Promise.all([authority.restart(), Promise.allSettled(under)]);
    const answered = (await Promise.allSettled(under)).filter((one) => one.status === "fulfilled").length;
    expect((await only()).events.length).toBeGreaterThanOrEqual(answered);
  });
});
