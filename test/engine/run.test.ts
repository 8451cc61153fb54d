import { readFileSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ProviderError } from "../../src/core/errors.ts";
import type { RulesPatch } from "../core/support.ts";
import { adopt } from "../../src/engine/adopt.ts";
import { runSecret } from "../../src/engine/run.ts";
import { say } from "../../src/engine/say.ts";
import { EMERGENCY, H, S } from "../core/support.ts";
import { Bench, depsOf, options } from "./support.ts";

let bench: Bench;
beforeEach(() => (bench = new Bench()));
afterEach(() => bench.dispose());

const QUICK: RulesPatch = { overlap: { minimum: 1 * H }, soak: { for: 1 * H } };
const rotate = (id = "run-a") => say(depsOf(bench.state, id), "payments", { word: "rotate", repair: false });
const run = (more: Parameters<typeof options>[0] = {}, rules = QUICK, id = "run-a") =>
  runSecret(depsOf(bench.state, id), bench.ports(rules), options(more));
const served = () => /API_KEY=.*(key-\d+)/.exec(readFileSync(bench.env, "utf8"))?.[1];
const statuses = () => bench.state.document?.state.versions.map(({ keyId, status }) => `${keyId} ${status}`);
const document = () => bench.state.document?.state;

describe("a rotation from end to end", () => {
  test("first key, next key, overlap, soak, delete; then nothing due makes no call and no commit", async () => {
    await rotate();
    expect(await run({ sit: "all" })).toMatchObject({ outcome: "done" });
    expect(served()).toBe("key-1");
    await rotate();
    expect(await run({ sit: "short" })).toMatchObject({ outcome: "waiting", reason: "minimum-overlap" });
    expect(served()).toBe("key-2");
    expect(bench.issuer.keys.get("key-1")?.state).toBe("enabled");
    expect(await run({ sit: "all" })).toMatchObject({ outcome: "done", reason: "not-due" });
    expect(statuses()).toEqual(["key-1 destroyed", "key-2 current"]);
    expect(bench.issuer.calls).toEqual(["issue", "issue", "disable key-1", "delete key-1"]);
    const { saves } = bench.state;
    expect(await run({ start: true })).toMatchObject({ outcome: "done" });
    expect(bench.issuer.calls).toHaveLength(4);
    expect(bench.state.saves).toBe(saves);
  });

  test("promise 9: no value is in the document, the audit log or what is told", async () => {
    const told: unknown[] = [];
    await rotate();
    const result = await run({ sit: "all", onProgress: (progress) => told.push(progress) });
    const text = JSON.stringify([result, told, bench.state.document, bench.state.entries]);
    expect(text).toContain("key-1");
    expect(text).not.toContain("canary");
    expect(readFileSync(bench.env, "utf8")).toContain("canary");
  });

  test("promise 3: an issue without an answer is found again, its key destroyed, and one new key made", async () => {
    await rotate();
    bench.issuer.fails = { call: "issue", error: new ProviderError("unavailable", "maybe", "no answer") };
    await run({ sit: "all" });
    expect([...bench.issuer.keys.keys()]).toEqual(["key-2"]);
    expect(served()).toBe("key-2");
    expect(bench.issuer.calls.filter((call) => call === "issue")).toHaveLength(2);
  });

  test("a failed revocation is debt, tried again later, until the key is dead", async () => {
    await rotate();
    await run({ sit: "all" });
    await rotate();
    bench.issuer.fails = { call: "disable", error: new ProviderError("denied", "no", "may not") };
    expect(await run({ sit: "all", waitMax: 2 * H })).toMatchObject({ outcome: "failed" });
    expect(bench.state.entries.map(({ type }) => type)).toContain("debt");
    await run({ sit: "all" });
    expect(statuses()).toEqual(["key-1 destroyed", "key-2 current"]);
  });

  test("a revocation that failed and then succeeded in the same run is no failure of the run", async () => {
    await rotate();
    await run({ sit: "all" });
    await rotate();
    bench.issuer.fails = { call: "disable", error: new ProviderError("unavailable", "no", "later") };
    expect(await run({ sit: "all" })).toMatchObject({ outcome: "done" });
    expect(bench.state.entries.map(({ type }) => type)).toContain("debt");
    expect(statuses()).toEqual(["key-1 destroyed", "key-2 current"]);
  });

  test("3.14: a value that a store refuses costs its key, and nothing is minted again without a person", async () => {
    await rotate();
    await run({ sit: "all" });
    const ports = bench.ports(QUICK);
    const mirror = ports.stores.get("env");
    if (mirror === undefined) throw new Error("no mirror");
    mirror.put = () => Promise.reject(new ProviderError("denied", "no", "may not"));
    await rotate();
    expect(await runSecret(depsOf(bench.state), ports, options({ sit: "short" }))).toMatchObject({
      outcome: "failed",
      reason: "store-denied",
    });
    await run({ sit: "all" });
    expect(served()).toBe("key-1");
    expect(await run({ sit: "all", start: true })).toMatchObject({ outcome: "blocked", reason: "store-denied" });
    expect(bench.issuer.calls.filter((call) => call === "issue")).toHaveLength(2);
  });
});

function interruption() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

describe("two runs, and people", () => {
  test("a lease that somebody holds is respected; a dead holder's is waited out", async () => {
    await rotate();
    const lease = { runner: "run-b", host: "there", pid: 9, actor: "ci", duration: 15 * S } as const;
    const held = document();
    bench.state.document = {
      revision: "held",
      savedAt: bench.time.now,
      state: { ...held, lease: { ...lease, since: held?.clock ?? 0, renewedAt: held?.clock ?? 0 } } as never,
    };
    expect(await run({ sit: "all" })).toMatchObject({ outcome: "locked" });
    expect(bench.issuer.calls).toEqual([]);
    expect(await run({ sit: "all", lockTimeout: 30 * S })).toMatchObject({ outcome: "done" });
  });

  test("3.6: a word that comes between decision and commit makes the intent fall", async () => {
    await rotate();
    await run({ sit: "all" });
    await rotate();
    await run({ sit: "short" });
    const ports = bench.ports(QUICK);
    // The last look before the disable: the person is quicker than its commit.
    const verify = bench.issuer.verify.bind(bench.issuer);
    let held = false;
    bench.issuer.verify = async (value) => {
      if (!held && bench.time.now > (document()?.rotation?.overlapFrom ?? Infinity) + H) {
        held = true;
        await say(depsOf(bench.state, "ada"), "payments", { word: "hold", reason: "why", until: null });
      }
      return verify(value);
    };
    expect(await runSecret(depsOf(bench.state), ports, options({ sit: "all", waitMax: 5 * H }))).toMatchObject({
      reason: "held",
    });
    expect(held).toBe(true);
    expect(bench.issuer.calls.filter((call) => call.startsWith("disable"))).toEqual([]);
  });

  test("an emergency takes the work away from the run that is at it: that one leaves, and takes no lease again", async () => {
    await rotate();
    await run({ sit: "all" });
    await rotate();
    let struck = 0;
    const verify = bench.issuer.verify.bind(bench.issuer);
    bench.issuer.verify = async (value) => {
      if (struck++ === 0) await say(depsOf(bench.state, "ada"), "payments", EMERGENCY);
      return verify(value);
    };
    expect(await run({ sit: "all" })).toMatchObject({ outcome: "locked" });
    expect(struck).toBe(1);
    expect(document()?.lease).toBeNull();
    expect(await runSecret(depsOf(bench.state, "ada"), bench.ports(QUICK), options({ sit: "all" }))).toMatchObject({
      outcome: "done",
    });
    expect([...bench.issuer.keys.keys()]).toEqual([served()]);
  });

  test("a hook that ends after an emergency has begun is no hook of the emergency's rotation", async () => {
    const ran: string[] = [];
    const hooked = bench.ports(
      { ...QUICK, hooks: { beforeRotate: 0, afterDistribute: 1, beforeRevoke: 0, afterDone: 0 } },
      {
        runHook: async ({ rotationId }) => {
          ran.push(rotationId);
          if (ran.length === 2) await say(depsOf(bench.state, "ada"), "payments", EMERGENCY);
        },
      },
    );
    await rotate();
    await runSecret(depsOf(bench.state), hooked, options({ sit: "all" }));
    await rotate();
    await runSecret(depsOf(bench.state), hooked, options({ sit: "all" }));
    expect(document()?.rotation?.hooks).toEqual([]);
    await runSecret(depsOf(bench.state, "ada"), hooked, options({ sit: "all" }));
    expect(new Set(ran).size).toBe(3);
  });

  test("an interruption spends no attempt and leaves no debt", async () => {
    await rotate();
    await run({ sit: "all" });
    await rotate();
    const { signal, abort } = interruption();
    bench.issuer.fails = { call: "disable", error: new ProviderError("unavailable", "no", "interrupted") };
    const disable = bench.issuer.disable.bind(bench.issuer);
    bench.issuer.disable = async (keyId, ctx) => {
      abort();
      return disable(keyId, ctx);
    };
    await run({ sit: "all", signal });
    expect(document()?.versions.map(({ debt }) => debt)).toEqual([null, null]);
    expect(document()?.rotation?.failures).toEqual([]);
    expect(bench.state.entries.map(({ type }) => type)).not.toContain("debt");
  });

  test("rollback serves the old value everywhere again, and the new key ends", async () => {
    await rotate();
    await run({ sit: "all" });
    await rotate();
    await run({ sit: "short" });
    expect(await say(depsOf(bench.state), "payments", { word: "rollback" })).toMatchObject({ ok: true });
    await run({ sit: "served" });
    expect(served()).toBe("key-1");
    expect(await run({ sit: "all" })).toMatchObject({ outcome: "blocked", reason: "rolled-back" });
    expect([...bench.issuer.keys.keys()]).toEqual(["key-1"]);
  });

  test("emergency replaces first and kills then, without overlap or soak", async () => {
    await rotate();
    await run({ sit: "all" });
    await say(depsOf(bench.state), "payments", EMERGENCY);
    const before = bench.time.now;
    await run({ sit: "dead" });
    expect(served()).toBe("key-2");
    expect(bench.issuer.calls).toEqual(["issue", "issue", "disable key-1", "delete key-1"]);
    expect(bench.time.now - before).toBeLessThan(60 * S);
  });

  test("drift stops everything, and --repair pushes ours again", async () => {
    await rotate();
    await run({ sit: "all" });
    writeFileSync(bench.env, "API_KEY=theirs\n");
    await rotate();
    expect(await run({ sit: "all" })).toMatchObject({ outcome: "blocked", reason: "drift" });
    await say(depsOf(bench.state), "payments", { word: "rotate", repair: true });
    expect(await run({ sit: "all" })).toMatchObject({ outcome: "done" });
    expect(served()).toBe("key-2");
  });
});

describe("say", () => {
  test("a refused word says why and commits nothing", async () => {
    await rotate();
    await run({ sit: "all" });
    const { saves } = bench.state;
    expect(await say(depsOf(bench.state), "payments", { word: "rollback" })).toMatchObject({
      ok: false,
      reason: "nothing-to-roll-back-to",
    });
    expect(bench.state.saves).toBe(saves);
  });

  test("a word is said on the newest document, however often somebody is first; the audit log has it at once", async () => {
    const hold = { word: "hold", reason: "why", until: null } as const;
    bench.state.before = async () => void (await say(depsOf(bench.state, "bob"), "payments", hold));
    expect(await say(depsOf(bench.state, "ada"), "payments", hold)).toMatchObject({ ok: true });
    expect(document()?.holds.map(({ by }) => by)).toEqual(["bob@here", "ada@here"]);
    expect(bench.state.entries.map(({ type, actor }) => `${actor} ${type}`)).toEqual([
      "bob@here hold",
      "ada@here hold",
    ]);
  });
});

describe("adopt", () => {
  const take = (keyId: string | null = null) =>
    adopt(depsOf(bench.state), bench.ports(QUICK), { keyId, signal: new AbortController().signal });
  const key = (keyId: string) => bench.issuer.keys.set(keyId, { keyId, createdAt: bench.time.now, state: "enabled" });

  test("a key that stands in a .env is taken over by reads alone, and every other key stays a stranger's", async () => {
    key("key-7");
    key("key-8");
    writeFileSync(bench.env, "# mine\nAPI_KEY=kt_canary_key-7\nOTHER=1\n");
    expect(await take()).toMatchObject({ outcome: "done" });
    expect(statuses()).toEqual(["key-7 current"]);
    expect(bench.issuer.calls).toEqual([]);
    expect(readFileSync(bench.env, "utf8")).toBe("# mine\nAPI_KEY=kt_canary_key-7\nOTHER=1\n");
    bench.issuer.keys.delete("key-8");
    await rotate();
    await run({ sit: "all" });
    expect(readFileSync(bench.env, "utf8")).toMatch(/^# mine\nAPI_KEY=kt_canary_key-1\nOTHER=1\n$/);
    expect([...bench.issuer.keys.keys()]).toEqual(["key-1"]);
  });

  test.each([
    ["nothing is served", null, null, "unmanaged"],
    ["the value is no key of this owner", "theirs", null, "identity-mismatch"],
    ["another key is named", "kt_canary_key-7", "key-8", "identity-mismatch"],
    ["the key is gone", "kt_canary_key-9", null, "identity-mismatch"],
  ])("refused: %s", async (_name, value, keyId, reason) => {
    key("key-7");
    if (value !== null) writeFileSync(bench.env, `API_KEY=${value}\n`);
    expect(await take(keyId)).toMatchObject({ outcome: "blocked", reason });
    expect(bench.state.document).toBeNull();
  });
});

describe("the pause of everything", () => {
  const lost = new ProviderError("unavailable", "no", "the state does not answer");
  const minted = (): boolean => bench.issuer.keys.size > 0;

  test("an answer that is lost while a new value is in memory costs no key", async () => {
    await rotate();
    let answers = 0;
    const pausedAll = async () => {
      if (minted() && answers++ === 0) throw lost;
      return null;
    };
    await run({ sit: "all", pausedAll });
    expect([...bench.issuer.keys.keys()]).toEqual(["key-1"]);
    expect(served()).toBe("key-1");
  });

  test("said at the last moment, it is heeded: nothing starts, and nothing is destroyed", async () => {
    const paused = { by: "ada", reason: "freeze" };
    await rotate();
    let isFrozen = false;
    const pausedAll = async () => (isFrozen ? paused : null);
    await run({ sit: "all", pausedAll });
    await rotate();
    const describe = bench.issuer.describe.bind(bench.issuer);
    bench.issuer.describe = async (...args) => {
      isFrozen = true;
      return describe(...args);
    };
    expect(await run({ sit: "all", waitMax: H, pausedAll })).toMatchObject({ reason: "paused" });
    expect([...bench.issuer.keys.keys()]).toEqual(["key-1"]);
    bench.issuer.describe = describe;
    isFrozen = false;
    const verify = bench.issuer.verify.bind(bench.issuer);
    bench.issuer.verify = async (value) => {
      isFrozen = true;
      return verify(value);
    };
    expect(await run({ sit: "all", waitMax: 9 * H, pausedAll })).toMatchObject({ reason: "paused" });
    expect(bench.issuer.keys.get("key-1")?.state).toBe("enabled");
  });

  test("an emergency does not ask for it", async () => {
    await rotate();
    await run({ sit: "all" });
    await say(depsOf(bench.state, "ada"), "payments", EMERGENCY);
    const pausedAll = async () => {
      throw lost;
    };
    await run({ sit: "dead", pausedAll });
    expect(bench.issuer.keys.get("key-1")?.state).not.toBe("enabled");
    expect(served()).toBe("key-2");
  });
});
