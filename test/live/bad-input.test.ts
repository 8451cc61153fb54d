import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { generateX25519Identity } from "age-encryption";
import Database from "libsql";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, policyText, type Ended } from "../support/command-line.ts";
import { Lane } from "../support/lane.ts";
import { needs } from "../support/require.ts";

let authority: TestAuthority;
let commands: CommandLine;
let lane: Lane;
let opened = 0;

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
});
beforeEach(async () => {
  lane = await Lane.open(`client-${++opened}`, authority, commands, 200);
});
afterEach(() => lane.close());
afterAll(async () => {
  await authority?.close();
  commands?.remove();
});

function text(): string {
  return policyText(lane.proxy.url, [{ name: "one", client: lane.client, maxKeys: 5 }]);
}

/** One error line, the hint beside it, the exit code; nothing that looks like a crash. */
function refused({ code, stderr }: Ended, exit: number, error: RegExp, hint = /(?:)/): void {
  const lines = stderr.split("\n").filter((line) => line.startsWith("keyturn: "));
  expect({ code, lines: lines.length }, stderr).toEqual({ code: exit, lines: 1 });
  expect(lines[0]).toMatch(error);
  expect(stderr).toMatch(hint);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}

async function begun(): Promise<void> {
  expect((await lane.run("rotate", "one", "--wait")).code).toBe(0);
  lane.proxy.reset();
}

async function goesOn(): Promise<void> {
  expect((await lane.run("rotate", "one", "--wait")).code).toBe(0);
  expect(await lane.settle()).toBeNull();
  expect(await lane.faults()).toEqual([]);
}

describe("a policy", () => {
  test("with an unknown key: where it stands, and the nearest one", async () => {
    lane.place.policy(text().replace("consumers:", "consumer:"));
    refused(await lane.run("run"), 2, /^keyturn: rotation\.config\.yaml:\d+:\d+: .*"?consumer"?/, /consumers/);
    expect(lane.proxy.calls).toEqual([]);
  });

  test("with a reference to nothing: named before anything is done", async () => {
    await begun();
    const { ADMIN: _, ...env } = lane.place.env;
    refused(await commands.run({ folder: lane.place.folder, env }, "rotate", "one"), 2, /ADMIN/);
    expect(lane.proxy.calls).toEqual([]);
    await goesOn();
  });

  test("without the secret that was asked for: the nearest name", async () => {
    refused(await lane.run("rotate", "oen"), 2, /unknown secret "oen"/, /^hint: .*"one"/m);
    expect(lane.proxy.calls).toEqual([]);
  });

  test("with a credential in clear: refused and not repeated", async () => {
    lane.place.policy(text().replace("${env:ADMIN}", "hunter2-in-clear"));
    const ended = await lane.run("rotate", "one");
    refused(ended, 2, /rotation\.config\.yaml:\d+:\d+: .*clear/, /^hint: .*\$\{env:NAME\}/m);
    expect(ended.stdout + ended.stderr).not.toContain("hunter2");
    expect(lane.proxy.calls).toEqual([]);
  });
});

describe("a state", () => {
  test("of a newer version is left alone", async () => {
    await begun();
    const db = new Database(lane.place.path(".keyturn/state.db"));
    const before = (db.prepare("PRAGMA user_version").get() as { user_version: number }).user_version;
    db.exec("PRAGMA user_version = 999");
    db.close();
    const bytes = readFileSync(lane.place.path(".keyturn/state.db"));
    refused(await lane.run("run"), 3, /newer/, /^hint: .*(update|upgrade) keyturn/m);
    refused(await lane.run("status"), 3, /newer/);
    expect(readFileSync(lane.place.path(".keyturn/state.db")).equals(bytes)).toBe(true);
    expect(lane.proxy.calls).toEqual([]);
    const mended = new Database(lane.place.path(".keyturn/state.db"));
    mended.exec(`PRAGMA user_version = ${before}`);
    mended.close();
    await goesOn();
  });

  test.each([
    ["cut short", (bytes: Buffer) => bytes.subarray(0, 5000)],
    ["empty", () => Buffer.alloc(0)],
    ["another file altogether", () => Buffer.from("SECRETS=none\n".repeat(500))],
  ])("that is %s is told, never begun anew", async (_, damage) => {
    await begun();
    const at = lane.place.path(".keyturn/state.db");
    const whole = readFileSync(at);
    writeFileSync(at, damage(whole));
    refused(await lane.run("run"), 3, /state/, /^hint: /m);
    refused(await lane.run("rotate", "one"), 3, /state/, /^hint: /m);
    expect(lane.proxy.calls).toEqual([]);
    for (const name of readdirSync(lane.place.path(".keyturn")))
      if (name.startsWith("state.db-")) rmSync(lane.place.path(".keyturn", name));
    writeFileSync(at, whole);
    await goesOn();
  });

  test("on a disk that is full", async () => {
    const at = lane.place.path(".keyturn");
    mkdirSync(at);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", at]).status === 0;
    if (!needs("right to mount a small disk", mounted)) return;
    try {
      await begun();
      const filler = lane.place.path(".keyturn/filler");
      const block = Buffer.alloc(4096, 1);
      const fill = (): void => {
        try {
          for (;;) writeFileSync(filler, block, { flag: "a" });
        } catch {
          // It is full.
        }
      };
      fill();
      const ended = await lane.run("rotate", "one", "--wait");
      refused(ended, 1, /full|space/i);
      rmSync(filler);
      expect((await lane.run("run", "one", "--wait")).code).toBe(0);
      await goesOn();
    } finally {
      execFileSync("umount", ["-l", at]);
    }
  });
});

describe("what may only be read", () => {
  const NOBODY = 65_534;

  test.each([".keyturn/state.db", ".keyturn/secrets/one", "."])("%s", async (path) => {
    await begun();
    const root = process.getuid?.() === 0;
    const prefix = root ? ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"] : [];
    const run = (...args: string[]): Promise<Ended> => commands.start(lane.place, args, { prefix }).ended;
    if (root) own(lane.place.folder, NOBODY);
    const usable = root
      ? await run("--version").then(
          ({ code }) => code === 0,
          () => false,
        )
      : true;
    if (!needs("setpriv, or no folder that others may read", usable)) return;
    chmodSync(lane.place.path(path), 0o500);
    const ended = await run("rotate", "one", "--wait", "--wait-max", "1s");
    chmodSync(lane.place.path(path), 0o700);
    expect([1, 3], ended.stderr).toContain(ended.code);
    refused(ended, ended.code ?? 0, /cannot be (written|replaced|opened)|permission|read-only|may not/i);
    if (root) own(lane.place.folder, 0);
    expect((await lane.run("rotate", "one", "--wait")).code).toBe(0);
    await goesOn();
  });
});

function own(folder: string, id: number): void {
  for (const name of ["", ...readdirSync(folder, { recursive: true, encoding: "utf8" })])
    chownSync(`${folder}/${name}`, id, id);
}

describe("an identity", () => {
  test("that is another one", async () => {
    await begun();
    const at = lane.place.path(".keyturn/identity");
    renameSync(at, `${at}.kept`);
    writeFileSync(at, `${await generateX25519Identity()}\n`, { mode: 0o600 });
    refused(await lane.run("rotate", "one", "--wait", "--wait-max", "1s"), 1, /does not decrypt/);
    expect(lane.proxy.calls.filter(({ mutates }) => mutates)).toEqual([]);
    renameSync(`${at}.kept`, at);
    await goesOn();
  });

  test("that its group can read", async () => {
    await begun();
    chmodSync(lane.place.path(".keyturn/identity"), 0o640);
    const ended = await lane.run("rotate", "one", "--wait", "--wait-max", "1s");
    refused(ended, ended.code ?? 0, /can be read by others than its owner/, /^hint: chmod 600/m);
    expect([1, 3]).toContain(ended.code);
    expect(lane.proxy.calls.filter(({ mutates }) => mutates)).toEqual([]);
    chmodSync(lane.place.path(".keyturn/identity"), 0o600);
    await goesOn();
  });
});

describe("an authority", () => {
  test("that cannot be reached", async () => {
    await begun();
    lane.place.policy(text().replaceAll(lane.proxy.url, "http://127.0.0.1:1"));
    refused(await lane.run("rotate", "one"), 1, /http:\/\/127\.0\.0\.1:1: connection refused/);
    lane.write();
    await goesOn();
  });

  test("that does not answer", async () => {
    await begun();
    lane.proxy.instead = () => "hang";
    refused(await lane.run("rotate", "one", "--wait", "--wait-max", "1s"), 1, /no full answer within/);
    lane.proxy.reset();
    await goesOn();
  });

  test("that does not answer a mint", async () => {
    await begun();
    lane.proxy.instead = (call) => (call.kind === "POST keys" ? "hang" : null);
    refused(await lane.run("rotate", "one"), 1, /no full answer within/);
    lane.proxy.reset();
    expect(await lane.settle()).toBeNull();
    expect(await lane.faults()).toEqual([]);
  });

  test.each(["<html>login</html>", "[1,2"])("that answers %j", async (body) => {
    await begun();
    lane.proxy.instead = () => ({ status: 200, body });
    refused(await lane.run("rotate", "one"), 1, /answer/);
    lane.proxy.reset();
    await goesOn();
  });
});
