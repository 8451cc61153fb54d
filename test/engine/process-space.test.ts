import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { beforeAll, expect, test } from "vitest";
import { isDeadHere, processSpace, runnerId, siblingId } from "../../src/engine/process-space.ts";
import { needs } from "../support/require.ts";

let gone: number;
beforeAll(() => {
  gone = spawnSync("true").pid;
});

test("only who would see a process takes it for dead", () => {
  const mine = runnerId("f00d", "here");
  expect(isDeadHere(mine, gone, "here")).toBe(true);
  expect(isDeadHere(mine, process.pid, "here")).toBe(false);
  expect(isDeadHere(mine, gone, "elsewhere")).toBe(false);
  expect(isDeadHere(mine, gone, null)).toBe(false);
  expect(isDeadHere(runnerId("f00d", null), gone, "here")).toBe(false);
});

test("another pid namespace is another space, whatever the host is called", async () => {
  const own = ["unshare", "--pid", "--fork", "--mount-proc"] as const;
  const [program, ...args] = own;
  if (!needs("right to make a pid namespace", spawnSync(program, [...args, "true"]).status === 0)) return;
  const entry = fileURLToPath(new URL("../../src/engine/process-space.ts", import.meta.url));
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
  });
  const script = `${outputFiles[0]?.text}\nconsole.log(processSpace());`;
  const seen = (...prefix: readonly string[]) => {
    const [first = "", ...rest] = [...prefix, process.execPath, "--input-type=module", "-e", script];
    return spawnSync(first, rest, { encoding: "utf8" }).stdout.trim();
  };
  expect(seen()).toBe(processSpace());
  expect(seen(...own)).toMatch(/ pid:\[\d+\]$/);
  expect(seen(...own)).not.toBe(processSpace());
});

test("one more runner of a process is seen from where the first one is", () => {
  expect(siblingId("ff", "aa@space")).toBe("ff@space");
  expect(siblingId("ff", "aa")).toBe("ff");
});
