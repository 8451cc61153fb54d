import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bench, build, policyOf, type Bench } from "./harness.ts";
import { CTRL_C, ENTER, openPty, type Pty } from "./pty.ts";

let b: Bench;
beforeAll(build);
beforeEach(async () => {
  await b?.close();
  b = await bench();
  b.policy(policyOf(b.authority.url, { minimum: "2s" }));
});
afterAll(() => b.close());

const at = (...args: string[]): Pty => openPty(args, { cwd: b.folder, env: b.env });
// oxlint-disable-next-line no-control-regex
const COLOUR = /\u001b\[\d[\d;]*m/;

describe("a terminal of 80 columns", () => {
  test("has a line for each secret under way, which is gone in the end", async () => {
    await b.run("rotate", "--all");
    const pty = at("rotate", "--all", "--wait");
    await pty.until(/of 2 secrets through, 2 under way/);
    await pty.until(/one overlap: /);
    await pty.until(/two overlap: /);
    expect(await pty.code).toBe(0);
    expect(pty.screen()).toMatch(/^SECRET +PHASE +OUTCOME[^\n]*\none +idle[^\n]*\ntwo +idle[^\n]*\n*$/);
    expect(pty.tooLong()).toEqual([]);
  });

  test("with one secret there is one line", async () => {
    await b.run("rotate", "one");
    const pty = at("rotate", "one", "--wait");
    await pty.until(/one overlap: /);
    expect(await pty.code).toBe(0);
    expect(pty.raw()).not.toContain("under way");
  });

  test.each([
    "plan",
    "status",
    "status --refresh",
    "doctor",
    "show one",
    "history",
    "permissions",
    "check",
    "validate",
    "--help",
    "emergency --help",
  ])("fits %s", async (words) => {
    await b.run("rotate", "one");
    const pty = at(...words.split(" "));
    await pty.code;
    expect(pty.screen().length).toBeGreaterThan(10);
    expect(pty.tooLong()).toEqual([]);
  });

  test("Ctrl-C at the question of an emergency: one clear line, 130, and nothing was done", async () => {
    await b.run("rotate", "one");
    const served = b.served();
    const pty = at("emergency", "one");
    await pty.answer(/\? \[y\/N\]/, CTRL_C);
    expect(await pty.code).toBe(130);
    expect(pty.screen().match(/^keyturn: .*$/gm)).toEqual(["keyturn: stopped by SIGINT: nothing was done"]);
    expect(pty.tooLong()).toEqual([]);
    expect(b.served()).toBe(served);
  });

  test("a no at it is a no", async () => {
    const pty = at("emergency", "one");
    await pty.answer(/\? \[y\/N\]/, ENTER);
    expect(await pty.code).toBe(1);
  });
});

describe("colours", () => {
  test.each([
    ["a terminal", {}, [], true],
    ["NO_COLOR", { NO_COLOR: "1" }, [], false],
    ["NO_COLOR beside FORCE_COLOR", { NO_COLOR: "1", FORCE_COLOR: "1" }, [], false],
    ["--no-color", { FORCE_COLOR: "1" }, ["--no-color"], false],
    ["a terminal that has none", { TERM: "dumb" }, [], false],
  ])("%s", async (_, more, args, has) => {
    await b.run("rotate", "one");
    Object.assign(b.env, { TERM: "xterm" }, more);
    const pty = at("status", ...args);
    await pty.code;
    expect(COLOUR.test(pty.raw())).toBe(has);
  });

  test("where no terminal is, FORCE_COLOR alone makes them", async () => {
    await b.run("rotate", "one");
    expect((await b.run("status")).stdout).not.toMatch(COLOUR);
    b.env["FORCE_COLOR"] = "1";
    expect((await b.run("status")).stdout).toMatch(COLOUR);
  });
});

test("where no terminal is, progress is plain lines, each with its time and each once", async () => {
  await b.run("rotate", "--all");
  const { code, stderr } = await b.run("rotate", "--all", "--wait");
  expect(code).toBe(0);
  const lines = stderr.trimEnd().split("\n");
  for (const line of lines) expect(line).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (one|two) [a-z-]+: /);
  for (const name of ["one", "two"])
    expect(lines.filter((line) => line.includes(`${name} overlap: both keys live`))).toHaveLength(1);
  expect(stderr).not.toMatch(COLOUR);
});
