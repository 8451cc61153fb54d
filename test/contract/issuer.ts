import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ProviderError } from "../../src/core/errors.ts";
import type { SecretValue } from "../../src/core/secret-value.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import { startWire, type Wire } from "../support/wire.ts";
import { ctx, fencedCtx } from "./store.ts";

/** One credential owner with no key but one of a stranger's, and room for one more at least. */
export interface IssuerUnderTest {
  /** Where the provider answers: `http://127.0.0.1:…`. */
  readonly url: string;
  /** The issuer as one more process would make it; with `url`, told that the provider is there. */
  open(url?: string): Issuer;
  /** Everything of strangers', in any comparable form. */
  strangers(): Promise<unknown>;
  /** A value of the right shape that no key ever had. */
  readonly junk: SecretValue;
  /** A key id of the right shape that no key has. */
  readonly absent: string;
  /** The value given to `issue` where it comes from the caller. */
  readonly chosen?: SecretValue;
  dispose(): Promise<void>;
}

const LATE = { name: "ProviderError", kind: "unavailable", applied: "no" };
const MAYBE = { name: "ProviderError", kind: "unavailable", applied: "maybe" };

/**
 * What `src/ports/issuer.ts` asks of every issuer.
 * @param options `canDisable`: what its traits say, known before any is made; `limits`: whether the provider itself
 * refuses more than `maxKeys`
 */
export function issuerContract(
  name: string,
  make: () => Promise<IssuerUnderTest>,
  { canDisable = true, limits = true }: { canDisable?: boolean; limits?: boolean } = {},
): void {
  describe(`${name}: issuer contract`, () => {
    let owner: IssuerUnderTest;
    let issuer: Issuer;
    let strangers: unknown;
    let wire: Wire;
    beforeEach(async () => {
      owner = await make();
      issuer = owner.open();
      strangers = await owner.strangers();
      wire = await startWire(() => owner.url);
    });
    afterEach(async () => {
      try {
        expect(await owner.strangers()).toEqual(strangers);
      } finally {
        await wire.close();
        await owner.dispose();
      }
    });
    const issue = (from = issuer, how: Ctx = ctx()) => from.issue("v1-0a1b2c3d", owner.chosen ?? null, how);
    const find = async (keyId: string) => (await owner.open().list(ctx())).keys.find((key) => key.keyId === keyId);
    const count = async () => (await owner.open().list(ctx())).keys.length;

    it("describes itself without changing anything, and is well", async () => {
      const before = await issuer.list(ctx());
      const first = await issuer.describe(fencedCtx());
      expect(first.findings.filter(({ blocks }) => blocks)).toEqual([]);
      expect(first.binding).not.toBe("");
      expect((await owner.open().describe(ctx())).binding).toBe(first.binding);
      expect((await owner.open(wire.url).describe(ctx())).binding).toBe(first.binding);
      expect((await issuer.list(ctx())).keys).toEqual(before.keys);
    });

    it("issues an enabled key that the listing shows and that is accepted", async () => {
      const { traits } = issuer;
      const before = await issuer.list(ctx());
      const { keyId, value, createdAt } = await issue();
      const after = await issuer.list(ctx());
      expect(after.keys.map((key) => key.keyId).sort()).toEqual([...before.keys.map((key) => key.keyId), keyId].sort());
      const label = traits.labels ? { label: "v1-0a1b2c3d" } : {};
      expect(await find(keyId)).toEqual({ keyId, createdAt, state: "enabled", ...label });
      const grain = Math.max(1, traits.timing.timeGranularity);
      expect(createdAt % grain).toBe(0);
      expect(Math.floor(after.asOf / grain)).toBeGreaterThanOrEqual(createdAt / grain);
      expect(await issuer.verify(value, ctx())).toBe("accepted");
      expect(value.equals(owner.chosen ?? value)).toBe(true);
    });

    it.runIf(limits)("refuses another key than it may have, and makes none", async () => {
      const { maxKeys } = issuer.traits;
      for (let keys = await count(); keys < maxKeys; keys++) await issue();
      await expect(issue()).rejects.toMatchObject({ name: "ProviderError", kind: "quota", applied: "no" });
      expect(await count()).toBe(maxKeys);
    });

    it("says whether it can disable", () => {
      expect(issuer.traits.canDisable).toBe(canDisable);
    });

    it("deletes a key; absent is success", async () => {
      const { keyId, value } = await issue();
      for (const _ of [1, 2]) await owner.open().delete(keyId, ctx());
      expect(await find(keyId)).toBeUndefined();
      expect(await issuer.verify(value, ctx())).toBe("rejected");
      await issuer.delete(owner.absent, ctx());
    });

    it("rejects what never was a key", async () => {
      expect(await issuer.verify(owner.junk, ctx())).toBe("rejected");
    });

    it("knows its own keys by their values", async () => {
      if (issuer.identify === undefined) return;
      const { keyId, value } = await issue();
      expect(await owner.open().identify?.(value, ctx())).toBe(keyId);
      expect(await issuer.identify(owner.junk, ctx())).toBeNull();
      await issuer.delete(keyId, ctx());
      expect(await issuer.identify(value, ctx())).toBeNull();
    });

    it("answers for every key that it is asked about", async () => {
      if (issuer.usage === undefined) return;
      const { keyId } = await issue();
      const usage = await issuer.usage.usageOf([keyId, owner.absent], 0, fencedCtx());
      expect([...usage.keys()].sort()).toEqual([keyId, owner.absent].sort());
      expect(usage.get(owner.absent)).toMatchObject({ status: "unknown", events: [] });
      expect(usage.get(owner.absent)?.why).toMatch(/\w/);
      const { from, until } = usage.get(keyId) ?? { from: 1, until: 0 };
      expect(from).toBeLessThanOrEqual(until);
    });

    it("changes nothing once the call's time has passed, and needs no time to look", async () => {
      const { keyId, value } = await issue();
      const before = await issuer.list(ctx());
      await expect(issue(issuer, fencedCtx())).rejects.toMatchObject(LATE);
      await expect(issuer.delete(keyId, fencedCtx())).rejects.toMatchObject(LATE);
      expect((await issuer.list(fencedCtx())).keys).toEqual(before.keys);
      expect(await issuer.verify(value, fencedCtx())).toBe("accepted");
    });

    it("says that it may have happened when the answer is lost, and sends it once", async () => {
      const far = owner.open(wire.url);
      const before = (await issuer.list(ctx())).keys.map((key) => key.keyId);
      await far.describe(ctx());
      wire.answer = () => "cut";
      await expect(issue(far)).rejects.toMatchObject(MAYBE);
      const made = (await issuer.list(ctx())).keys.filter((key) => !before.includes(key.keyId));
      expect(made).toHaveLength(1);
      const keyId = made[0]?.keyId ?? "";
      await expect(far.delete(keyId, ctx())).rejects.toMatchObject(MAYBE);
      expect(await find(keyId)).toBeUndefined();
    });

    it("believes nobody who answers nonsense", async () => {
      const { keyId, value } = await issue();
      const far = owner.open(wire.url);
      for (const [status, body] of [
        [404, "not here"],
        [200, "{}"],
        [200, "<html><body>log in first</body></html>"],
        [500, "oops"],
      ] as const) {
        wire.instead = () => ({ status, body });
        const calls = [
          () => far.list(ctx()),
          () => far.verify(value, ctx()),
          () => far.delete(keyId, ctx()),
          () => issue(far),
          ...(canDisable ? [() => far.disable(keyId, ctx()), () => far.enable(keyId, ctx())] : []),
        ];
        for (const call of calls)
          await expect(call(), `${status} ${body}`).rejects.toMatchObject({ name: "ProviderError" });
      }
      expect(await find(keyId)).toMatchObject({ state: "enabled" });
    });

    it("gives up when it is told to, and where nobody answers", async () => {
      const { value } = await issue();
      const aborted = { ...ctx(), signal: AbortSignal.abort() };
      const nobody = owner.open("http://127.0.0.1:1");
      for (const call of [
        () => issuer.list(aborted),
        () => issuer.verify(value, aborted),
        () => issue(issuer, aborted),
        () => nobody.list(ctx()),
        () => nobody.verify(value, ctx()),
        () => nobody.delete(owner.absent, ctx()),
        () => issue(nobody),
      ]) {
        await expect(call()).rejects.toMatchObject({ name: "ProviderError", kind: "unavailable", applied: "no" });
      }
    });

    it("tells of no value in errors, ids, permissions or what it says of itself", async () => {
      const { keyId, value } = await issue();
      const errors: unknown[] = [];
      const far = owner.open(wire.url);
      for (const echo of [
        { status: 400, body: JSON.stringify(value.reveal()) },
        { status: 500, body: JSON.stringify(value.reveal()) },
      ]) {
        wire.instead = () => echo;
        for (const call of [
          () => far.verify(value, ctx()),
          () => far.list(ctx()),
          () => far.delete(keyId, ctx()),
          () => issue(far),
        ])
          errors.push(await call().catch((error: unknown) => error));
      }
      const texts = errors.map((error) => {
        expect(error).toBeInstanceOf(ProviderError);
        const { message, stack, detail, cause } = error as ProviderError & { cause?: unknown };
        return JSON.stringify([message, stack, detail, String(cause)]);
      });
      texts.push(JSON.stringify([keyId, await issuer.describe(ctx()), issuer.permissions?.()]));
      const secrets = Object.values(value.reveal()).filter((part) => part !== keyId);
      expect(secrets).not.toEqual([]);
      for (const text of texts) for (const secret of secrets) expect(text).not.toContain(secret);
    });

    const able = (): void => {
      it("disables and enables, as often as one likes", async () => {
        const { keyId, value } = await issue();
        for (const _ of [1, 2]) await owner.open().disable(keyId, ctx());
        expect(await find(keyId)).toMatchObject({ state: "disabled" });
        expect(await issuer.verify(value, ctx())).toBe("rejected");
        for (const _ of [1, 2]) await owner.open().enable(keyId, ctx());
        expect(await find(keyId)).toMatchObject({ state: "enabled" });
        expect(await issuer.verify(value, ctx())).toBe("accepted");
      });

      it("deletes a disabled key; absent counts as disabled, but cannot be enabled", async () => {
        const { keyId } = await issue();
        await issuer.disable(keyId, ctx());
        await issuer.delete(keyId, ctx());
        expect(await find(keyId)).toBeUndefined();
        for (const absent of [keyId, owner.absent]) {
          await issuer.disable(absent, ctx());
          await expect(issuer.enable(absent, ctx())).rejects.toMatchObject({ kind: "not-found", applied: "no" });
        }
      });

      it("turns nothing off or on once the call's time has passed", async () => {
        const { keyId } = await issue();
        await expect(issuer.disable(keyId, fencedCtx())).rejects.toMatchObject(LATE);
        expect(await find(keyId)).toMatchObject({ state: "enabled" });
        await issuer.disable(keyId, ctx());
        await expect(issuer.enable(keyId, fencedCtx())).rejects.toMatchObject(LATE);
        expect(await find(keyId)).toMatchObject({ state: "disabled" });
      });

      it("says so of turning off and on, too", async () => {
        const { keyId } = await issue();
        const far = owner.open(wire.url);
        await far.describe(ctx());
        wire.answer = () => "cut";
        await expect(far.disable(keyId, ctx())).rejects.toMatchObject(MAYBE);
        expect(await find(keyId)).toMatchObject({ state: "disabled" });
        await expect(far.enable(keyId, ctx())).rejects.toMatchObject(MAYBE);
        expect(await find(keyId)).toMatchObject({ state: "enabled" });
      });
    };

    const unable = (): void => {
      it("says that it cannot disable, and refuses to", async () => {
        const { keyId, value } = await issue();
        await expect(issuer.disable(keyId, ctx())).rejects.toMatchObject({ kind: "invalid", applied: "no" });
        expect(await issuer.verify(value, ctx())).toBe("accepted");
      });
    };
    if (canDisable) able();
    else unable();
  });
}
