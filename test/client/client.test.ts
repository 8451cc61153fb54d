import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { keyturnClient, type Served } from "../../src/client/index.ts";
import { startTestAuthority } from "../support/authority.ts";

const served = (version: string): Served => ({ version, value: { apiKey: `value of ${version}` } });

/** A source that serves what `now` holds and counts how often it was asked. */
function changing(first: string) {
  const state = { now: served(first) as Served | Error, asked: 0 };
  const source = async (): Promise<Served> => {
    state.asked++;
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (state.now instanceof Error) throw state.now;
    return state.now;
  };
  return { state, source };
}

describe("current", () => {
  it("asks no more often than refreshEvery, and shares one question among all", async () => {
    const { state, source } = changing("v1");
    const keys = keyturnClient({ source, instance: "bot-1", refreshEvery: 60_000 });
    const all = await Promise.all(Array.from({ length: 20 }, () => keys.current()));
    expect(new Set(all)).toEqual(new Set([served("v1")]));
    state.now = served("v2");
    await keys.current();
    expect(state.asked).toBe(1);
  });

  it("takes up a change by itself", async () => {
    const { state, source } = changing("v1");
    const keys = keyturnClient({ source, instance: "bot-1", refreshEvery: 0 });
    expect(await keys.current()).toEqual(served("v1"));
    state.now = served("v2");
    expect(await keys.current()).toEqual(served("v2"));
  });

  it("goes on with the last value while the source fails, and says so; without one it throws", async () => {
    const { state, source } = changing("v1");
    const heard: unknown[] = [];
    const keys = keyturnClient({ source, instance: "bot-1", refreshEvery: 0, onError: (error) => heard.push(error) });
    const broken = new Error("disk gone");
    state.now = broken;
    await expect(keys.current()).rejects.toBe(broken);
    expect(heard).toEqual([]);
    state.now = served("v1");
    await keys.current();
    state.now = broken;
    expect(await keys.current()).toEqual(served("v1"));
    expect(heard).toEqual([broken]);
  });
});

describe("withKey", () => {
  const call = () => {
    const { state, source } = changing("v1");
    return { state, keys: keyturnClient({ source, instance: "bot-1", refreshEvery: 60_000 }) };
  };

  it("gives the fields and the reporting headers, and no key among those", async () => {
    const { keys } = call();
    const given = await keys.withKey(async (value, headers) => ({ value, headers }));
    expect(given).toEqual({
      value: { apiKey: "value of v1" },
      headers: { "x-keyturn-instance": "bot-1", "x-keyturn-key-version": "v1" },
    });
  });

  it("asks anew and tries exactly once more after a 401, answered or thrown", async () => {
    for (const refuse of [
      () => ({ status: 401 }),
      () => Promise.reject(Object.assign(new Error("no"), { status: 401 })),
    ]) {
      const { state, keys } = call();
      await keys.current();
      state.now = served("v2");
      const tried: string[] = [];
      const answer = await keys.withKey(async ({ apiKey }): Promise<{ status: number }> => {
        tried.push(apiKey as string);
        return tried.length === 1 ? refuse() : { status: 200 };
      });
      expect([answer, tried, state.asked]).toEqual([{ status: 200 }, ["value of v1", "value of v2"], 2]);
    }
  });

  it("lets the second refusal and every other outcome stand", async () => {
    const { state, keys } = call();
    let calls = 0;
    const refused = { status: 401 };
    expect(await keys.withKey(async () => (calls++, refused))).toBe(refused);
    expect(calls).toBe(2);
    const broken = new Error("boom");
    await expect(keys.withKey(() => (calls++, Promise.reject(broken)))).rejects.toBe(broken);
    expect(await keys.withKey(async () => (calls++, "text"))).toBe("text");
    expect([calls, state.asked]).toEqual([4, 2]);
  });

  it("does not take an answer that was under way before the refusal", async () => {
    let release: (value: Served) => void = () => {};
    const answers: (() => Promise<Served>)[] = [
      async () => served("v1"),
      () => new Promise((resolve) => (release = resolve)),
      async () => served("v2"),
    ];
    const keys = keyturnClient({
      source: () => (answers.shift() as () => Promise<Served>)(),
      instance: "bot-1",
      refreshEvery: 0,
    });
    const slow = keys.withKey(async ({ apiKey }) => {
      if (apiKey !== "value of v1") return { status: 200, apiKey };
      void keys.current();
      setTimeout(() => release(served("v1")), 10);
      return { status: 401, apiKey };
    });
    expect(await slow).toEqual({ status: 200, apiKey: "value of v2" });
  });

  it("lets many refused callers share one question", async () => {
    const { state, keys } = call();
    await keys.current();
    state.now = served("v2");
    const one = () => keys.withKey(async ({ apiKey }) => ({ status: apiKey === "value of v2" ? 200 : 401 }));
    const answers = await Promise.all(Array.from({ length: 20 }, one));
    expect([new Set(answers.map(({ status }) => status)), state.asked]).toEqual([new Set([200]), 2]);
  });
});

describe("with real parts", () => {
  const servers: http.Server[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  });

  it("follows a rotation at the authority, which sees who used which version", async () => {
    const authority = await startTestAuthority();
    try {
      await authority.addClient("bot");
      const [old, young] = [await authority.addKey("bot"), await authority.addKey("bot")];
      let now: Served = { version: "v1", value: { apiKey: old.value } };
      const keys = keyturnClient({ source: async () => now, instance: "bot-1", refreshEvery: 60_000 });
      const use = () =>
        keys.withKey(({ apiKey }, headers) =>
          fetch(`${authority.url}/v1/whoami`, {
            headers: { ...headers, "x-api-key": apiKey as string, connection: "close" },
          }),
        );
      expect((await use()).status).toBe(200);
      now = { version: "v2", value: { apiKey: young.value } };
      await authority.disable("bot", old.id);
      expect(await (await use()).json()).toMatchObject({ keyId: young.id });
      const seen = (await authority.usage("bot")).map(({ keyId, events }) => [
        keyId,
        events.map(({ instance, outcome, version }) => [instance, outcome, version]),
      ]);
      expect(seen).toEqual([
        [
          old.id,
          [
            ["bot-1", "ok", "v1"],
            ["bot-1", "denied", "v1"],
          ],
        ],
        [young.id, [["bot-1", "ok", "v2"]]],
      ]);
    } finally {
      await authority.close();
    }
  });

  it("gives the connection of a refused fetch back", async () => {
    let ended = false;
    let calls = 0;
    const server = http.createServer((_, response) => {
      if (calls++ > 0) return response.end("hello");
      response.writeHead(401).write("this body never ends");
      return response.on("close", () => (ended = true));
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const keys = keyturnClient({ source: async () => served("v1"), instance: "bot-1" });
    const answer = await keys.withKey(() => fetch(url));
    expect(await answer.text()).toBe("hello");
    await expect.poll(() => ended).toBe(true);
  });
});
