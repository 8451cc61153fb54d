import type { Intent, SecretState, Version } from "../../src/core/model.ts";
import { newState } from "../../src/core/model.ts";
import { isStaged } from "../../src/ports/store.ts";
import type { Engine, RunResult } from "./engine.ts";
import type { EngineDeps, SecretPorts } from "../../src/engine/deps.ts";
const version = (id: string, keyId: string | null, status: Version["status"], at: number): Version => ({ id, keyId, status, origin: "issued", createdAt: null, since: at, compromised: false, expedite: false, staged: false, exposed: false, leftOpen: [], mint: null, verification: null, disabledAt: null, deletedAt: null, usage: {}, usageLookedAt: null, ownUseAt: null, debt: null } as unknown as Version);
async function commit(deps: EngineDeps, name: string, edit: (s: SecretState) => SecretState): Promise<SecretState> {
  for (;;) {
    const l = await deps.state.load(name);
    const next = edit(l?.state ?? newState(name, 0));
    const r = await deps.state.save(name, { ...next, seq: next.seq + 1 }, l?.revision ?? null);
    if (r.result === "saved") return next;
  }
}
const end = (state: SecretState, outcome: RunResult["outcome"], reason: RunResult["reason"]): RunResult => ({ outcome, reason, message: "", until: null, state });
export const naive: Engine = {
  async adopt(deps, ports) {
    const ctx = { signal: new AbortController().signal, fence() {}, attempt: 1, rotationId: null };
    const authority = [...ports.stores.values()][0]!;
    const served = (await authority.current(ctx))!;
    const id = await ports.issuer.identify!(served.value, ctx);
    const s = await commit(deps, ports.rules.name, (d) => ({ ...d, versions: [version("v0", id, "current", 0)] }));
    return end(s, "done", "not-due");
  },
  async say(deps, name, word) { void deps; void name; void word; return { ok: false, reason: "not-due" }; },
  async runSecret(deps, ports, options) {
    const l = await deps.state.load(ports.rules.name);
    const state = l?.state ?? newState(ports.rules.name, 0);
    if (!ports.due(state, 0).due && state.rotation === null) return end(state, "done", "not-due");
    const rid = deps.random(4);
    const id = `v-${deps.random(3)}`;
    const ctx = { signal: options.signal, fence() {}, attempt: 1, rotationId: rid };
    const old = state.versions.find((v) => v.status === "current");
    const intent = (effect: Intent["effect"], v: string) => commit(deps, ports.rules.name, (d) => ({ ...d, rotation: d.rotation ?? ({ id: rid, from: old?.id ?? null, to: id, rollback: null } as never), intent: { id: deps.random(4), effect, version: v, delivery: null, at: 0, duration: 20000, runner: deps.runner.id } }));
    try {
      await intent("issue", id);
      const made = await ports.issuer.issue(id, null, ctx);
      for (const store of ports.stores.values()) {
        const cur = store.traits.proof === "value" ? await store.current(ctx) : null;
        await intent(isStaged(store) ? "promote" : "put", id);
        await store.put(id, made.value, cur?.ref ?? null, ctx);
      }
      await intent("delete", old?.id ?? "x");
      if (old?.keyId) await ports.issuer.delete(old.keyId, ctx);
      const s = await commit(deps, ports.rules.name, (d) => ({ ...d, intent: null, rotation: null, versions: [version(id, made.keyId, "current", 0)], last: { id: rid, reason: "scheduled", endedAt: 0, outcome: "done" } }));
      return end(s, "done", "not-due");
    } catch { return end(state, "failed", "provider-unavailable"); }
  },
};
void (0 as unknown as SecretPorts);
