import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BIN, build, ending } from "./harness.ts";

/** Everything that a demo makes is below it. */
let folder: string;
beforeAll(() => {
  build();
  folder = mkdtempSync(join(tmpdir(), "keyturn-test-demo-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Every process of one demo inherits the mark. */
function start(mark: string, ...args: string[]): ChildProcess {
  const env = { PATH: process.env["PATH"] ?? "", TMPDIR: folder, KEYTURN_TEST_MARK: mark };
  return spawn(process.execPath, [BIN, "demo", ...args], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
}

/** Process ids, by what they were started as. */
function marked(mark: string): Map<number, string> {
  const found = new Map<number, string>();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "utf8").includes(`KEYTURN_TEST_MARK=${mark}\0`)) continue;
      found.set(Number(pid), readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " "));
    } catch {
      // Gone, or somebody else's.
    }
  }
  return found;
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds() && tries < 300; tries++) await sleep(100);
  expect(holds()).toBe(true);
}

const nothingLeft = (mark: string) => expect([...marked(mark).values(), ...readdirSync(folder)]).toEqual([]);
const hasClients = (mark: string) => () =>
  [...marked(mark).values()].filter((line) => line.includes("demo-client")).length === 6;

describe("the demo", () => {
  test("rotates under load without one failed request, waits for the straggler, and leaves nothing", async () => {
    const { code, stdout, stderr } = await ending(start("whole", "--json"));
    const { demo, ...document } = JSON.parse(stdout);
    expect(document).toMatchObject({ keyturn: 1, command: "demo", outcome: "done", error: null });
    expect(demo).toEqual({
      requests: expect.any(Number),
      failed: 0,
      oldKey: "rejected",
      waitedForStraggler: true,
      seconds: expect.any(Number),
    });
    expect(code).toBe(0);
    expect(demo.requests).toBeGreaterThan(2000);
    for (const told of ["keyturn rotate", "reminder to reports", "disabled", "proven dead", "401 unknown"])
      expect(stderr).toContain(told);
    expect(stdout + stderr).not.toMatch(/kt_[0-9A-Za-z]{8}_/);
    nothingLeft("whole");
  });

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s in the middle leaves nothing", async (signal, expected) => {
    const child = start(signal);
    const ended = ending(child);
    await until(hasClients(signal));
    child.kill(signal);
    const { code, stderr } = await ended;
    expect(code).toBe(expected);
    expect(stderr).toContain(`stopped by ${signal}: nothing is left of it`);
    expect(stderr).not.toContain("goes on");
    nothingLeft(signal);
  });

  test("a second Ctrl-C has no patience, and leaves nothing either", async () => {
    const child = start("twice");
    const ended = ending(child);
    await until(hasClients("twice"));
    child.kill("SIGINT");
    child.kill("SIGINT");
    expect((await ended).code).toBe(130);
    await until(() => marked("twice").size === 0);
    nothingLeft("twice");
  });

  test("a process that dies ends the demo with its name, exit 1", async () => {
    const child = start("lost", "--quiet", "--json");
    const ended = ending(child);
    await until(hasClients("lost"));
    const [authority] = [...marked("lost")].find(([, line]) => line.includes("api-keys serve")) ?? [];
    process.kill(authority as number, "SIGKILL");
    const { code, stdout } = await ended;
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ outcome: "failed", error: { code: "demo-process-lost" } });
    expect(JSON.parse(stdout).error.message).toContain("the authority ended unasked (SIGKILL)");
    nothingLeft("lost");
  });
});
