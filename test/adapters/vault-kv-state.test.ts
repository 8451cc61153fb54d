import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/state/vault-kv.ts";
import { FORMATS, merged } from "../../src/commands/privileges.ts";
import { newState } from "../../src/core/model.ts";
import type { StateBackend } from "../../src/ports/state.ts";
import { stateBackendContract } from "../contract/state-backend.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { startWire, type Wire } from "../support/wire.ts";
import { depsOf, rootOf } from "./vault-support.ts";

const there = (await baoProgram()) !== null;
const payments = newState("payments", 0);
const entry = { secret: "payments", seq: 1, previous: "", hash: "a", at: 1, actor: "t", type: "started", data: {} };

let bao: Bao;
let wire: Wire;
beforeAll(async () => {
  if (!there) return;
  bao = await startBao();
  wire = await startWire(() => bao.address);
});
afterAll(async () => {
  await wire?.close();
  await bao?.stop();
});

let places = 0;
const fresh = (): string => `state-${++places}`;

async function open(path: string, more: object = {}): Promise<StateBackend> {
  return adapter.create(adapter.settings.parse({ path, ...more }), rootOf(bao));
}

async function saved(state: StateBackend, expected: string | null = null, commitId = "c1"): Promise<string> {
  const answer = await state.save("payments", { ...payments, commitId }, expected);
  if (answer.result !== "saved") throw new Error(answer.result);
  return answer.revision;
}

describe.runIf(there)("vault-kv", () => {
  stateBackendContract("vault-kv", async () => {
    const path = fresh();
    return {
      open: () => open(path),
      advance: null,
      damage: async (name) => {
        const data = { keyturn: 1, document: "{" };
        await bao.must("POST", `secret/data/${path}/secrets/${name}`, { data, options: { cas: 1 } });
      },
      openUnheard: () => {
        wire.answer = ({ action }, answer) => (/^POST .*\/data\/.*\/secrets\//.test(action) ? "cut" : answer);
        return open(path, { address: wire.url });
      },
      dispose: async () => wire.reset(),
    };
  });

  it("keeps five versions of a document, and lets nobody write one without cas", async () => {
    const path = fresh();
    const state = await open(path);
    let revision = await saved(state);
    for (let n = 0; n < 7; n++) revision = await saved(state, revision, `c${n}`);
    const { max_versions, cas_required, versions } = await bao.must("GET", `secret/metadata/${path}/secrets/payments`);
    expect([max_versions, cas_required, Object.keys(versions).length]).toEqual([5, true, 5]);
    const careless = await bao.api("POST", `secret/data/${path}/secrets/payments`, { data: {} });
    expect(careless.status).toBe(400);
  });

  it("never tells an age that is more than the truth", async () => {
    const state = await open(fresh());
    const before = Date.now();
    await saved(state);
    for (let look = 0; look < 8; look++) {
      expect((await state.load("payments"))?.age).toBeLessThanOrEqual(Date.now() - before);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    expect((await state.load("payments"))?.age).toBeGreaterThan(0);
  });

  it.each([
    ["deleted", "DELETE", "data", undefined],
    ["destroyed", "PUT", "destroy", { versions: [1] }],
    ["gone with its versions, its audit log being there", "DELETE", "metadata", undefined],
  ])("takes a document that is %s for damage, never for a new secret", async (_, method, kind, body) => {
    const path = fresh();
    const state = await open(path);
    await saved(state);
    await state.audit.append([entry]);
    await bao.must(method, `secret/${kind}/${path}/secrets/payments`, body);
    await expect(state.load("payments")).rejects.toMatchObject({ code: "state-damaged", options: { exit: 3 } });
    expect(await state.load("other")).toBeNull();
  });

  it("makes no new document in the place of a deleted one", async () => {
    const path = fresh();
    const state = await open(path);
    await saved(state);
    await bao.must("DELETE", `secret/data/${path}/secrets/payments`);
    await expect(state.save("payments", payments, null)).rejects.toMatchObject({ code: "state-damaged" });
  });

  it("refuses a path under delete_version_after", async () => {
    await bao.must("POST", "sys/mounts/short", { type: "kv", options: { version: "2" } });
    for (let waited = 0; (await bao.api("GET", "short/config")).status !== 200 && waited < 100; waited++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    await bao.must("POST", "short/config", { delete_version_after: "1h" });
    const state = await open(fresh(), { mount: "short" });
    const damaged = { code: "state-damaged", options: { exit: 3 } };
    await expect(state.save("payments", payments, null)).rejects.toMatchObject(damaged);
    await expect(state.load("payments")).rejects.toMatchObject(damaged);
  });

  it("refuses an engine of version 1, which knows no cas, and a mount that is none", async () => {
    await bao.must("POST", "sys/mounts/old", { type: "kv", options: { version: "1" } });
    const old = await open(fresh(), { mount: "old" });
    await expect(old.save("payments", payments, null)).rejects.toMatchObject({ code: "state-without-cas" });
    expect((await bao.api("LIST", "old/")).status).toBe(404);
    const none = await open(fresh(), { mount: "none" });
    await expect(none.save("payments", payments, null)).rejects.toMatchObject({ name: "ProviderError", applied: "no" });
  });

  it.each([
    ["another program's", { a: 1 }, "state-damaged"],
    ["no JSON", { keyturn: 1, document: "{" }, "state-damaged"],
    ["another secret's", { keyturn: 1, document: JSON.stringify(newState("b", 0)) }, "state-damaged"],
    ["of a newer document", { keyturn: 1, document: JSON.stringify({ ...payments, schema: 9 }) }, "state-newer"],
    ["of a newer format", { keyturn: 2 }, "state-newer"],
  ])("refuses an entry that is %s, and hands out the others", async (_, data, code) => {
    const path = fresh();
    const state = await open(path);
    await state.save("other", newState("other", 0), null);
    await bao.must("POST", `secret/data/${path}/secrets/payments`, { data });
    await expect(state.load("payments")).rejects.toMatchObject({ code, options: { exit: 3 } });
    const found: string[] = [];
    const all = (async () => {
      for await (const { state: document } of state.loadAll()) found.push(document.name);
    })();
    await expect(all).rejects.toMatchObject({ code });
    expect(found).toEqual(["other"]);
  });

  it("cannot tell whether a save took effect when its answer is lost; the next look can", async () => {
    const state = await open(fresh(), { address: wire.url });
    const first = await saved(state);
    wire.answer = (call, answer) => (call.action.includes("/data/") && call.action.startsWith("POST") ? "cut" : answer);
    expect(await state.save("payments", { ...payments, commitId: "c2" }, first)).toEqual({ result: "unknown" });
    wire.reset();
    expect((await state.load("payments"))?.state.commitId).toBe("c2");
  });

  it("does not take a document for deleted that somebody makes in that very moment", async () => {
    const path = fresh();
    const [reader, maker] = [await open(path, { address: wire.url }), await open(path)];
    wire.answer = async ({ action }, answer) => {
      if (action.endsWith("secrets/payments") && answer.status === 404) {
        await saved(maker);
        await maker.audit.append([entry]);
      }
      return answer;
    };
    expect((await reader.load("payments"))?.state.commitId).toBe("c1");
    wire.reset();
  });

  describe("where copies lag by 10 s", () => {
    /** How often somebody waited for the copies. A single server tells no index of its writes. */
    let waits: number;
    /** Paths that are behind: absent, until somebody waited. */
    let behind: Set<string>;
    const openFar = async (path: string): Promise<StateBackend> => {
      [waits, behind] = [0, new Set()];
      wire.instead = ({ action }) => {
        if (action === "GET /v1/sys/leader") return { status: 200, body: '{"ha_enabled":true,"is_self":false}' };
        if (action === "GET /v1/sys/health") return { status: 200, body: '{"version":"2.5.0","standby":true}' };
        const isBehind = [...behind].some((end) => action.startsWith("GET") && action.endsWith(end));
        return isBehind ? { status: 404, body: '{"errors":[]}' } : null;
      };
      const sleep = async (): Promise<void> => {
        waits++;
        behind.clear();
      };
      const deps = depsOf({ VAULT_ADDR: wire.url, VAULT_TOKEN: bao.rootToken }, { sleep });
      return adapter.create(adapter.settings.parse({ path }), deps);
    };
    afterEach(() => wire.reset());

    it("an absence that was sure once costs nothing any more, over many saves of others", async () => {
      const far = await openFar(fresh());
      for (let n = 0; n < 5; n++) expect(await far.load("all")).toBeNull();
      expect(waits).toBe(1);
      let revision = await saved(far);
      expect(await far.load("all")).toBeNull();
      const before = waits;
      for (let n = 2; n < 6; n++) {
        revision = await saved(far, revision, `c${n}`);
        expect(await far.load("all")).toBeNull();
      }
      expect(waits).toBe(before);
    });

    it("whoever is refused for a document that he did not see finds it", async () => {
      const path = fresh();
      const [far, near] = [await openFar(path), await open(path)];
      expect(await far.load("payments")).toBeNull();
      await saved(near);
      behind.add("/secrets/payments");
      expect(await far.load("payments")).toBeNull();
      expect(await far.save("payments", payments, null)).toEqual({ result: "stale" });
      expect((await far.load("payments"))?.state.commitId).toBe("c1");
    });

    it("a save whose answer is lost is found, and what was there before it, though the copy has neither yet", async () => {
      const path = fresh();
      const [far, near] = [await openFar(path), await open(path)];
      expect([await far.load("all"), await far.load("payments")]).toEqual([null, null]);
      await near.save("all", newState("all", 0), null);
      wire.answer = ({ action }, answer) => (action.startsWith("POST /v1/secret/data/") ? "cut" : answer);
      expect(await far.save("payments", { ...payments, commitId: "c2" }, null)).toEqual({ result: "unknown" });
      behind.add("/secrets/all");
      expect(await far.load("all")).not.toBeNull();
      behind.add("/secrets/payments");
      expect((await far.load("payments"))?.state.commitId).toBe("c2");
    });

    it("whoever made a document finds what was there before it", async () => {
      const path = fresh();
      const [far, near] = [await openFar(path), await open(path)];
      expect(await far.load("all")).toBeNull();
      await near.save("all", newState("all", 0), null);
      behind.add("/secrets/all");
      await saved(far);
      expect(await far.load("all")).not.toBeNull();
    });

    it("a document that was there and is not seen any more is looked for twice", async () => {
      const path = fresh();
      const [far, near] = [await openFar(path), await open(path)];
      expect(await far.load("payments")).toBeNull();
      await saved(near);
      expect(await far.load("payments")).not.toBeNull();
      behind.add("/secrets/payments");
      expect(await far.load("payments")).not.toBeNull();
    });
  });

  it("gets by with what it says it needs, and with none of it missing", async () => {
    const path = fresh();
    const made = (token: string) =>
      adapter.create(adapter.settings.parse({ path }), depsOf({ VAULT_ADDR: bao.address, VAULT_TOKEN: token }));
    const needed = (await made("none")).permissions?.() ?? [];
    const allowed = async (lines: typeof needed) => made(await bao.tokenFor(FORMATS.vault.write(merged(lines))));
    const used = async (state: StateBackend, name: string): Promise<void> => {
      const mine = { ...entry, secret: name };
      expect(await state.load(name)).toBeNull();
      const document = newState(name, 0);
      const first = await state.save(name, document, null);
      const revision = first.result === "saved" ? first.revision : "";
      await state.audit.append([mine]);
      expect(await state.audit.read(null, 1)).toEqual([mine]);
      const found: string[] = [];
      for await (const loaded of state.loadAll()) found.push(loaded.state.name);
      expect(found).toContain(name);
      expect(await state.remove(name, revision)).toBe("removed");
      expect(await state.save(name, document, null)).toMatchObject({ result: "saved" });
    };
    await used(await allowed(needed), "payments");
    expect(needed).toHaveLength(4);
    for (const [index, line] of needed.entries()) {
      const others = needed.filter((other) => other !== line);
      await expect(used(await allowed(others), `without-${index}`)).rejects.toMatchObject({ kind: "denied" });
    }
  });
});

describe("vault-kv URLs", () => {
  it.each([
    ["vault-kv:", {}],
    [
      "vault-kv:ops/state?mount=kv&address=https://vault:8200",
      { path: "ops/state", mount: "kv", address: "https://vault:8200" },
    ],
  ])("%s", (url, expected) => {
    expect(adapter.fromUrl(url)).toEqual(expected);
  });

  it.each(["vault:x", "vault-kv://host/x", "vault-kv:../x", "vault-kv:x?colour=red"])("%s is none", (url) => {
    expect(adapter.fromUrl(url)).toBeNull();
  });
});
