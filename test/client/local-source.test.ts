import { mkdtemp, readFile, rm, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/stores/local.ts";
import { keyturnClient, localSource, LocalSourceError } from "../../src/client/index.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import { isStaged, type StagedStore } from "../../src/ports/store.ts";

const ctx = { signal: new AbortController().signal, fence: () => {}, attempt: 1, rotationId: null };
let folder: string;
let store: StagedStore;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "keyturn-client-"));
  const deps = { folder, env: {}, now: Date.now, sleep: () => Promise.resolve(), debug: () => {}, announce: () => {} };
  const made = adapter.create(
    adapter.settings.parse({}),
    adapter.delivery.parse({}),
    { secret: "payments", fields: { apiKey: "apiKey" } },
    deps,
  );
  if (!isStaged(made)) throw new Error("the local store is staged");
  store = made;
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const source = () =>
  localSource({
    name: "payments",
    path: join(folder, ".keyturn", "secrets"),
    identity: join(folder, ".keyturn", "identity"),
  });
const promote = async (version: string, apiKey: string): Promise<void> => {
  const value = SecretValue.of({ apiKey });
  const before = await store.current(ctx);
  await store.stage(version, value, ctx);
  await store.put(version, value, before?.ref ?? null, ctx);
};

describe("localSource", () => {
  it("serves what keyturn's local store serves, and follows it", async () => {
    await promote("v1-aaaa", "first");
    const keys = keyturnClient({ source: source(), instance: "bot-1", refreshEvery: 0 });
    expect(await keys.current()).toEqual({ version: "v1-aaaa", value: { apiKey: "first" } });
    await store.stage("v2-bbbb", SecretValue.of({ apiKey: "second" }), ctx);
    expect((await keys.current()).version).toBe("v1-aaaa");
    await promote("v2-bbbb", "second");
    expect(await keys.current()).toEqual({ version: "v2-bbbb", value: { apiKey: "second" } });
  });

  it("reads a version once", async () => {
    await promote("v1-aaaa", "first");
    const read = source();
    const first = await read();
    await unlink(join(folder, ".keyturn", "identity"));
    expect(await read()).toBe(first);
  });

  it("names the file that is missing or wrong, and never what is in it", async () => {
    await expect(source()()).rejects.toThrow(/current cannot be read \(ENOENT\)/);
    await promote("v1-aaaa", "canary");
    const secrets = join(folder, ".keyturn", "secrets", "payments");
    const encrypted = join(secrets, "v1-aaaa.age");
    const whole = await readFile(encrypted);
    await writeFile(encrypted, whole.subarray(0, -1));
    await expect(source()()).rejects.toThrow(/v1-aaaa\.age cannot be decrypted/);
    await writeFile(join(secrets, "current"), "../../identity\n");
    const error = await source()().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LocalSourceError);
    expect(String(error)).toMatch(/current names no version/);
  });
});
