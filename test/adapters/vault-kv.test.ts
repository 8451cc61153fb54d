import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { adapter } from "../../src/adapters/stores/vault-kv.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { VaultPermission } from "../../src/ports/context.ts";
import type { StagedStore, Store } from "../../src/ports/store.ts";
import { ctx, stagedStoreContract, storeContract, type StoreUnderTest } from "../contract/store.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { startWire, type Wire } from "../support/wire.ts";
import { depsOf, rootOf } from "./vault-support.ts";

const FIELDS = ["accessKeyId", "secretAccessKey"];
const SAME = { accessKeyId: "accessKeyId", secretAccessKey: "secretAccessKey" };
const SIBLINGS = { owner: "team-pay", port: 5432, ratio: 0.1, large: 1e21, nested: { a: [1, null, "<&>"] }, empty: "" };
const value = (n: number) => SecretValue.of({ accessKeyId: `id-${n}`, secretAccessKey: `secret-${n}` });

const linesOf = (store: Store): readonly VaultPermission[] => (store.permissions?.() ?? []) as VaultPermission[];

const there = await baoProgram();

interface Options {
  readonly path?: string;
  readonly settings?: object;
  readonly fields?: Readonly<Record<string, string>>;
  readonly deps?: AdapterDeps;
  readonly mirror?: boolean;
}

describe.runIf(there)("vault-kv on OpenBao", () => {
  let bao: Bao;
  let wires: Wire[] = [];
  let paths = 0;
  beforeAll(async () => {
    bao = await startBao();
    await bao.must("POST", "sys/mounts/team/kv", { type: "kv", options: { version: "2" } });
    await bao.must("POST", "sys/mounts/old", { type: "kv", options: { version: "1" } });
    await bao.must("POST", "sys/mounts/fading", { type: "kv", options: { version: "2" } });
    await bao.must("POST", "sys/auth/approle", { type: "approle" });
    for (
      let tries = 0;
      (await bao.api("POST", "fading/config", { delete_version_after: "10m" })).status >= 300;
      tries++
    )
      if (tries > 50) throw new Error("the mount does not get ready");
  });
  afterEach(async () => {
    for (const wire of wires) await wire.close();
    wires = [];
  });
  afterAll(() => bao?.stop());

  const open = (options: Options = {}): Store => {
    const { path = "payments/aws", fields = SAME, deps = rootOf(bao), mirror = false } = options;
    const given = { address: bao.address, ...options.settings };
    const target = { secret: path.replaceAll(/[^A-Za-z0-9]+/g, "-"), fields, mirror };
    return adapter.create(adapter.settings.parse(given), adapter.delivery.parse({ path }), target, deps);
  };
  const staged = (options: Options = {}): StagedStore => open(options) as StagedStore;
  const fresh = (): string => `team-${++paths}/aws`;
  const raw = async (path: string) => (await bao.api("GET", `secret/data/${path}`)).body?.data;
  const write = (path: string, data: object) => bao.must("POST", `secret/data/${path}`, { data });
  const wireTo = async (): Promise<Wire> => {
    const wire = await startWire(() => bao.address);
    wires.push(wire);
    return wire;
  };

  const underTest = (mount: string, siblings: object | null) => async (): Promise<StoreUnderTest> => {
    const name = fresh();
    const secret = `s-${paths}`;
    const at = `${mount}/data/${name}`;
    if (siblings !== null) await bao.must("POST", at, { data: siblings });
    await bao.must("POST", `${mount}/metadata/${name}`, { custom_metadata: { owner: "pay" }, max_versions: 50 });
    const names = { ACCESS_KEY_ID: "accessKeyId", SECRET: "secretAccessKey" };
    return {
      open: () => {
        const settings = adapter.settings.parse({ address: bao.address, mount: `/${mount}/` });
        const target = { secret, fields: names };
        return adapter.create(settings, adapter.delivery.parse({ path: `${name}/` }), target, rootOf(bao));
      },
      siblings: async () => {
        const metadata = (await bao.api("GET", `${mount}/metadata/${name}`)).body?.data;
        const data = { ...(await bao.api("GET", at)).body?.data?.data };
        for (const ours of Object.keys(names)) delete data[ours];
        return [metadata.custom_metadata, metadata.max_versions, data];
      },
      dispose: async () => void (await bao.api("DELETE", `${mount}/metadata/${name}`)),
    };
  };
  storeContract("vault-kv beside siblings", { fields: FIELDS }, underTest("secret", SIBLINGS));
  storeContract("vault-kv on an empty path", { fields: FIELDS }, underTest("team/kv", null));
  stagedStoreContract("vault-kv", { fields: FIELDS }, underTest("team/kv", SIBLINGS));

  describe("promotion", () => {
    test("a reader of the latest version never sees a value that was not promoted", async () => {
      const path = fresh();
      await write(path, { ...SIBLINGS });
      const store = staged({ path });
      const seen = new Set<string>();
      const reading = new AbortController();
      const reader = (async () => {
        while (!reading.signal.aborted) seen.add(String((await raw(path))?.data?.accessKeyId ?? "none"));
      })();
      let ref = await store.put("v0-x", value(0), null, ctx());
      const promoted = ["none", "id-0"];
      for (let n = 1; n <= 25; n++) {
        await store.stage(`v${n}-x`, value(n), ctx());
        // Staged, looked at, some thrown away.
        expect((await staged({ path }).read(`v${n}-x`, ctx()))?.equals(value(n))).toBe(true);
        if (n % 3 === 0) await store.discard(`v${n}-x`, ctx());
        else {
          promoted.push(`id-${n}`);
          ref = await store.put(`v${n}-x`, value(n), ref, ctx());
        }
      }
      reading.abort();
      await reader;
      expect(seen.size).toBeGreaterThan(5);
      expect(promoted).toEqual(expect.arrayContaining([...seen]));
    });

    test("a neighbour's change since the look, and between our read and our write, survives", async () => {
      const path = fresh();
      await write(path, { ...SIBLINGS });
      const ref = await staged({ path }).put("v1-x", value(1), null, ctx());
      await write(path, { ...(await raw(path)).data, owner: "since the look" });
      const wire = await wireTo();
      let changed = 0;
      wire.instead = async (call) => {
        if (call.action.startsWith("POST /v1/secret/data/team") && changed++ === 0)
          await write(path, { ...(await raw(path)).data, port: 1 });
        return null;
      };
      const store = open({
        path,
        settings: { address: wire.url },
        fields: { accessKeyId: "accessKeyId", secretAccessKey: "secretAccessKey" },
      });
      const second = await store.put("v2-x", value(2), ref, ctx());
      const now = await raw(path);
      expect(now.data).toEqual({ ...SIBLINGS, owner: "since the look", port: 1, ...value(2).reveal() });
      expect(second.startsWith(`${now.metadata.version}@`)).toBe(true);
      expect(changed).toBe(2);
    });

    test.each([
      ["our field changed", async (path: string) => write(path, { ...(await raw(path)).data, accessKeyId: "theirs" })],
      ["it was deleted", (path: string) => bao.must("DELETE", `secret/data/${path}`)],
      ["all of it was removed", (path: string) => bao.must("DELETE", `secret/metadata/${path}`)],
      [
        "it was removed and written again",
        async (path: string) => {
          const { data } = await raw(path);
          await bao.must("DELETE", `secret/metadata/${path}`);
          await write(path, data);
        },
      ],
      [
        "our field changed and changed back",
        async (path: string) => {
          const { data } = await raw(path);
          await write(path, { ...data, accessKeyId: "theirs" });
          await write(path, { ...data, port: 2 });
        },
      ],
    ])("is refused where %s meanwhile", async (_, meddle) => {
      const path = fresh();
      await write(path, { ...SIBLINGS });
      const store = staged({ path });
      const ref = await store.put("v1-x", value(1), null, ctx());
      await meddle(path);
      await expect(store.put("v2-x", value(2), ref, ctx())).rejects.toMatchObject({ kind: "conflict", applied: "no" });
    });

    test("a lost answer may have happened", async () => {
      const path = fresh();
      const wire = await wireTo();
      wire.answer = (call, answer) => (call.action.startsWith("POST") ? "cut" : answer);
      const store = staged({ path, settings: { address: wire.url } });
      for (const call of [() => store.put("v1-x", value(1), null, ctx()), () => store.stage("v2-x", value(2), ctx())])
        await expect(call()).rejects.toMatchObject({ kind: "unavailable", applied: "maybe" });
      expect((await raw(path)).data).toEqual(value(1).reveal());
      wire.reset();
      await store.stage("v2-x", value(2), ctx());
    });

    test("where cas is required, over a deleted path, and with one version kept", async () => {
      const path = fresh();
      await bao.must("POST", `secret/metadata/${path}`, { cas_required: true, max_versions: 1 });
      const store = staged({ path });
      const first = await store.put("v1-x", value(1), null, ctx());
      const second = await store.put("v2-x", value(2), first, ctx());
      await expect(store.put("v3-x", value(3), first, ctx())).rejects.toMatchObject({ kind: "conflict" });
      await bao.must("DELETE", `secret/data/${path}`);
      expect(await store.current(ctx())).toBeNull();
      await expect(store.put("v3-x", value(3), second, ctx())).rejects.toMatchObject({ kind: "conflict" });
      await store.put("v3-x", value(3), null, ctx());
      expect((await store.current(ctx()))?.value.equals(value(3))).toBe(true);
    });

    test("placeholders count as nothing, other things as somebody else's", async () => {
      const path = fresh();
      await write(path, { accessKeyId: "", secretAccessKey: null });
      expect(await open({ path }).current(ctx())).toBeNull();
      await write(path, { accessKeyId: { was: "moved" }, secretAccessKey: 7 });
      expect((await open({ path }).current(ctx()))?.value.fieldNames).toEqual(FIELDS);
    });

    test("fields are renamed in the path, and whole in what is staged", async () => {
      const path = fresh();
      const store = staged({ path, fields: { KEY: "accessKeyId" } });
      await store.stage("v1-x", value(1), ctx());
      await store.put("v1-x", value(1), null, ctx());
      expect((await raw(path)).data).toEqual({ KEY: "id-1" });
      expect((await staged({ path }).read("v1-x", ctx()))?.equals(value(1))).toBe(true);
      await expect(store.discard("v1-x", ctx())).rejects.toMatchObject({ kind: "invalid" });
    });
  });

  describe("before anything is minted", () => {
    const findings = async (options: Options = {}) => (await open(options).describe(ctx())).findings;

    test.each([
      ["a mount that is not there", { mount: "nonsuch" }, "store-unsuitable", "there is no mount nonsuch/"],
      ["a mount of another kind", { mount: "sys" }, "store-unsuitable", "holds no key-value secrets"],
      ["version 1 taken for 2", { mount: "old" }, "store-unsuitable", "version 1, the policy takes it for 2"],
      ["version 2 taken for 1", { kvVersion: 1 }, "store-unsuitable", "version 2, the policy takes it for 1"],
      ["a mount that forgets", { mount: "fading" }, "store-unsuitable", "deleted by themselves after 10m"],
      ["staging where consumers read", { staging: "payments" }, "store-unsuitable", "where versions wait"],
      ["another address", { expect: { address: "https://vault.example.com" } }, "identity-mismatch", "the address"],
      [
        "another namespace",
        { expect: { namespace: "team" } },
        "identity-mismatch",
        "the namespace of Vault is the root",
      ],
      ["another cluster", { expect: { cluster: "prod" } }, "identity-mismatch", "the cluster"],
      ["another mount", { expect: { mount: "kv_00000000" } }, "identity-mismatch", "the mount"],
      ["another token", { expect: { identity: "ci" } }, "identity-mismatch", "our own token is token"],
    ] as const)("finds %s", async (_, settings, reason, text) => {
      const found = await findings({ settings });
      expect(found).toContainEqual(
        expect.objectContaining({ reason, blocks: true, message: expect.stringContaining(text) }),
      );
    });

    test("is content with what is as expected", async () => {
      const { cluster_id, cluster_name } = (await bao.api("GET", "sys/health")).body;
      const { accessor, uuid } = await bao.must("GET", "sys/mounts/secret");
      for (const expected of [
        { cluster: cluster_id, mount: uuid, identity: "token", address: `${bao.address}/` },
        { cluster: cluster_name, mount: accessor },
      ])
        expect(await findings({ settings: { expect: expected } })).toEqual([]);
    });

    test("finds a path that forgets", async () => {
      const path = fresh();
      await bao.must("POST", `secret/metadata/${path}`, { delete_version_after: "3h" });
      expect(await findings({ path })).toEqual([expect.objectContaining({ reason: "store-unsuitable", blocks: true })]);
    });

    test("what fades all the same is found when it is staged, and removed", async () => {
      const store = staged({ settings: { mount: "fading" } });
      await expect(store.stage("v1-x", value(1), ctx())).rejects.toMatchObject({ kind: "invalid", applied: "no" });
      expect((await bao.api("GET", "fading/metadata/keyturn/payments-aws/v1-x")).status).toBe(404);
    });

    const policyOf = (lines: readonly VaultPermission[]): string =>
      lines
        .map(({ path, capabilities }) => `path "${path}" { capabilities = ${JSON.stringify(capabilities)} }`)
        .join("\n");

    test("its permissions are enough for all of it", async () => {
      const path = fresh();
      const token = await bao.tokenFor(policyOf(linesOf(open({ path }))));
      const deps = depsOf({ VAULT_TOKEN: token });
      const store = staged({ path, deps });
      expect((await store.describe(ctx())).findings).toEqual([]);
      expect(await store.current(ctx())).toBeNull();
      await store.stage("v1-x", value(1), ctx());
      await staged({ path, deps: depsOf({ VAULT_TOKEN: token }) }).stage("v1-x", value(1), ctx());
      const ref = await store.put("v1-x", value(1), null, ctx());
      await store.stage("v2-x", value(2), ctx());
      const second = await store.put("v2-x", value(2), ref, ctx());
      await store.put("v2-x", value(2), second, ctx(), true);
      await store.discard("v1-x", ctx());
      expect(await store.read("v1-x", ctx())).toBeNull();
    });

    test("a mirror has no use for the staging path, and does without it", async () => {
      const path = fresh();
      const lines = linesOf(open({ path, mirror: true }));
      expect(lines.map((line) => line.path)).toEqual([`secret/data/${path}`, `secret/metadata/${path}`]);
      const deps = depsOf({ VAULT_TOKEN: await bao.tokenFor(policyOf(lines)) });
      const store = open({ path, deps, mirror: true });
      expect((await store.describe(ctx())).findings).toEqual([]);
      const ref = await store.put("v1-x", value(1), null, ctx());
      await store.put("v2-x", value(2), ref, ctx());
      expect((await store.current?.(ctx()))?.value.equals(value(2))).toBe(true);
    });

    test("with any one line or word of them removed, the check names it, and the binding is the same", async () => {
      const whole = linesOf(open());
      const { binding } = await open().describe(ctx());
      for (const [index, line] of whole.entries()) {
        for (const gone of line.capabilities) {
          const left = { ...line, capabilities: line.capabilities.filter((one) => one !== gone) };
          const token = await bao.tokenFor(policyOf(whole.with(index, left)));
          const described = await open({ deps: depsOf({ VAULT_TOKEN: token }) }).describe(ctx());
          expect(described.findings).toEqual([
            expect.objectContaining({
              reason: "permission-missing",
              blocks: true,
              message: expect.stringContaining(`may not ${gone} ${line.path} `),
              hint: expect.stringContaining(`path "${line.path}"`),
            }),
          ]);
          expect(described.binding).toBe(binding);
        }
      }
    });

    test("where it may not ask what it may do, it cannot tell", async () => {
      const lines = policyOf(linesOf(open()));
      const self = 'path "auth/token/lookup-self" { capabilities = ["read"] }';
      const token = await bao.tokenFor(`${lines}\n${self}`, { no_default_policy: true });
      expect(await findings({ deps: depsOf({ VAULT_TOKEN: token }) })).toEqual([
        expect.objectContaining({ reason: "permission-missing", blocks: false }),
      ]);
    });

    test("a refused write names path, capability and policy line, and did nothing", async () => {
      const path = fresh();
      const token = await bao.tokenFor(`path "secret/data/*" { capabilities = ["read"] }`);
      const store = staged({ path, deps: depsOf({ VAULT_TOKEN: token }) });
      for (const call of [() => store.put("v1-x", value(1), null, ctx()), () => store.stage("v1-x", value(1), ctx())])
        await expect(call()).rejects.toMatchObject({
          kind: "denied",
          applied: "no",
          message: expect.stringMatching(/the token may not create secret\/data\//),
          detail: { hint: expect.stringContaining('path "secret/data/') },
        });
    });

    test("its binding is the cluster, namespace, mount and path, however they are reached", async () => {
      const wire = await wireTo();
      const { binding } = await open().describe(ctx());
      expect((await open({ settings: { address: `${wire.url}/` } }).describe(ctx())).binding).toBe(binding);
      expect((await open({ path: "payments/other" }).describe(ctx())).binding).not.toBe(binding);
      expect((await open({ settings: { mount: "team/kv" } }).describe(ctx())).binding).not.toBe(binding);
    });
  });

  test("in a namespace of its own", async () => {
    await bao.must("POST", "sys/namespaces/team-b", {});
    await bao.must("POST", "sys/mounts/kv", { type: "kv", options: { version: "2" } }, { namespace: "team-b" });
    const settings = { namespace: "/team-b/", mount: "kv" };
    const store = staged({ settings });
    await expect.poll(async () => (await store.describe(ctx())).findings).toEqual([]);
    expect((await store.describe(ctx())).binding).toContain(":team-b:");
    await store.stage("v1-x", value(1), ctx());
    await store.put("v1-x", value(1), null, ctx());
    const there = await bao.must("GET", "kv/data/payments/aws", undefined, { namespace: "team-b" });
    expect(there.data).toEqual(value(1).reveal());
    const nowhere = open({ settings: { namespace: "nonsuch", mount: "kv" } });
    const message = expect.stringContaining("namespace nonsuch");
    await expect(nowhere.current(ctx())).rejects.toMatchObject({ kind: "not-found", message });
    expect((await nowhere.describe(ctx())).findings).toMatchObject([
      { reason: "identity-mismatch", blocks: true, message, hint: expect.stringContaining("VAULT_NAMESPACE") },
    ]);
  });

  test("a mount that is not there is no absence", async () => {
    const store = staged({ settings: { mount: "nonsuch" } });
    for (const call of [
      () => store.current(ctx()),
      () => store.read("v1-x", ctx()),
      () => store.put("v1-x", value(1), null, ctx()),
    ])
      await expect(call()).rejects.toMatchObject({
        kind: "not-found",
        message: expect.stringContaining("nothing is mounted"),
      });
  });

  test("odd names of paths stay what they are", async () => {
    for (const path of ["a b/ü%2F", "x&y='z'", "team/sys/health"]) {
      const store = staged({ path });
      const ref = await store.put("v1-x", value(1), null, ctx());
      expect((await staged({ path }).current(ctx()))?.ref).toBe(ref);
      expect((await raw(path.split("/").map(encodeURIComponent).join("/"))).data).toEqual(value(1).reveal());
    }
    for (const path of ["", "/", "../x", "a/./b", "a/..", "a?b", "a\nb", "a*"])
      expect(adapter.delivery.safeParse({ path }).success).toBe(false);
  });

  describe("KV version 1, a mirror", () => {
    const mirror = (path: string, more: Options = {}): Store =>
      open({
        path,
        fields: { KEY: "accessKeyId" },
        ...more,
        settings: { mount: "old", kvVersion: 1, ...more.settings },
      });

    test("writes our fields and leaves the rest", async () => {
      const path = fresh();
      const store = mirror(path);
      expect(store.traits.staged).toBe(false);
      expect(await store.current(ctx())).toBeNull();
      await bao.must("POST", `old/${path}`, { owner: "pay", port: 1 });
      const ref = await store.put("v1-x", value(1), null, ctx());
      await store.put("v2-x", value(2), ref, ctx());
      await store.put("v2-x", value(2), ref, ctx(), true);
      expect(await bao.must("GET", `old/${path}`)).toEqual({ owner: "pay", port: 1, KEY: "id-2" });
      expect((await mirror(path).current(ctx()))?.value.reveal()).toEqual({ accessKeyId: "id-2" });
      await expect(store.put("v3-x", value(3), null, ctx())).rejects.toMatchObject({ kind: "conflict", applied: "no" });
    });

    test("refuses what it could not write back", async () => {
      const path = fresh();
      const headers = { "x-vault-token": bao.rootToken };
      await fetch(`${bao.address}/v1/old/${path}`, { method: "POST", headers, body: '{"id":12345678901234567890}' });
      const put = mirror(path).put("v1-x", value(1), null, ctx());
      await expect(put).rejects.toMatchObject({ kind: "invalid", applied: "no" });
    });

    test("its permission is enough, and missed where it is missing", async () => {
      const path = fresh();
      const line = linesOf(mirror(path))[0] as VaultPermission;
      const token = await bao.tokenFor(`path "${line.path}" { capabilities = ${JSON.stringify(line.capabilities)} }`);
      const store = mirror(path, { deps: depsOf({ VAULT_TOKEN: token }) });
      expect((await store.describe(ctx())).findings).toEqual([]);
      await store.put("v1-x", value(1), null, ctx());
      const none = mirror(path, {
        deps: depsOf({ VAULT_TOKEN: await bao.tokenFor('path "none" { capabilities = ["deny"] }') }),
      });
      const { findings } = await none.describe(ctx());
      expect(findings).toContainEqual(expect.objectContaining({ reason: "permission-missing", blocks: true }));
    });
  });
});
