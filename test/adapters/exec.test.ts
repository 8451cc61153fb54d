import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { adapter as issuerAdapter } from "../../src/adapters/issuers/exec.ts";
import { adapter as notifierAdapter } from "../../src/adapters/notifiers/exec.ts";
import { adapter as storeAdapter } from "../../src/adapters/stores/exec.ts";
import { adapter as usageAdapter } from "../../src/adapters/usage/exec.ts";
import type { ProviderError } from "../../src/core/errors.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import type { Store } from "../../src/ports/store.ts";
import { ctx, fencedCtx } from "../contract/store.ts";
import { lookCtx } from "../contract/usage.ts";
import { depsIn, EXAMPLES } from "./exec-support.ts";

const CANARY = "s3cret-canary";
const value = SecretValue.of({ apiKey: CANARY });

let folder: string;
let debugged: string[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-exec-"));
  debugged = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Options<T> = Partial<T & object>;

/** An issuer whose program is this shell script. */
function issuer(script: string, options: Options<Parameters<typeof issuerAdapter.settings.parse>[0]> = {}): Issuer {
  write("program", `#!/bin/sh\n${script}\n`);
  const settings = issuerAdapter.settings.parse({ command: ["./program", "argument"], ...options });
  return issuerAdapter.create(settings, "payments", depsIn(folder, debugged), []);
}

function store(script: string, options: Options<Parameters<typeof storeAdapter.settings.parse>[0]> = {}): Store {
  write("program", `#!/bin/sh\n${script}\n`);
  const settings = storeAdapter.settings.parse({ command: ["./program"], ...options });
  const target = { secret: "payments", fields: { KEY: "apiKey" } };
  return storeAdapter.create(settings, { name: "prod" }, target, depsIn(folder, debugged));
}

function write(name: string, text: string): void {
  writeFileSync(join(folder, name), text);
  chmodSync(join(folder, name), 0o755);
}

/** Gone, or a zombie that nobody reaps. */
function isGone(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}

const answering = (answer: unknown) => `cat > request.json; echo '${JSON.stringify(answer)}'`;
const asked = () => JSON.parse(readFileSync(join(folder, "request.json"), "utf8")) as Record<string, unknown>;

describe("the protocol", () => {
  test("one document in, one out, in the policy's folder", async () => {
    const settings = { client: "app", deep: { n: [1] } };
    const program = issuer(answering({ ok: true, result: { keys: [], asOf: "2026-11-21T12:00:00Z" } }), { settings });
    expect(await program.list(ctx())).toEqual({ keys: [], asOf: Date.parse("2026-11-21T12:00:00Z") });
    expect(asked()).toEqual({ protocol: 1, op: "list", secret: "payments", settings });
  });

  test("a value is on stdin and stdout, and nowhere else", async () => {
    const answer = { ok: true, result: { keyId: "K1", value: { apiKey: CANARY } } };
    const script = `env > env.txt; echo "$@" > argv.txt; tr '\\0' '\\n' < /proc/$$/environ > environ.txt; ${answering(answer)}; echo "made ${CANARY}" >&2`;
    const program = issuer(script, { env: { EXTRA: "yes" } });
    const made = await program.issue("v1", null, ctx());
    expect(made.value.reveal()).toEqual({ apiKey: CANARY });
    expect(made.keyId).toBe("K1");
    expect(Math.abs(made.createdAt - Date.now())).toBeLessThan(10_000);
    expect(asked()).toMatchObject({ op: "issue", label: "v1" });
    await issuer(`echo "tries ${CANARY}" >&2; ${answering({ ok: true, result: "accepted" })}`).verify(value, ctx());
    expect(asked()).toMatchObject({ op: "verify", value: { apiKey: CANARY } });
    for (const file of ["env.txt", "argv.txt", "environ.txt"])
      expect(readFileSync(join(folder, file), "utf8")).not.toContain(CANARY);
    expect(readFileSync(join(folder, "env.txt"), "utf8")).toContain("EXTRA=yes");
    expect(debugged).toEqual(["exec ./program issue: made [secret]", "exec ./program verify: tries [secret]"]);
  });

  test("when a key was made may be told in seconds", async () => {
    const result = { keyId: "K1", value: { apiKey: CANARY }, createdAt: 1_795_262_340 };
    const made = await issuer(answering({ ok: true, result })).issue("v1", null, ctx());
    expect(made.createdAt).toBe(1_795_262_340_000);
  });

  test("a store gets its value under its own names", async () => {
    const place = store(answering({ ok: true, result: { ref: "r2" } }));
    expect(await place.put("v1", value, "r1", ctx())).toBe("r2");
    const told = { name: "prod", fields: ["KEY"], version: "v1", expected: "r1", fresh: false, value: { KEY: CANARY } };
    expect(asked()).toMatchObject(told);
  });

  test("a refusal is what it says, in our words; its own are for --verbose", async () => {
    const error = { kind: "throttled", applied: "no", message: `slow down, ${CANARY}`, retryAfter: 1500 };
    const refused = store(answering({ ok: false, error }));
    const thrown = await refused.put("v1", value, null, ctx()).catch((thrown: ProviderError) => thrown);
    expect(thrown).toMatchObject({
      kind: "throttled",
      applied: "no",
      message: "exec ./program put: refused (throttled)",
      detail: { retryAfter: 1500 },
    });
    expect(debugged).toEqual(["exec ./program put: slow down, [secret]"]);
  });

  test("whatever is no answer may have had an effect, unless it was a look", async () => {
    const cases: Record<string, [script: string, why: RegExp]> = {
      "exit code": [`${answering({ ok: true, result: null })}; exit 3`, /exited with 3/],
      "a signal": ["kill -9 $$", /ended by a signal/],
      nothing: ["cat > /dev/null", /protocol/],
      junk: ["cat > /dev/null; echo '<html>'", /protocol/],
      "two documents": [`${answering({ ok: true })}; echo '{}'`, /protocol/],
      "neither yes nor no": [answering({ result: 1 }), /protocol/],
      "a kind unheard of": [answering({ ok: false, error: { kind: "tired", applied: "no" } }), /protocol/],
      "too much": ["cat > /dev/null; exec yes", /more than 1 MiB/],
      "too late": ["cat > /dev/null; sleep 60", /did not end within 700 ms/],
      "no word on its effect": [answering({ ok: false, error: { kind: "unavailable" } }), /refused/],
    };
    for (const [name, [script, why]] of Object.entries(cases)) {
      const program = issuer(script, { timeout: "700ms" });
      const message = expect.stringMatching(why) as unknown;
      const failure = { name: "ProviderError", kind: "unavailable", message };
      await expect(program.delete("K1", ctx()), name).rejects.toMatchObject({ ...failure, applied: "maybe" });
      await expect(program.list(lookCtx()), name).rejects.toMatchObject({ ...failure, applied: "no" });
    }
  });

  test("results of another shape are none, and are not quoted", async () => {
    const bad: [unknown, (program: Issuer) => Promise<unknown>][] = [
      [{ keys: [{ keyId: "K", createdAt: CANARY, state: "enabled" }] }, (program) => program.list(ctx())],
      [{ keyId: "K1", value: { apiKey: "" } }, (program) => program.issue("v1", null, ctx())],
      [{ keyId: "K1" }, (program) => program.issue("v1", null, ctx())],
      [CANARY, (program) => program.verify(value, ctx())],
      [{ findings: [] }, (program) => program.describe(ctx())],
    ];
    for (const [result, call] of bad) {
      const thrown: unknown = await call(issuer(answering({ ok: true, result }))).catch((error: unknown) => error);
      expect(thrown).toMatchObject({ name: "ProviderError", kind: "unavailable" });
      expect(JSON.stringify(thrown) + String(thrown)).not.toContain(CANARY);
    }
  });

  test("no program, or none that may run, has changed nothing", async () => {
    const program = issuer("");
    chmodSync(join(folder, "program"), 0o644);
    await expect(program.delete("K1", ctx())).rejects.toMatchObject({
      kind: "invalid",
      applied: "no",
      message: /EACCES/,
    });
    rmSync(join(folder, "program"));
    await expect(program.delete("K1", ctx())).rejects.toMatchObject({
      kind: "invalid",
      applied: "no",
      message: /ENOENT/,
    });
  });

  test("past the call's time it gets no request, and is ended", async () => {
    const program = issuer(`echo $$ > pid; cat > request.json; [ -s request.json ] && touch done; exec sleep 60`);
    await expect(program.delete("K1", fencedCtx())).rejects.toMatchObject({ kind: "unavailable", applied: "no" });
    expect(existsSync(join(folder, "done"))).toBe(false);
  });

  test("the run's end is the end of all that it started", async () => {
    const program = issuer("cat > request.json; (trap '' TERM; sleep 60) & echo $! > pid; wait");
    const run = new AbortController();
    const call = program.delete("K1", { ...ctx(), signal: run.signal });
    while (!existsSync(join(folder, "pid")) || readFileSync(join(folder, "pid"), "utf8") === "") await sleep(10);
    run.abort();
    await expect(call).rejects.toMatchObject({ kind: "unavailable", applied: "maybe", message: /ended with the run/ });
    const pid = Number(readFileSync(join(folder, "pid"), "utf8"));
    await expect.poll(() => isGone(pid)).toBe(true);
  });

  test("what it leaves behind is not waited for", async () => {
    const program = issuer(`${answering({ ok: true, result: "rejected" })}; sleep 5 &`);
    const began = performance.now();
    expect(await program.verify(value, ctx())).toBe("rejected");
    expect(performance.now() - began).toBeLessThan(4000);
  });
});

describe("traits", () => {
  test("are those of the policy, which describe is held against", async () => {
    const answer = { binding: "acme/app", traits: { maxKeys: 2, canDisable: true } };
    const program = issuer(answering({ ok: true, result: answer }), { traits: { maxKeys: 2, settle: "5s" } });
    expect(program.traits).toMatchObject({ maxKeys: 2, canDisable: false, timing: { settle: 5000, listSettle: 0 } });
    const { binding, findings } = await program.describe(ctx());
    expect(binding).toBe("exec:acme/app");
    expect(findings).toEqual([
      {
        reason: "identity-mismatch",
        blocks: true,
        message: "the program says canDisable true, the policy false",
        hint: "write `traits: { canDisable: true }`",
      },
      {
        reason: "identity-mismatch",
        blocks: true,
        message: 'the program says settle "0s", the policy "5s"',
        hint: 'write `traits: { settle: "0s" }`',
      },
    ]);
  });

  test("a program that wants values made for it is found out before anything is issued", async () => {
    const program = issuer(answering({ ok: true, result: { binding: "b", traits: { valueFrom: "caller" } } }));
    const { findings } = await program.describe(ctx());
    expect(findings).toMatchObject([
      { blocks: true, message: expect.stringContaining("keyturn makes none") as string },
    ]);
    const told = issuer(answering({ ok: true, result: { keyId: "K1" } })).issue("v1", null, ctx());
    await expect(told).rejects.toMatchObject({ kind: "unavailable", applied: "maybe" });
  });

  test("what describe leaves out is the least", async () => {
    const program = issuer(answering({ ok: true, result: { binding: "b" } }));
    expect(program.traits).toEqual({
      maxKeys: 1,
      valueFrom: "issuer",
      canDisable: false,
      labels: false,
      issueIdempotent: false,
      timing: { listSettle: 0, propagation: 0, settle: 0, timeGranularity: 0 },
    });
    expect(await program.describe(ctx())).toEqual({ binding: "exec:b", findings: [] });
    expect([program.identify, program.usage]).toEqual([undefined, undefined]);
    await expect(program.disable("K1", ctx())).rejects.toMatchObject({ kind: "invalid", applied: "no" });
    const place = store(answering({ ok: true, result: { binding: "b" } }));
    expect(place.traits).toEqual({ staged: false, proof: "value", timing: { propagation: 0, settle: 0 } });
    expect(await place.describe(ctx())).toEqual({ binding: "exec:b", findings: [] });
    expect("stage" in place).toBe(false);
  });

  test("its own findings are told", async () => {
    const findings = [{ reason: "permission-missing", message: "may not delete", hint: "ask ops", blocks: false }];
    const place = store(answering({ ok: true, result: { binding: "b", findings } }));
    expect((await place.describe(ctx())).findings).toEqual(findings);
  });

  test("a store that only knows digests, or nothing", async () => {
    const digest = store(answering({ ok: true, result: "changed" }), { traits: { proof: "digest" } });
    expect(await digest.check?.(value, "r1", ctx())).toBe("changed");
    expect(asked()).toMatchObject({ op: "check", ref: "r1", value: { KEY: CANARY } });
    await expect(digest.current(ctx())).rejects.toMatchObject({ kind: "invalid", applied: "no" });
    expect(store("", { traits: { proof: "none" } }).check).toBeUndefined();
  });

  test("two deliveries of one object are one object", () => {
    expect(store("").objectKey).toBe(store("").objectKey);
    expect(store("", { settings: { a: 1 } }).objectKey).not.toBe(store("").objectKey);
  });
});

test("usage: a key that it leaves out is unknown", async () => {
  const events = [{ who: "checkout", first: 1_795_262_340, last: "2026-11-21T12:00:00Z", longestGap: 5 }];
  const usage = [{ keyId: "K1", status: "covered", from: 1_795_000_000_000, until: 1_795_262_399_000, events }];
  write("program", `#!/bin/sh\n${answering({ ok: true, result: { usage } })}\n`);
  const settings = usageAdapter.settings.parse({ command: ["./program"], history: "last-only", names: "service" });
  const monitor = usageAdapter.create(settings, "payments", depsIn(folder, debugged));
  expect(monitor.traits).toMatchObject({ history: "last-only", names: "service", seesDenied: false });
  const seen = await monitor.usageOf(["K1", "K2"], 0, lookCtx());
  expect(asked()).toMatchObject({ op: "usage", keyIds: ["K1", "K2"], since: 0 });
  expect(seen.get("K1")?.events).toEqual([
    { who: "checkout", first: 1_795_262_340_000, last: 1_795_262_400_000, count: 1, outcome: "ok", longestGap: 5 },
  ]);
  expect(seen.get("K2")).toMatchObject({ status: "unknown", events: [] });
});

test("a notifier hears each notification once, whole", async () => {
  const notification = {
    id: "evt-7",
    secret: "payments",
    at: 1,
    type: "blocked",
    reason: "drift",
    message: "it's “changed”",
    data: { a: 1 },
  };
  const settings = notifierAdapter.settings.parse({ command: [join(EXAMPLES, "notify.sh"), "log.jsonl"] });
  const notifier = notifierAdapter.create(settings, depsIn(folder, debugged));
  await notifier.send(notification, ctx());
  await notifier.send({ ...notification, id: "evt-8" }, ctx());
  await expect(notifier.send(notification, fencedCtx())).rejects.toMatchObject({ applied: "no" });
  const lines = readFileSync(join(folder, "log.jsonl"), "utf8").trim().split("\n");
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
    { protocol: 1, op: "send", secret: "payments", settings: {}, notification },
    { protocol: 1, op: "send", secret: "payments", settings: {}, notification: { ...notification, id: "evt-8" } },
  ]);
});
