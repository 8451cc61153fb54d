import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/stores/local.ts";
import { localSource } from "../../src/client/local-source.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { StagedStore } from "../../src/ports/store.ts";
import { ctx, stagedStoreContract, storeContract, type StoreUnderTest } from "../contract/store.ts";
import {
  canMount,
  depsIn,
  isRoot,
  live,
  onSmallDisk,
  runAndKill,
  script,
  tempFolders,
  type TestDeps,
} from "./file-support.ts";

const folderOf = tempFolders();
const value = SecretValue.of({ apiKey: "kt_one", other: "line one\nline 'two' \"\\ é" });
const store = (
  deps: TestDeps,
  settings: { path?: string; identity?: string } = {},
  fields: Record<string, string> = {},
): StagedStore =>
  adapter.create(adapter.settings.parse(settings), {}, { secret: "payments", fields }, deps) as StagedStore;

const underTest = async (): Promise<StoreUnderTest> => {
  const folder = folderOf();
  const neighbour = adapter.create(
    adapter.settings.parse({}),
    { name: "neighbour" },
    { secret: "n", fields: {} },
    depsIn(folder),
  );
  await neighbour.put("v1", value, null, ctx());
  return {
    open: () => store(depsIn(folder)),
    siblings: async () => {
      const served = await neighbour.current(ctx());
      return [served?.ref, served?.value.equals(value), readdirSync(join(folder, ".keyturn/secrets/neighbour")).sort()];
    },
    dispose: async () => {},
  };
};

storeContract("local", { fields: ["apiKey", "other"] }, underTest);
stagedStoreContract("local", { fields: ["apiKey", "other"] }, underTest);

describe("local", () => {
  it("keeps a version as an age file, current as its id, and leaves nothing else", async () => {
    const folder = folderOf();
    await store(depsIn(folder)).put("v1-77aa", value, null, ctx());
    const own = join(folder, ".keyturn/secrets/payments");
    expect(readdirSync(own).sort()).toEqual(["current", "v1-77aa.age"]);
    expect(readFileSync(join(own, "current"), "utf8").split("\n")[0]).toBe("v1-77aa");
    for (const file of readdirSync(own)) {
      expect(statSync(join(own, file)).mode & 0o777).toBe(0o600);
      expect(readFileSync(join(own, file), "latin1")).not.toContain("kt_one");
    }
    expect(statSync(own).mode & 0o777).toBe(0o700);
    expect(readFileSync(join(folder, ".keyturn/.gitignore"), "utf8")).toBe("*\n");
  });

  it("can be read by the client library", async () => {
    const folder = folderOf();
    await store(depsIn(folder)).put("v1-77aa", value, null, ctx());
    const source = localSource({
      name: "payments",
      path: join(folder, ".keyturn/secrets"),
      identity: join(folder, ".keyturn/identity"),
    });
    expect(await source()).toEqual({ version: "v1-77aa", value: value.reveal() });
  });

  it("takes the place that the policy names, and current as people write it", async () => {
    const folder = folderOf();
    const mapped = store(depsIn(folder), { path: "elsewhere" }, { API_KEY: "apiKey" });
    await mapped.put("v1", value, null, ctx());
    writeFileSync(join(folder, "elsewhere/payments/current"), "v1");
    const served = await mapped.current(ctx());
    expect(served?.value.reveal()).toEqual({ apiKey: "kt_one" });
    await mapped.put("v2", value, served?.ref ?? null, ctx());
    expect((await mapped.current(ctx()))?.ref).toContain("v2");
    expect(() => adapter.delivery.parse({ name: "../x" })).toThrow();
    expect(() => adapter.create({ path: "p" }, {}, { secret: "../x", fields: {} }, depsIn(folder))).toThrow(/form/);
  });

  it("refuses a value without the field that it should carry", async () => {
    const mapped = store(depsIn(folderOf()), {}, { API_KEY: "none" });
    await expect(mapped.stage("v1", value, ctx())).rejects.toMatchObject({ kind: "invalid", applied: "no" });
  });

  it("says when what is served has vanished", async () => {
    const folder = folderOf();
    await store(depsIn(folder)).put("v1", value, null, ctx());
    rmSync(join(folder, ".keyturn/secrets/payments/v1.age"));
    await expect(store(depsIn(folder)).current(ctx())).rejects.toMatchObject({ kind: "not-found", applied: "no" });
    writeFileSync(join(folder, ".keyturn/secrets/payments/current"), "../../x\n");
    await expect(store(depsIn(folder)).current(ctx())).rejects.toMatchObject({ kind: "invalid" });
  });

  it("serves one of the two versions, whenever its writer is killed", async () => {
    const folder = folderOf();
    const writer = script(`
      import { setTimeout as sleep } from "node:timers/promises";
      import { SecretValue } from "../../src/core/secret-value.ts";
      import { adapter } from "../../src/adapters/stores/local.ts";
      const deps = { folder: process.argv[2], env: {}, now: Date.now, sleep, debug() {}, announce() {} };
      const store = adapter.create(adapter.settings.parse({}), {}, { secret: "payments", fields: {} }, deps);
      const ctx = { signal: new AbortController().signal, fence() {}, attempt: 1, rotationId: null };
      let ref = (await store.current(ctx))?.ref ?? null;
      process.stdout.write("ready");
      for (let i = 0; ; i++) ref = await store.put("v" + (i % 2), SecretValue.of({ apiKey: "key-" + (i % 2) }), ref, ctx);
    `);
    for (let i = 0; i < 6; i++) {
      await runAndKill(writer, [folder], i === 0 ? 400 : 30 + i * 13);
      const served = await store(depsIn(folder)).current(ctx());
      expect(["key-0", "key-1"]).toContain(served?.value.reveal()["apiKey"]);
    }
    const last = await store(depsIn(folder)).current(ctx());
    await store(depsIn(folder)).put("v2", value, last?.ref ?? null, ctx());
    expect(readdirSync(join(folder, ".keyturn/secrets/payments")).sort()).toEqual([
      "current",
      "v0.age",
      "v1.age",
      "v2.age",
    ]);
  });

  it("survives a full disk", async () => {
    const folder = folderOf();
    if (!live("root, to mount a small disk", isRoot && canMount(folder))) return;
    await onSmallDisk(folder, 64, async () => {
      const small = store(depsIn(folder));
      const ref = await small.put("v1", value, null, ctx());
      const large = SecretValue.of({ apiKey: "x".repeat(100_000) });
      await expect(small.put("v2", large, ref, ctx())).rejects.toMatchObject({ kind: "quota", applied: "no" });
      expect((await small.current(ctx()))?.ref).toBe(ref);
      expect(readdirSync(join(folder, ".keyturn/secrets/payments")).sort()).toEqual(["current", "v1.age"]);
    });
  });
});

describe("the identity", () => {
  it("is made once, private, and announced once", async () => {
    const folder = folderOf();
    const deps = depsIn(folder);
    await Promise.all(
      ["a", "b", "c"].map((name) => {
        const one = adapter.create(adapter.settings.parse({}), { name }, { secret: "payments", fields: {} }, deps);
        return one.put("v1", value, null, ctx());
      }),
    );
    expect(deps.announced).toEqual([expect.stringContaining(join(folder, ".keyturn/identity"))]);
    expect(statSync(join(folder, ".keyturn/identity")).mode & 0o777).toBe(0o600);
    expect(deps.announced.join("")).not.toContain("SECRET-KEY");
  });

  it("that cannot be made is found by a look", async () => {
    const folder = folderOf();
    writeFileSync(join(folder, "file"), "");
    const { findings } = await store(depsIn(folder), { identity: "file/identity" }).describe(ctx());
    expect(findings).toMatchObject([
      { reason: "credentials-missing", blocks: true, message: expect.stringContaining("file/identity") as string },
    ]);
  });

  it("is not made by a look", async () => {
    const folder = folderOf();
    await store(depsIn(folder)).describe(ctx());
    await store(depsIn(folder)).current(ctx());
    expect(readdirSync(folder)).toEqual([]);
  });

  it("comes from the setting, else from KEYTURN_IDENTITY", async () => {
    const folder = folderOf();
    const deps = depsIn(folder, { env: { KEYTURN_IDENTITY: "from-env" } });
    await store(deps, { path: "a" }).stage("v1", value, ctx());
    await store(deps, { path: "b", identity: "from-setting" }).stage("v1", value, ctx());
    expect(readdirSync(folder).sort()).toEqual(["a", "b", "from-env", "from-setting"]);
  });

  it.each([
    ["readable by others", (file: string) => chmodSync(file, 0o640), `chmod 600`],
    ["no identity", (file: string) => writeFileSync(file, "hello\n"), "AGE-SECRET-KEY-1"],
    ["empty", (file: string) => writeFileSync(file, "# nothing\n"), "AGE-SECRET-KEY-1"],
    ["lost", (file: string) => rmSync(file), "backup"],
    ["another one", (file: string) => rmSync(file), "v1.age"],
  ])("is refused when it is %s", async (what, spoil, hint) => {
    const folder = folderOf();
    await store(depsIn(folder)).put("v1", value, null, ctx());
    const identity = join(folder, ".keyturn/identity");
    spoil(identity);
    if (what === "another one") await store(depsIn(folder), { path: "other" }).stage("v1", value, ctx());
    const refusal = {
      kind: "unauthenticated",
      applied: "no",
      message: expect.stringContaining(identity) as string,
      detail: { hint: expect.stringContaining(hint) as string },
    };
    const again = store(depsIn(folder));
    await expect(again.current(ctx())).rejects.toMatchObject(refusal);
    await expect(again.read("v1", ctx())).rejects.toMatchObject(refusal);
    if (what === "another one") return;
    await expect(again.stage("v2", value, ctx())).rejects.toMatchObject({ kind: "unauthenticated", applied: "no" });
    const { findings } = await again.describe(ctx());
    expect(findings).toHaveLength(1);
  });

  it("does not read a damaged file", async () => {
    const folder = folderOf();
    await store(depsIn(folder)).put("v1", value, null, ctx());
    const file = join(folder, ".keyturn/secrets/payments/v1.age");
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.fill(0, bytes.length - 4));
    await expect(store(depsIn(folder)).current(ctx())).rejects.toMatchObject({
      kind: "unauthenticated",
      detail: { hint: expect.stringContaining(file) as string },
    });
  });
});

describe("the age tool", () => {
  let possible: boolean;
  beforeAll(() => {
    possible = live("the age tool on the PATH", hasAge());
  });

  it("reads what the store wrote, with the store's identity", async () => {
    if (!possible) return;
    const folder = folderOf();
    await store(depsIn(folder)).put("v1", value, null, ctx());
    const file = join(folder, ".keyturn/secrets/payments/v1.age");
    const text = execFileSync("age", ["--decrypt", "--identity", join(folder, ".keyturn/identity"), file], {
      encoding: "utf8",
    });
    expect(JSON.parse(text)).toEqual(value.reveal());
  });

  it("writes what the store reads, with the tool's identity", async () => {
    if (!possible) return;
    const folder = folderOf();
    const own = join(folder, ".keyturn/secrets/payments");
    mkdirSync(own, { recursive: true });
    const identity = join(folder, "key.txt");
    execFileSync("age-keygen", ["--output", identity], { stdio: "ignore" });
    const recipient = execFileSync("age-keygen", ["-y", identity], { encoding: "utf8" }).trim();
    execFileSync("age", ["--recipient", recipient, "--output", join(own, "v1.age")], {
      input: JSON.stringify(value.reveal()),
    });
    writeFileSync(join(own, "current"), "v1\n");
    expect((await store(depsIn(folder), { identity }).current(ctx()))?.value.equals(value)).toBe(true);
  });
});

function hasAge(): boolean {
  try {
    execFileSync("age", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
