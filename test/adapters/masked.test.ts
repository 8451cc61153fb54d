import { expect, test } from "vitest";
import { masked } from "../../src/adapters/masked.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import type { StagedStore } from "../../src/ports/store.ts";

const ctx: Ctx = { signal: new AbortController().signal, fence: () => {}, attempt: 1, rotationId: null };
const CERTIFICATE = "-----BEGIN KEY-----\r\nMIIB\nab\n\n-----END KEY-----\n";

/** As adapters are: a class, with members that only it can reach. */
class Held {
  readonly traits = { staged: true, proof: "value", timing: { propagation: 0, settle: 0 } } as const;
  readonly objectKey = "held";
  #count = 0;
  #last: SecretValue | null = null;
  async read(): Promise<SecretValue | null> {
    this.#count += 1;
    return this.#last;
  }
  async current() {
    return this.#last === null ? null : { ref: String(this.#count), value: this.#last };
  }
  async put(_version: string, value: SecretValue): Promise<string> {
    this.#last = value;
    return String((this.#count += 1));
  }
}

function watched(): { store: StagedStore; masks: string[] } {
  const masks: string[] = [];
  return { store: masked(new Held() as unknown as StagedStore, (text) => masks.push(text)), masks };
}

test("what is read is masked line by line before the reader has it; nothing is masked of nothing", async () => {
  const { store, masks } = watched();
  expect(await store.read("v1", ctx)).toBe(null);
  expect(await store.current(ctx)).toBe(null);
  const value = SecretValue.of({ accessKeyId: "AKIAEXAMPLE", secretAccessKey: "s3cr/et", certificate: CERTIFICATE });
  expect(await store.put("v1", value, null, ctx)).toBe("2");
  expect(masks).toEqual([]);
  const reading = store.read("v1", ctx).then((read) => [read, [...masks]]);
  const all = ["s3cr/et", "-----BEGIN KEY-----", "MIIB", "-----END KEY-----"];
  expect(await reading).toEqual([value, all]);
  expect((await store.current(ctx))?.value).toBe(value);
  expect([store.objectKey, store.traits.staged, store.describe]).toEqual(["held", true, undefined]);
});

test("what is issued is masked, but not where it is the key's own id", async () => {
  const masks: string[] = [];
  const value = SecretValue.of({ id: "key-0001", token: "t0ken" });
  const issuer = { issue: async () => ({ keyId: "key-0001", value, createdAt: 0 }) } as unknown as Issuer;
  const issued = await masked(issuer, (text) => masks.push(text)).issue("label", null, ctx);
  expect([issued.keyId, masks]).toEqual(["key-0001", ["t0ken"]]);
});

test("a failure is passed on as it is", async () => {
  const failure = new Error("no");
  const issuer = { issue: () => Promise.reject(failure) } as unknown as Issuer;
  await expect(masked(issuer, () => {}).issue("label", null, ctx)).rejects.toBe(failure);
});
