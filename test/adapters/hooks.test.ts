import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SecretValue } from "../../src/core/secret-value.ts";
import { HookFailed, runHook, type HookCall, type HookSpec } from "../../src/adapters/hooks.ts";

let folder: string;
let lines: string[];

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "keyturn-hooks-")));
  lines = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const value = SecretValue.of({ apiKey: "kt_$canary+1", note: 'two\nlines "quoted"' });

function hook(spec: HookSpec, more: Partial<HookCall> = {}): Promise<void> {
  return runHook(spec, {
    point: "afterDistribute",
    index: 1,
    rotationId: "r-1",
    hookId: "h-1",
    secret: "payments",
    context: { reason: "scheduled", version: "v2", keyId: null, oldVersion: "v1", stores: ["prod"] },
    value,
    cwd: folder,
    env: { PATH: process.env["PATH"], KEYTURN_KEY_ID: "stale", OWN: "kept" },
    signal: new AbortController().signal,
    log: (line) => lines.push(line),
    ...more,
  });
}

async function failure(running: Promise<void>): Promise<HookFailed> {
  const error: unknown = await running.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(HookFailed);
  return error as HookFailed;
}

/** The pid that a hook wrote down, once it has. */
async function pidIn(name: string): Promise<number> {
  return await expect
    .poll(() => Number(readFileSync(join(folder, name), "utf8")), { timeout: 10_000 })
    .toBeGreaterThan(0)
    .then(() => Number(readFileSync(join(folder, name), "utf8")));
}

/** Gone, or a zombie that nobody reaps. */
function isDead(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}

test("a text goes through the shell, a list does not", async () => {
  await hook('printf "%s\\n" "a  b" | cat');
  await hook(["printf", "%s\\n", "$HOME; exit 9"]);
  expect(lines).toEqual(["a  b", "$HOME; exit 9"]);
});

test("runs in the given folder, where a relative program is found", async () => {
  writeFileSync(join(folder, "deploy.sh"), "#!/bin/sh\npwd\n", { mode: 0o755 });
  await hook(["./deploy.sh"]);
  expect(lines).toEqual([folder]);
});

test("the context is JSON on stdin, without the value", async () => {
  await hook("cat > stdin.json");
  const text = readFileSync(join(folder, "stdin.json"), "utf8");
  expect(JSON.parse(text)).toEqual({
    hook: "afterDistribute",
    index: 1,
    secret: "payments",
    rotationId: "r-1",
    hookId: "h-1",
    reason: "scheduled",
    version: "v2",
    keyId: null,
    oldVersion: "v1",
    stores: ["prod"],
  });
  expect(text).not.toContain("canary");
});

test("the value is on stdin only if the hook asked for it, and never in its environment", async () => {
  await hook({ run: "cat > stdin.json; env > env.txt", passValue: true });
  expect(JSON.parse(readFileSync(join(folder, "stdin.json"), "utf8"))).toMatchObject({ value: value.reveal() });
  expect(readFileSync(join(folder, "env.txt"), "utf8")).not.toContain("canary");
});

test("the environment tells the context, and an inherited name of ours is not mistaken for it", async () => {
  await hook("env | grep -E '^(KEYTURN_|OWN)' | sort");
  expect(lines).toEqual([
    "KEYTURN_HOOK=afterDistribute",
    "KEYTURN_HOOK_ID=h-1",
    "KEYTURN_OLD_VERSION=v1",
    "KEYTURN_REASON=scheduled",
    "KEYTURN_ROTATION_ID=r-1",
    "KEYTURN_SECRET=payments",
    "KEYTURN_VERSION=v2",
    "OWN=kept",
  ]);
});

test("a hook that does not read its stdin succeeds", async () => {
  await hook(["true"], { context: { reason: "manual", version: null, keyId: null, filler: ["x".repeat(4_000_000)] } });
});

test("an exit code and a signal are told, what was printed is not part of the error", async () => {
  const exited = await failure(hook("echo secret-looking >&2; exit 3"));
  expect(exited.end).toEqual({ how: "exit", code: 3 });
  expect(exited.message).toBe("hook afterDistribute[1] exited with 3");
  expect(lines).toEqual(["secret-looking"]);
  expect((await failure(hook("kill -USR1 $$"))).message).toBe("hook afterDistribute[1] was ended by SIGUSR1");
});

test("a program that is not there, a folder that is not there, an impossible argument", async () => {
  expect((await failure(hook(["./missing"]))).end).toEqual({ how: "not-started", code: "ENOENT" });
  expect((await failure(hook("true", { cwd: join(folder, "no") }))).end).toMatchObject({ how: "not-started" });
  expect((await failure(hook(["printf", "\0"]))).end).toMatchObject({ how: "not-started" });
});

test("values are masked on both streams: plain, as JSON, line by line", async () => {
  await hook({ run: "cat; echo; echo 'key=kt_$canary+1.' >&2; printf 'two\\nlines \"quoted\"'", passValue: true });
  expect(lines.join("\n")).not.toMatch(/canary|two|quoted/);
  expect(lines).toContain("key=[secret].");
  expect(lines.find((line) => line.startsWith("{"))).toContain('"value":{"apiKey":"[secret]","note":"[secret]"}');
});

test("a value across the place where an endless line is cut is masked too", async () => {
  for (const before of [-12, -6, -1, 0, 6]) {
    lines = [];
    const text = `${"x".repeat(16_384 + before)}kt_$canary+1${"y".repeat(90_000)}`;
    writeFileSync(join(folder, "long.txt"), text);
    await hook("cat long.txt; echo; echo after");
    expect(lines).toHaveLength(2);
    expect(lines[0]?.replace(/^x+/, "")).toMatch(/^(\[(s(e(c(r(e(t(\]y*)?)?)?)?)?)?)?)?…$/);
    expect(lines[1]).toBe("after");
  }
});

test("a process left behind that holds the output open does not hang the run", async () => {
  await hook("sleep 300 & echo $! > left.pid; echo started");
  expect(lines).toEqual(["started"]);
  const pid = await pidIn("left.pid");
  expect(isDead(pid)).toBe(false);
  process.kill(pid, "SIGKILL");
});

test("the time being up ends the whole group", async () => {
  const error = await failure(hook({ run: "sleep 300 & echo $! > inner.pid; wait", timeout: 400 }));
  expect(error.end).toEqual({ how: "timeout", after: 400 });
  expect(isDead(await pidIn("inner.pid"))).toBe(true);
});

test("an abort ends the whole group, and whoever ignores SIGTERM is killed", async () => {
  const run = new AbortController();
  const script = "trap '' TERM; (trap '' TERM; while :; do sleep 0.2; done) & echo $! > inner.pid; wait";
  const running = failure(hook(script, { signal: run.signal }));
  const pid = await pidIn("inner.pid");
  run.abort();
  expect((await running).end).toEqual({ how: "aborted" });
  await expect.poll(() => isDead(pid), { timeout: 5000 }).toBe(true);
});

test("a hook gets SIGTERM first and may clean up", async () => {
  const run = new AbortController();
  const running = failure(
    hook("trap 'echo cleaned up; exit 0' TERM; echo $$ > self.pid; while :; do sleep 0.1; done", {
      signal: run.signal,
    }),
  );
  await pidIn("self.pid");
  run.abort();
  expect((await running).end).toEqual({ how: "aborted" });
  expect(lines).toContain("cleaned up");
});

test("an aborted run starts no hook", async () => {
  expect((await failure(hook("touch ran", { signal: AbortSignal.abort() }))).end).toEqual({ how: "aborted" });
  expect(() => readFileSync(join(folder, "ran"))).toThrow();
});
