import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DatabaseUnusable, startAuthority } from "../../src/api-keys/index.ts";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";

let authority: TestAuthority;
beforeEach(async () => {
  authority = await startTestAuthority();
});
afterEach(() => authority.close());

describe("whoami", () => {
  it("knows a key by x-api-key and by bearer token", async () => {
    await authority.addClient("bot", { scopes: ["read", "trade"] });
    const key = await authority.addKey("bot", { scopes: ["read"] });
    const expected = { client: "bot", keyId: key.id, scopes: ["read"] };
    expect(await authority.whoami(key.value)).toEqual({ status: 200, body: expected });
    const response = await fetch(`${authority.url}/v1/whoami`, { headers: { authorization: `Bearer ${key.value}` } });
    expect([response.status, await response.json()]).toEqual([200, expected]);
  });

  it("tells malformed, unknown, disabled, enabled again, deleted and expired apart", async () => {
    await authority.addClient("bot", { maxKeys: 3 });
    const key = await authority.addKey("bot");
    const cut = key.value.slice(0, -1);
    const mistyped = key.value.replace(/.$/, (last) => (last === "A" ? "B" : "A"));
    for (const value of [cut, mistyped, "nonsense", ""]) {
      expect(await authority.whoami(value)).toEqual({ status: 401, body: { error: "malformed" } });
    }
    const refusedAs = async (value: string) => (await authority.whoami(value)).body.error;
    await authority.disable("bot", key.id);
    expect(await refusedAs(key.value)).toBe("disabled");
    await authority.enable("bot", key.id);
    expect((await authority.whoami(key.value)).status).toBe(200);
    await authority.delete("bot", key.id);
    expect(await refusedAs(key.value)).toBe("unknown");
    const short = await authority.addKey("bot", { expiresIn: 1 });
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await refusedAs(short.value)).toBe("expired");
  });

  it("answers 401 without a key, 405 to other methods, 404 elsewhere", async () => {
    const at = async (path: string, init: RequestInit = {}) => {
      const response = await fetch(authority.url + path, init);
      await response.text();
      return response.status;
    };
    expect(await at("/v1/whoami")).toBe(401);
    expect(await at("/v1/whoami", { method: "HEAD" })).toBe(405);
    expect(await at("/v1/whoami", { method: "POST", body: "x" })).toBe(405);
    expect(await at("/")).toBe(404);
    expect(await at("/v1/whoami/more")).toBe(404);
  });
});

describe("admin", () => {
  it("wants the token, and says which authority it is all the same", async () => {
    const { body } = await authority.admin("GET", "authority");
    for (const token of ["wrong", "", `${authority.adminToken}x`]) {
      const refused = await authority.admin("GET", "clients", undefined, token);
      expect(refused).toMatchObject({
        status: 401,
        body: { authority: body.authority, error: { code: "unauthenticated" } },
      });
    }
    expect(body).toEqual({ authority: expect.stringMatching(/^[0-9a-f-]{36}$/), now: expect.any(Number) });
  });

  it("adds and shows clients, each name once", async () => {
    const client = await authority.addClient("bot", { maxKeys: 3, scopes: ["read"] });
    expect(client).toEqual({ name: "bot", maxKeys: 3, scopes: ["read"], createdAt: expect.any(Number) });
    expect((await authority.admin("GET", "clients/bot")).body.client).toEqual(client);
    expect((await authority.admin("GET", "clients")).body.clients).toEqual([client]);
    expect(await authority.admin("POST", "clients", { name: "bot" })).toMatchObject({
      status: 409,
      body: { error: { code: "exists" } },
    });
  });

  it("refuses bodies that it does not understand without quoting them", async () => {
    await authority.addClient("bot", { scopes: ["read"] });
    const bad: [string, unknown][] = [
      ["clients", undefined],
      ["clients", { name: "../up" }],
      ["clients", { name: "a", maxKeys: 0 }],
      ["clients", { name: "a", secretcanary: "secretcanary" }],
      ["clients/bot/keys", { label: `secretcanary${"x".repeat(100)}` }],
      ["clients/bot/keys", { scopes: ["trade"] }],
      ["clients/bot/keys", { expiresIn: -1 }],
      ["clients/bot/identify", { sha256: "secretcanary" }],
    ];
    for (const [path, body] of bad) {
      const answer = await authority.admin("POST", path, body);
      expect(answer.status, JSON.stringify(body)).toBe(400);
      expect(JSON.stringify(answer.body)).not.toContain("canary");
    }
    const send = (body: string) =>
      fetch(`${authority.url}/v1/admin/clients`, {
        method: "POST",
        body,
        headers: { authorization: `Bearer ${authority.adminToken}` },
      });
    expect((await send("{not json")).status).toBe(400);
    expect((await send(JSON.stringify({ name: "x".repeat(70_000) }))).status).toBe(413);
    expect(await authority.list("bot")).toEqual([]);
  });

  it("knows no address and no method that it does not have", async () => {
    await authority.addClient("bot");
    expect((await authority.admin("GET", "nothing")).body.error?.code).toBe("unknown-route");
    expect((await authority.admin("DELETE", "clients/bot")).status).toBe(405);
    expect((await authority.admin("GET", "clients/nobody")).body.error?.code).toBe("unknown-client");
    expect((await authority.admin("GET", "clients/%ff/keys")).status).toBe(404);
    expect((await authority.admin("GET", "clients/bot/usage?since=yesterday")).status).toBe(400);
  });

  it("makes a new key each time, never more than the client may have, disabled ones counted", async () => {
    await authority.addClient("bot");
    const first = await authority.addKey("bot", { label: "v1" });
    const second = await authority.addKey("bot", { label: "v1" });
    expect(second.id).not.toBe(first.id);
    await authority.disable("bot", first.id);
    const third = await authority.admin("POST", "clients/bot/keys", {});
    expect(third).toMatchObject({ status: 409, body: { error: { code: "quota" } } });
    const { value: _, ...shown } = first;
    expect(await authority.list("bot")).toEqual([
      { ...shown, status: "disabled" },
      expect.objectContaining({ label: "v1" }),
    ]);
    await authority.delete("bot", first.id);
    await authority.addKey("bot");
  });

  it("shows another client's keys to nobody", async () => {
    await authority.addClient("bot");
    await authority.addClient("other");
    const key = await authority.addKey("bot");
    for (const [method, path] of [
      ["GET", ""],
      ["POST", "/disable"],
      ["POST", "/enable"],
      ["DELETE", ""],
    ] as const) {
      const answer = await authority.admin(method, `clients/other/keys/${key.id}${path}`);
      expect(answer).toMatchObject({ status: 404, body: { error: { code: "unknown-key" } } });
    }
    expect((await authority.admin("GET", `clients/other/usage?key=${key.id}`)).body.usage).toEqual([]);
    expect((await authority.whoami(key.value)).status).toBe(200);
  });
});

describe("on disk", () => {
  it("keeps keys, usage and its own id over a restart", async () => {
    await authority.addClient("bot");
    const [kept, gone] = [await authority.addKey("bot"), await authority.addKey("bot")];
    await authority.whoami(kept.value, "bot-1", "v1");
    await authority.delete("bot", gone.id);
    const before = {
      id: (await authority.admin("GET", "authority")).body.authority,
      list: await authority.list("bot"),
    };
    const seen = (await authority.usage("bot")).map((usage) => ({ ...usage, until: 0 }));
    await authority.restart();
    expect((await authority.admin("GET", "authority")).body.authority).toBe(before.id);
    expect(await authority.list("bot")).toEqual(before.list);
    expect((await authority.usage("bot")).map((usage) => ({ ...usage, until: 0 }))).toEqual(seen);
    expect((await authority.whoami(kept.value)).status).toBe(200);
    expect((await authority.whoami(gone.value)).body.error).toBe("unknown");
  });

  it("holds no value, in the database or beside it", async () => {
    await authority.addClient("bot");
    const { value } = await authority.addKey("bot");
    await authority.whoami(value, "bot-1");
    await authority.usage("bot");
    const secret = value.slice(value.lastIndexOf("_") + 1);
    const search = async () => {
      for (const file of await readdir(authority.folder)) {
        expect((await readFile(join(authority.folder, file))).includes(secret), file).toBe(false);
      }
    };
    await search();
    await authority.restart();
    await search();
  });

  it("serves a database once at a time, and says what else is wrong with a file", async () => {
    const again = startAuthority({ db: authority.db, adminToken: "x" });
    await expect(again).rejects.toThrow(/another server is using it/);
    const missing = startAuthority({ db: join(authority.folder, "no", "such.db"), adminToken: "x" });
    await expect(missing).rejects.toBeInstanceOf(DatabaseUnusable);
    await expect(startAuthority({ db: join(authority.folder, "b.db"), adminToken: "" })).rejects.toThrow(/admin token/);
  });
});
