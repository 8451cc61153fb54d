import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DotenvStore } from "../../src/adapters/stores/dotenv.ts";
import { adapter as local } from "../../src/adapters/stores/local.ts";
import { ProviderError } from "../../src/core/errors.ts";
import type { SecretState } from "../../src/core/model.ts";
import type { ObservedKey } from "../../src/core/observed.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Clock, EngineDeps, SecretPorts } from "../../src/engine/deps.ts";
import type { RunOptions } from "../../src/engine/result.ts";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { Ctx } from "../../src/ports/context.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import type { AuditEntry, StateBackend } from "../../src/ports/state.ts";
import type { Store } from "../../src/ports/store.ts";
import type { RulesPatch } from "../core/support.ts";
import { AUTHORITY, H, MIRROR, rules, T } from "../core/support.ts";

/** So long that no renewal comes due: sleeping passes the time here, and a renewal would sleep for ever. */
const LEASE = 1e12;

/** True time, and the clocks that are read from it. Sleeping passes it. */
export class Time {
  now = T;

  clock(): Clock & { jump: number } {
    const clock = {
      jump: 0,
      wall: () => this.now + clock.jump,
      monotonic: () => this.now - 500 * H,
      sleep: (ms: number, signal?: AbortSignal): Promise<void> => {
        if (ms >= LEASE / 3) return new Promise((resolve) => signal?.addEventListener("abort", () => resolve()));
        this.now += ms;
        return new Promise((resolve) => setImmediate(resolve));
      },
    };
    return clock;
  }
}

/** Documents in memory, aged by true time. */
export class Memory implements StateBackend {
  readonly location = "memory";
  readonly entries: AuditEntry[] = [];
  readonly audit = {
    append: async (entries: readonly AuditEntry[]) => {
      if (this.auditFails) throw new ProviderError("unavailable", "no", "no answer");
      for (const entry of entries) if (!this.entries.some(({ seq }) => seq === entry.seq)) this.entries.push(entry);
    },
    read: async () => this.entries,
  };
  auditFails = false;
  /** What the next save really does: nothing, or all, while it says that it does not know. */
  unknown: "lost" | "saved" | null = null;
  /** Runs right before the next save. */
  before: (() => Promise<unknown>) | null = null;
  saves = 0;
  document: { readonly revision: string; readonly state: SecretState; readonly savedAt: number } | null = null;

  constructor(readonly time: Time) {}

  async *loadAll() {
    const loaded = await this.load();
    if (loaded !== null) yield loaded;
  }

  async load() {
    const { document, time } = this;
    return document === null
      ? null
      : { revision: document.revision, state: document.state, age: time.now - document.savedAt };
  }

  async save(_name: string, next: SecretState, expected: string | null) {
    const { before, unknown } = this;
    this.before = null;
    await before?.();
    if (expected !== (this.document?.revision ?? null)) return { result: "stale" } as const;
    this.unknown = null;
    if (unknown === "lost") return { result: "unknown" } as const;
    this.document = { revision: `r${++this.saves}`, state: JSON.parse(JSON.stringify(next)), savedAt: this.time.now };
    return unknown === "saved"
      ? ({ result: "unknown" } as const)
      : ({ result: "saved", revision: this.document.revision } as const);
  }

  async remove() {
    this.document = null;
    return "removed" as const;
  }

  async close() {}
}

export function depsOf(state: Memory, id = "run-a", clock: Clock = state.time.clock()): EngineDeps {
  return {
    state,
    clock,
    runner: { id, host: "here", pid: 1, actor: `${id}@here` },
    random: (bytes) => randomBytes(bytes).toString("hex"),
    hash: (text) => createHash("sha256").update(text).digest("hex"),
    lease: LEASE,
    isDead: () => false,
    debug: () => undefined,
  };
}

/** An authority with two slots, in memory. Its keys are values of the field `apiKey`. */
export class MemoryIssuer implements Issuer {
  readonly traits = { ...rules().issuer, timing: { listSettle: 0, propagation: 0, settle: 0, timeGranularity: 0 } };
  readonly keys = new Map<string, ObservedKey>();
  readonly calls: string[] = [];
  #made = 0;
  /** Thrown by the call of this name, once the effect has (`maybe`) or has not (`no`) taken place. */
  fails: { readonly call: string; readonly error: ProviderError } | null = null;

  constructor(readonly time: Time) {}

  async describe() {
    return { binding: "issuer", findings: [] };
  }

  async list() {
    return { keys: [...this.keys.values()], asOf: this.time.now };
  }

  async issue(label: string, _chosen: SecretValue | null, ctx: Ctx) {
    return this.#call("issue", ctx, () => {
      const keyId = `key-${++this.#made}`;
      const made: ObservedKey = { keyId, createdAt: this.time.now, state: "enabled", label };
      this.keys.set(keyId, made);
      return { keyId, createdAt: made.createdAt, value: valueOf(keyId) };
    });
  }

  async verify(value: SecretValue) {
    return this.keys.get(idOf(value))?.state === "enabled" ? ("accepted" as const) : ("rejected" as const);
  }

  async identify(value: SecretValue) {
    return this.keys.has(idOf(value)) ? idOf(value) : null;
  }

  disable(keyId: string, ctx: Ctx) {
    return this.#call(`disable ${keyId}`, ctx, () => this.#put(keyId, "disabled"));
  }

  enable(keyId: string, ctx: Ctx) {
    return this.#call(`enable ${keyId}`, ctx, () => this.#put(keyId, "enabled"));
  }

  delete(keyId: string, ctx: Ctx) {
    return this.#call(`delete ${keyId}`, ctx, () => void this.keys.delete(keyId));
  }

  #put(keyId: string, state: ObservedKey["state"]): void {
    const key = this.keys.get(keyId);
    if (key !== undefined) this.keys.set(keyId, { ...key, state });
  }

  async #call<T>(name: string, ctx: Ctx, effect: () => T): Promise<T> {
    ctx.fence();
    const { fails } = this;
    const hit = fails !== null && name.startsWith(fails.call);
    if (hit) this.fails = null;
    if (hit && fails.error.applied === "no") throw fails.error;
    this.calls.push(name);
    const result = effect();
    if (hit) throw fails.error;
    return result;
  }
}

export function valueOf(keyId: string): SecretValue {
  return SecretValue.of({ apiKey: `kt_canary_${keyId}` });
}

const MADE_UP = Array.from({ length: 20 }, (_, i) => `key-${i + 1}`);

function idOf(value: SecretValue): string {
  return MADE_UP.find((id) => valueOf(id).equals(value)) ?? "";
}

/** One secret in a folder of its own: the real stores `local` and `dotenv`, and an issuer in memory. */
export class Bench {
  readonly time = new Time();
  readonly state = new Memory(this.time);
  readonly issuer = new MemoryIssuer(this.time);
  readonly folder = mkdtempSync(join(tmpdir(), "keyturn-engine-"));
  readonly env = join(this.folder, "app.env");

  ports(more: RulesPatch = {}, rest: Partial<SecretPorts> = {}): SecretPorts {
    const deps: AdapterDeps = {
      folder: this.folder,
      env: {},
      now: () => this.time.now,
      sleep: async () => undefined,
      debug: () => undefined,
      announce: () => undefined,
    };
    const target = { secret: "payments", fields: {} };
    const authority = local.create({ path: ".keyturn/secrets" }, {}, target, deps);
    return {
      rules: rules({
        issuer: this.issuer.traits,
        deliveries: [AUTHORITY, MIRROR],
        verify: { successes: 1, spread: 0, deadline: 1 },
        ...more,
      }),
      issuer: this.issuer,
      stores: new Map<string, Store>([
        [AUTHORITY.id, authority],
        [MIRROR.id, new DotenvStore("app.env", { API_KEY: "apiKey" }, deps)],
      ]),
      monitors: new Map(),
      notifiers: [],
      due: () => ({ at: null, due: false, opensAt: null }),
      runHook: async () => undefined,
      ...rest,
    };
  }

  dispose(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function options(more: Partial<RunOptions> = {}): RunOptions {
  return { start: false, sit: "none", waitMax: null, lockTimeout: 0, signal: new AbortController().signal, ...more };
}
