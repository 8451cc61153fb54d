import { spawn as spawnPty } from "@lydell/node-pty";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bench, BIN, build, ending, policyOf, type Bench } from "./harness.ts";

let b: Bench;
beforeAll(build);
beforeEach(async () => {
  await b?.close();
  b = await bench();
  b.policy(policyOf(b.authority.url));
});
afterAll(() => b.close());

function moduleOf(code: string): string {
  return `data:text/javascript,${encodeURIComponent(code)}`;
}

/** What the command's process runs before anything of ours. */
function preload(code: string): void {
  b.env["NODE_OPTIONS"] = `--import=${moduleOf(code)}`;
}

describe("errors", () => {
  test("a broken policy is told at its place, exit 2", async () => {
    b.policy(policyOf(b.authority.url).replace("secrets:", "secrts:"));
    const { code, stderr } = await b.run("validate");
    expect(code).toBe(2);
    expect(stderr).toMatch(/^keyturn: rotation\.config\.yaml:\d+:\d+: .*secrets/m);
    const { code: same, document } = await b.json("run");
    expect(same).toBe(2);
    expect(document).toMatchObject({
      command: "run",
      outcome: "failed",
      secrets: [],
      error: { code: "policy-invalid" },
    });
    expect(document.error.at).toMatch(/^rotation\.config\.yaml:\d+:\d+$/);
  });

  test("no policy, or one that is not there", async () => {
    expect((await b.run("-c", "other.yaml", "status")).code).toBe(2);
    expect((await b.json("status", "--config", "other.yaml")).document.error.code).toBe("policy-not-found");
  });

  test("a missing variable is named before anything is called", async () => {
    delete b.env["ADMIN"];
    expect((await b.run("validate")).code).toBe(0);
    const { code, document } = await b.json("rotate", "one");
    expect([code, document.error.code]).toEqual([2, "credentials-missing"]);
    expect(document.error.message).toContain("ADMIN");
    expect((await b.run("status")).code).toBe(0);
  });

  test("an authority that does not answer fails that secret, exit 1", async () => {
    b.policy(policyOf("http://127.0.0.1:1"));
    const { code, document } = await b.json("run", "one", "--quiet");
    expect(code).toBe(1);
    expect(document).toMatchObject({ error: null, outcome: "failed", secrets: [{ name: "one", outcome: "failed" }] });
    const doctor = await b.json("doctor", "one");
    expect([doctor.code, doctor.document.doctor[0].verdict]).toEqual([3, "blocks"]);
  });

  test("an unknown secret comes with the nearest name", async () => {
    const { code, stderr } = await b.run("status", "oen");
    expect(code).toBe(2);
    expect(stderr).toContain('keyturn: unknown secret "oen"');
    expect(stderr).toMatch(/^hint: .*"one"/m);
  });

  test("a usage error with --json is a document too, wherever --json stands", async () => {
    for (const args of [
      ["--json", "rotat"],
      ["rotate", "--wiat", "--json"],
    ]) {
      const { code, stdout } = await b.run(...args);
      expect(code).toBe(2);
      expect(JSON.parse(stdout)).toMatchObject({ keyturn: 1, outcome: "failed", secrets: [] });
    }
  });

  test("an installation without SQLite for this machine is told as that, and is no bug", async () => {
    await b.run("rotate", "one");
    const hook = `export const resolve = (name, at, next) => {
      if (name === "libsql") throw new Error("no such module");
      return next(name, at);
    };`;
    preload(`import { register } from "node:module"; register(${JSON.stringify(moduleOf(hook))});`);
    const { code, stderr } = await b.run("status");
    expect(code).toBe(1);
    expect(stderr).toMatch(/^keyturn: SQLite \(the package libsql\) cannot be loaded here: /m);
    expect(stderr).not.toContain("bug");
  });

  test("what fails at the end makes no success of a failure, and no failure of a success", async () => {
    preload(`import { createRequire } from "node:module";
      const { prototype } = createRequire(${JSON.stringify(BIN)})("libsql");
      const { close } = prototype;
      prototype.close = function () {
        if (process.stdout.bytesWritten > 0) throw new Error("told, and not closed");
        return close.call(this);
      };`);
    const { code, stderr } = await b.run("rotate", "one");
    expect(code, stderr).toBe(0);
    b.policy(policyOf("http://127.0.0.1:1"));
    expect((await b.json("rotate", "one")).code).toBe(1);
  });

  test("a failure that cannot be told is one all the same", async () => {
    preload(`const { write } = process.stdout;
      process.stdout.write = function (text, ...more) {
        if (text !== "") throw new Error("nobody listens");
        return write.call(this, text, ...more);
      };`);
    const { code, stderr } = await b.run("status", "--json");
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^keyturn: this is a bug in keyturn: unexpected Error$/m),
    ]);
    expect(stderr).not.toContain("nobody listens");
  });

  test.each([
    [{ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, "grpc is not spoken here"],
    [{ OTEL_EXPORTER_OTLP_CERTIFICATE: "/nowhere/ca.pem" }, "/nowhere/ca.pem, which cannot be read"],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" }, "OTEL_EXPORTER_OTLP_ENDPOINT"],
  ])("traces that cannot be sent cost a warning, and no rotation: %j", async (settings, words) => {
    Object.assign(b.env, { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" }, settings);
    const { code, stderr } = await b.run("rotate", "--all");
    expect(code, stderr).toBe(0);
    expect(stderr.match(/^warning: traces: .*$/gm)).toEqual([expect.stringContaining(words)]);
    const [leaked] = await b.authority.list("one");
    expect((await b.run("emergency", "one", "--grace", "0s", "--accept-outage", "--yes")).code).toBe(0);
    expect((await b.authority.list("one")).map(({ id }) => id)).not.toContain(leaked?.id);
    b.policy(policyOf("http://127.0.0.1:1"));
    expect((await b.json("run", "--all")).code).toBe(0);
    expect((await b.json("rotate", "two")).code).toBe(1);
  });

  test("a damaged state is told, exit 3", async () => {
    writeFileSync(join(b.folder, "bad.db"), "this is no database at all, only text that goes on for a while");
    expect((await b.run("status", "--state", "sqlite:bad.db")).code).toBe(3);
  });
});

describe("streams", () => {
  test("data goes to stdout, progress to stderr, and --quiet silences only the latter", async () => {
    const loud = await b.run("rotate", "one");
    expect(loud.stdout).toMatch(/^SECRET/);
    expect(loud.stderr).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ one /m);
    const quiet = await b.run("rotate", "two", "--quiet");
    expect(quiet.stdout).toMatch(/^SECRET/);
    expect(quiet.stderr).not.toMatch(/^\d{4}-/m);
    expect((await b.run("rollback", "two", "--quiet")).stderr).toMatch(/^keyturn: two: blocked: /);
  });

  test("tables have a line for each row and no colour in a pipe, unless forced", async () => {
    await b.run("rotate", "--all");
    for (const verb of ["status", "history", "audit", "check"]) {
      const { stdout } = await b.run(verb);
      expect(stdout).not.toContain("\u001b");
      for (const line of stdout.trim().split("\n")) expect(line).toMatch(/^\S/);
    }
    const [key] = await b.authority.list("one");
    expect((await b.run("history", "one")).stdout).toMatch(new RegExp(`^\\S+ +one .*keyId=${key?.id}`, "m"));
    b.env["FORCE_COLOR"] = "1";
    expect((await b.run("status")).stdout).toContain("\u001b[");
    expect((await b.run("status", "--no-color")).stdout).not.toContain("\u001b");
    b.env["NO_COLOR"] = "1";
    expect((await b.run("status")).stdout).not.toContain("\u001b");
  });

  test("tables keep to a terminal's columns", async () => {
    await b.run("rotate", "--all");
    const pty = spawnPty(process.execPath, [BIN, "status", "--no-color"], {
      cwd: b.folder,
      env: b.env,
      cols: 60,
      rows: 24,
    });
    let screen = "";
    const ended = new Promise((resolve) => pty.onExit(resolve));
    pty.onData((text) => (screen += text));
    await ended;
    expect(screen).toMatch(/^one +idle +done/m);
    for (const line of screen.split(/\r?\n/)) expect(line.length).toBeLessThanOrEqual(60);
  });

  test("a state that holds nothing is told from one where all is well", async () => {
    const none = /^no state yet at sqlite:other\.db$/m;
    expect((await b.run("status", "--state", "sqlite:other.db")).stdout).toMatch(none);
    expect((await b.run("status")).stdout).toMatch(/^no state yet at sqlite:\.keyturn\/state\.db$/m);
    await b.run("rotate", "one");
    expect((await b.run("status", "two")).stdout).not.toContain("no state yet");
  });

  test("a reader that goes away is no failure", async () => {
    const child = b.start("schema");
    child.stdout?.destroy();
    const { code, stderr } = await ending(child);
    expect([code, stderr]).toEqual([0, ""]);
  });

  test("an answer that nobody could write down is a failure", async () => {
    const shell = spawn("sh", ["-c", `${process.execPath} ${BIN} schema > /dev/full`], { cwd: b.folder, env: b.env });
    const { code, stderr } = await ending(shell);
    expect([code, stderr]).toEqual([1, "keyturn: the answer could not be written (ENOSPC)\n"]);
  });

  test("a watch ends when nobody reads it any more", async () => {
    const child = b.start("status", "--watch");
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.stdout?.destroy();
    const [code] = await once(child, "exit");
    expect(code).toBe(0);
  });
});

describe("questions", () => {
  test("where nobody can be asked, the flag is named and nothing is done", async () => {
    await b.run("rotate", "one");
    const keys = await b.authority.list("one");
    for (const args of [
      ["forget", "one"],
      ["emergency", "one"],
    ]) {
      const { code, stderr } = await b.run(...args);
      expect([args, code]).toEqual([args, 2]);
      expect(stderr).toContain("--yes");
    }
    expect(await b.authority.list("one")).toEqual(keys);
    expect((await b.run("show", "one")).stdout).toContain(keys[0]?.id);
  });

  test.each([
    ["n", 1],
    ["y", 0],
  ])("a terminal is asked: %s", async (answer, expected) => {
    await b.run("rotate", "one");
    const pty = spawnPty(process.execPath, [BIN, "forget", "one"], { cwd: b.folder, env: b.env, cols: 80, rows: 24 });
    let screen = "";
    const code = new Promise<number>((resolve) => pty.onExit(({ exitCode }) => resolve(exitCode)));
    pty.onData((text) => {
      if (!screen.includes("[y/N]") && (screen + text).includes("[y/N]")) pty.write(`${answer}\r`);
      screen += text;
    });
    expect(await code).toBe(expected);
    expect(screen).toContain("left alive: key_");
    expect((await b.run("forget", "one", "--yes")).code).toBe(expected === 0 ? 3 : 0);
  });
});

test("an emergency says what it would kill before it asks", async () => {
  await b.run("rotate", "one");
  const [key] = await b.authority.list("one");
  const pty = spawnPty(process.execPath, [BIN, "emergency", "one"], { cwd: b.folder, env: b.env, cols: 200, rows: 24 });
  let screen = "";
  const code = new Promise<number>((resolve) => pty.onExit(({ exitCode }) => resolve(exitCode)));
  pty.onData((text) => {
    if (!screen.includes("[y/N]") && (screen + text).includes("[y/N]")) pty.write("n\r");
    screen += text;
  });
  expect(await code).toBe(1);
  expect(screen).toMatch(new RegExp(`one: ${key?.id} \\(v1-\\w+, current, served by local one, dotenv one\\.env\\)`));
  expect(screen).toMatch(/replaced first; use of them is waited for up to 5 min; no outage is accepted/);
  expect(screen).toContain("replace and kill 1 key of one? [y/N]");
  expect((await b.authority.list("one")).map(({ status }) => status)).toEqual(["enabled"]);
});

describe("several runs", () => {
  test("the loser of two exits 4 at once, unless it may wait", async () => {
    const hook = "echo busy; while [ ! -e go ]; do sleep 0.05; done";
    b.policy(policyOf(b.authority.url).replace("owner: team-one", `hooks: { beforeRotate: ["${hook}"] }`));
    const child = b.start("rotate", "one");
    const first = ending(child);
    for await (const text of child.stderr as NodeJS.ReadableStream) if (String(text).includes("busy")) break;
    const loser = await b.json("run", "one");
    expect([loser.code, loser.document.secrets[0].reason]).toEqual([4, "locked"]);
    const patient = b.run("run", "one", "--lock-timeout", "20s");
    writeFileSync(join(b.folder, "go"), "");
    expect([(await patient).code, (await first).code]).toEqual([0, 0]);
    expect(await b.authority.list("one")).toHaveLength(1);
  });

  test("a hook that fails stops the rotation, and its output is prose", async () => {
    b.policy(
      policyOf(b.authority.url).replace("owner: team-one", 'hooks: { beforeRotate: ["echo from the hook; exit 3"] }'),
    );
    const { code, stdout, stderr } = await b.run("--json", "run", "one");
    expect([code, JSON.parse(stdout).secrets[0].reason]).toEqual([1, "hook-failed"]);
    expect(stderr).toContain("one beforeRotate[0]: from the hook");
    expect((await b.run("run", "one", "--quiet")).stderr).not.toContain("from the hook");
    expect(await b.authority.list("one")).toEqual([]);
  });
});

describe("signals", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s ends a run with a consistent state", async (signal, expected) => {
    b.policy(policyOf(b.authority.url, { minimum: "1h" }));
    await b.run("rotate", "one");
    const child = b.start("--json", "rotate", "one", "--wait");
    const ended = ending(child);
    for await (const text of child.stderr as NodeJS.ReadableStream) if (String(text).includes("overlap: both")) break;
    child.kill(signal);
    const { code, stdout } = await ended;
    expect(code).toBe(expected);
    expect(JSON.parse(stdout).secrets[0].phase).toBe("overlap");
    const next = await b.json("run", "one");
    expect([next.code, next.document.secrets[0].reason]).toEqual([0, "minimum-overlap"]);
  });

  test("the authority's server drains and ends well", async () => {
    b.env["KEYTURN_API_KEYS_ADMIN_TOKEN"] = "a-token-for-this-test";
    const child = b.start("api-keys", "serve", "--db", "authority.db", "--listen", "127.0.0.1:0");
    const [line] = await once(child.stdout as NodeJS.ReadableStream, "data");
    const url = /http:\S+/.exec(String(line))?.[0] as string;
    b.env["KEYTURN_API_KEYS_URL"] = url;
    expect((await b.run("api-keys", "client", "add", "shop", "--scopes", "read,trade")).code).toBe(0);
    const added = await b.json("--client", "shop", "api-keys", "key", "add");
    expect(Object.keys(added.document.key)).toEqual(["id", "client", "value", "createdAt", "scopes"]);
    const id = added.document.key.id as string;
    for (const verb of ["disable", "enable", "delete"])
      expect((await b.run("api-keys", "key", verb, "--client", "shop", "--key", id)).code).toBe(0);
    expect((await b.json("api-keys", "key", "list", "--client", "shop")).document.keys).toEqual([]);
    expect((await b.run("api-keys", "key", "list", "--client", "nobody")).code).toBe(1);
    child.kill("SIGTERM");
    const [code] = await once(child, "exit");
    expect(code).toBe(0);
  });
});

test("--version is answered by itself", async () => {
  const { code, stdout } = await b.run("--version");
  expect([code, /^\d+\.\d+\.\d+\n$/.test(stdout)]).toEqual([0, true]);
});
