import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { adapter as approle } from "../../src/adapters/issuers/vault-approle.ts";
import { adapter } from "../../src/adapters/stores/vault-kv.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { StagedStore } from "../../src/ports/store.ts";
import { ctx } from "../contract/store.ts";
import { baoProgram, startBaoCluster } from "../support/openbao.ts";
import { depsOf } from "./vault-support.ts";

const value = (n: number) => SecretValue.of({ roleId: `role-${n}`, secretId: `secret-${n}` });

test.runIf(await baoProgram())("through a standby: writes are passed on, and reads follow them", async () => {
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
