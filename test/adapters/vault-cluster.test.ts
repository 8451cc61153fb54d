import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { adapter as approle } from "../../src/adapters/issuers/vault-approle.ts";
import { adapter as state } from "../../src/adapters/state/vault-kv.ts";
import { adapter } from "../../src/adapters/stores/vault-kv.ts";
import { newState } from "../../src/core/model.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { StateBackend } from "../../src/ports/state.ts";
import type { StagedStore } from "../../src/ports/store.ts";
import { ctx } from "../contract/store.ts";
import { baoProgram, startBaoCluster } from "../support/openbao.ts";
import { depsOf } from "./vault-support.ts";

const value = (n: number) => SecretValue.of({ roleId: `role-${n}`, secretId: `secret-${n}` });

const there = (await baoProgram()) !== null;

test.runIf(there)(
  "state through a standby: sure of an absence once, and sees all that was there at its own save",
  async () => {
    const { active, standby, rootToken, stop } = await startBaoCluster();
    try {
      const waits: number[] = [];
      const wait = async (ms: number): Promise<void> => {
        waits.push(ms);
        await sleep(Math.min(ms, 300));
      };
      const open = (address: string): Promise<StateBackend> =>
        state.create(state.settings.parse({ address }), depsOf({ VAULT_TOKEN: rootToken }, { sleep: wait }));
      const [far, near] = [await open(standby), await open(active)];
      const absences = () => waits.filter((ms) => ms === 10_000).length;

      for (let n = 0; n < 5; n++) expect(await far.load("all")).toBeNull();
      expect(await far.load("payments")).toBeNull();
      let revision: string | null = null;
      for (let n = 1; n <= 10; n++) {
        const saved = await far.save("payments", { ...newState("payments", 0), commitId: `c${n}` }, revision);
        revision = saved.result === "saved" ? saved.revision : "";
        expect(await far.load("all")).toBeNull();
        expect(await far.load("payments")).toMatchObject({ revision, state: { commitId: `c${n}` } });
      }
      expect(absences()).toBe(2);

      for (let n = 0; n < 5; n++) {
        expect(await far.load(`there-${n}`)).toBeNull();
        expect(await near.save(`there-${n}`, newState(`there-${n}`, 0), null)).toMatchObject({ result: "saved" });
        expect(await far.save(`mine-${n}`, newState(`mine-${n}`, 0), null)).toMatchObject({ result: "saved" });
        expect(await far.load(`there-${n}`)).not.toBeNull();
      }
      expect(absences()).toBe(7);
    } finally {
      await stop();
    }
  },
);

test.runIf(there)("through a standby: writes are passed on, and reads follow them", async () => {
  const { active, standby, rootToken, stop } = await startBaoCluster();
  try {
    const waits: number[] = [];
    const wait = async (ms: number): Promise<void> => {
      waits.push(ms);
      await sleep(Math.min(ms, 1000));
    };
    const deps = depsOf({ VAULT_TOKEN: rootToken }, { sleep: wait });
    const fields = { roleId: "roleId", secretId: "secretId" };
    const at = (address: string): StagedStore =>
      adapter.create(
        adapter.settings.parse({ address }),
        adapter.delivery.parse({ path: "payments" }),
        { secret: "payments", fields },
        deps,
      ) as StagedStore;
    const [far, near] = [at(standby), at(active)];
    expect((await far.describe(ctx())).binding).toBe((await near.describe(ctx())).binding);
    expect((await far.describe(ctx())).findings).toEqual([]);
    expect(await far.current(ctx())).toBeNull();
    // What is absent on a copy may only be late.
    expect(waits).toContain(10_000);
    let ref: string | null = null;
    for (let n = 1; n <= 10; n++) {
      await far.stage(`v${n}-x`, value(n), ctx());
      ref = await far.put(`v${n}-x`, value(n), ref, ctx());
      const now = await far.current(ctx());
      expect([now?.ref, now?.value.equals(value(n))]).toEqual([ref, true]);
      if (n > 1) await far.discard(`v${n - 1}-x`, ctx());
    }
    expect((await near.current(ctx()))?.ref).toBe(ref);

    await fetch(`${active}/v1/sys/auth/approle`, {
      method: "POST",
      headers: { "x-vault-token": rootToken, connection: "close" },
      body: '{"type":"approle"}',
    });
    const headers = { "x-vault-token": rootToken, connection: "close" };
    await fetch(`${active}/v1/auth/approle/role/app`, { method: "POST", headers, body: '{"token_ttl":"1m"}' });
    const issuer = approle.create(approle.settings.parse({ role: "app", address: standby }), "payments", deps, []);
    await expect.poll(async () => (await issuer.describe(ctx())).findings).toEqual([]);
    const { keyId, value: issued } = await issuer.issue("v1-x", null, ctx());
    expect((await issuer.list(ctx())).keys.map((key) => key.keyId)).toEqual([keyId]);
    expect(await issuer.verify(issued, ctx())).toBe("accepted");
    await issuer.delete(keyId, ctx());
    expect((await issuer.list(ctx())).keys).toEqual([]);
    expect(await issuer.verify(issued, ctx())).toBe("rejected");
  } finally {
    await stop();
  }
});
