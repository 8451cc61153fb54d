import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ProviderError } from "../../src/core/errors.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Ctx } from "../../src/ports/context.ts";
import { isStaged, type StagedStore, type Store } from "../../src/ports/store.ts";

/** One delivery with nothing in it yet, beside things that are not ours where the store can hold such. */
export interface StoreUnderTest {
  /** The store as one more process would make it. */
  open(): Store;
  /** Everything of strangers' that the delivery must leave alone, in any comparable form. */
  siblings(): Promise<unknown>;
  dispose(): Promise<void>;
}

export interface StoreContractOptions {
  /** The names of the fields that the delivery carries. */
  readonly fields: readonly string[];
}

/** A context whose call may go ahead. */
export function ctx(): Ctx {
  return { signal: new AbortController().signal, fence: () => {}, attempt: 1, rotationId: "r-test" };
}

/** A context whose duration has passed. */
export function fencedCtx(): Ctx {
  const fence = (): void => {
    throw new ProviderError("unavailable", "no", "the call's time has passed");
  };
  return { ...ctx(), fence };
}

/** What `src/ports/store.ts` asks of every store with proof `value`. */
export function storeContract(name: string, options: StoreContractOptions, make: () => Promise<StoreUnderTest>): void {
  const value = valuesOf(options.fields);
  describe(`${name}: store contract`, () => {
    let place: StoreUnderTest;
    let store: Store;
    let siblings: unknown;
    beforeEach(async () => {
      place = await make();
      store = place.open();
      siblings = await place.siblings();
    });
    afterEach(async () => {
      try {
        expect(await place.siblings()).toEqual(siblings);
      } finally {
        await place.dispose();
      }
    });
    const served = async (): Promise<SecretValue | null> => (await place.open().current(ctx()))?.value ?? null;

    it("describes itself without changing anything, and is well", async () => {
      const first = await store.describe(ctx());
      expect(first.findings).toEqual([]);
      expect(first.binding).not.toBe("");
      expect((await place.open().describe(ctx())).binding).toBe(first.binding);
      expect(place.open().objectKey).toBe(store.objectKey);
      expect(await store.current(ctx())).toBeNull();
    });

    it("serves what was put, to another process too, under the ref that put gave", async () => {
      const ref = await store.put("v1", value(1), null, ctx());
      for (const reader of [store, place.open()]) {
        const now = await reader.current(ctx());
        expect(now?.ref).toBe(ref);
        expect(now?.value.equals(value(1))).toBe(true);
      }
    });

    it("names what stands beside its own fields, and none of those", async () => {
      if (store.others === undefined) return;
      const before = [...(await store.others(ctx()))].sort();
      await store.put("v1", value(1), null, ctx());
      expect([...((await place.open().others?.(ctx())) ?? [])].sort()).toEqual(before);
    });

    it("keeps the ref while nothing is written", async () => {
      const ref = await store.put("v1", value(1), null, ctx());
      expect((await store.current(ctx()))?.ref).toBe(ref);
      expect((await place.open().current(ctx()))?.ref).toBe(ref);
    });

    it("replaces only what was expected", async () => {
      const first = await store.put("v1", value(1), null, ctx());
      const second = await store.put("v2", value(2), first, ctx());
      expect(second).not.toBe(first);
      for (const stale of [first, null, "no ref"]) {
        await expect(store.put("v3", value(3), stale, ctx())).rejects.toMatchObject({
          kind: "conflict",
          applied: "no",
        });
      }
      expect((await served())?.equals(value(2))).toBe(true);
    });

    it("refuses an expected ref where there is nothing", async () => {
      await expect(store.put("v1", value(1), "no ref", ctx())).rejects.toMatchObject({
        kind: "conflict",
        applied: "no",
      });
      expect(await served()).toBeNull();
    });

    it("moves the ref with a fresh write of the same value, so that an older write under way loses", async () => {
      const refs = [await store.put("v1", value(1), null, ctx())];
      for (let i = 0; i < 20; i++) refs.push(await store.put("v1", value(1), refs.at(-1) as string, ctx(), true));
      expect(new Set(refs).size).toBe(refs.length);
      await expect(store.put("v2", value(2), refs[0] as string, ctx())).rejects.toMatchObject({ kind: "conflict" });
      expect((await served())?.equals(value(1))).toBe(true);
    });

    it("takes a value back as readily as forward", async () => {
      const first = await store.put("v1", value(1), null, ctx());
      const second = await store.put("v2", value(2), first, ctx());
      const third = await store.put("v1", value(1), second, ctx());
      expect(third).not.toBe(first);
      expect((await served())?.equals(value(1))).toBe(true);
    });

    it("lets one of many writers win", async () => {
      const first = await store.put("v0", value(0), null, ctx());
      const writes = [1, 2, 3, 4].map((n) => place.open().put(`v${n}`, value(n), first, ctx()));
      const results = await Promise.allSettled(writes);
      const winners = results.flatMap(({ status }, i) => (status === "fulfilled" ? [i + 1] : []));
      expect(winners).toHaveLength(1);
      const losers = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
      for (const loser of losers)
        expect(loser).toMatchObject({ name: "ProviderError", kind: "conflict", applied: "no" });
      expect((await served())?.equals(value(winners[0] as number))).toBe(true);
    });

    it("changes nothing once the call's time has passed", async () => {
      await expect(store.put("v1", value(1), null, fencedCtx())).rejects.toMatchObject({
        kind: "unavailable",
        applied: "no",
      });
      expect(await served()).toBeNull();
      const first = await store.put("v1", value(1), null, ctx());
      await expect(store.put("v2", value(2), first, fencedCtx())).rejects.toMatchObject({
        kind: "unavailable",
        applied: "no",
      });
      expect((await store.current(ctx()))?.ref).toBe(first);
    });

    it("tells of no value in a ref or a refusal", async () => {
      const ref = await store.put("v1", value(1), null, ctx());
      const error: unknown = await store.put("v2", value(2), null, ctx()).catch((thrown: unknown) => thrown);
      for (const field of options.fields) {
        for (const text of [ref, String(error), JSON.stringify(error)]) expect(text).not.toContain(`${field}-`);
      }
    });
  });
}

/** What it asks of staged stores besides. */
export function stagedStoreContract(
  name: string,
  options: StoreContractOptions,
  make: () => Promise<StoreUnderTest>,
): void {
  const value = valuesOf(options.fields);
  describe(`${name}: staged store contract`, () => {
    let place: StoreUnderTest;
    let store: StagedStore;
    let siblings: unknown;
    beforeEach(async () => {
      place = await make();
      store = again();
      siblings = await place.siblings();
    });
    afterEach(async () => {
      try {
        expect(await place.siblings()).toEqual(siblings);
      } finally {
        await place.dispose();
      }
    });
    const again = (): StagedStore => {
      const opened = place.open();
      if (!isStaged(opened)) throw new TypeError("the store is not staged");
      return opened;
    };

    it("holds a version that no consumer sees", async () => {
      await store.stage("v1", value(1), ctx());
      expect(await store.current(ctx())).toBeNull();
      expect((await again().read("v1", ctx()))?.equals(value(1))).toBe(true);
      expect(await store.read("v2", ctx())).toBeNull();
    });

    it("stages each version once: the same value again is success, another is refused", async () => {
      await store.stage("v1", value(1), ctx());
      await again().stage("v1", value(1), ctx());
      await expect(store.stage("v1", value(2), ctx())).rejects.toMatchObject({ kind: "conflict", applied: "no" });
      await expect(store.put("v1", value(2), null, ctx())).rejects.toMatchObject({ kind: "conflict", applied: "no" });
      expect((await store.read("v1", ctx()))?.equals(value(1))).toBe(true);
      expect(await store.current(ctx())).toBeNull();
    });

    it("lets one of many stagers of a version win", async () => {
      const results = await Promise.allSettled([1, 2, 3, 4].map((n) => again().stage("v1", value(n), ctx())));
      const winners = results.flatMap(({ status }, i) => (status === "fulfilled" ? [i + 1] : []));
      expect(winners).toHaveLength(1);
      expect((await store.read("v1", ctx()))?.equals(value(winners[0] as number))).toBe(true);
    });

    it("promotes what was staged, and keeps the version before it", async () => {
      await store.stage("v1", value(1), ctx());
      const first = await store.put("v1", value(1), null, ctx());
      await store.stage("v2", value(2), ctx());
      expect((await store.current(ctx()))?.ref).toBe(first);
      await store.put("v2", value(2), first, ctx());
      expect((await store.current(ctx()))?.value.equals(value(2))).toBe(true);
      expect((await store.read("v1", ctx()))?.equals(value(1))).toBe(true);
    });

    it("discards what is not served; absent is success; the served version is refused", async () => {
      await store.discard("v9", ctx());
      const first = await store.put("v1", value(1), null, ctx());
      await store.stage("v2", value(2), ctx());
      await expect(store.discard("v1", ctx())).rejects.toMatchObject({ kind: "invalid", applied: "no" });
      await store.discard("v2", ctx());
      await store.discard("v2", ctx());
      expect(await store.read("v2", ctx())).toBeNull();
      expect(await store.current(ctx())).toMatchObject({ ref: first });
    });

    it("stages and discards nothing once the call's time has passed", async () => {
      await expect(store.stage("v1", value(1), fencedCtx())).rejects.toMatchObject({
        kind: "unavailable",
        applied: "no",
      });
      expect(await store.read("v1", ctx())).toBeNull();
      await store.stage("v1", value(1), ctx());
      await expect(store.discard("v1", fencedCtx())).rejects.toMatchObject({ kind: "unavailable", applied: "no" });
      expect((await store.read("v1", ctx()))?.equals(value(1))).toBe(true);
    });

    it("keeps names of versions inside", async () => {
      for (const version of ["../v1", "a/b", "", ".", "..", "/etc/passwd"]) {
        await expect(store.stage(version, value(1), ctx())).rejects.toMatchObject({ kind: "invalid", applied: "no" });
      }
    });
  });
}

function valuesOf(fields: readonly string[]): (n: number) => SecretValue {
  return (n) => SecretValue.of(Object.fromEntries(fields.map((field) => [field, `${field}-${n}`])));
}
