import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { BIN, build, ending } from "../cli/harness.ts";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { examplesOf, policyOf } from "./parts.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

let folder: string;
let authority: TestAuthority;
beforeAll(build);
beforeEach(async () => {
  authority = await startTestAuthority();
  folder = mkdtempSync(join(tmpdir(), "keyturn-example-"));
  cpSync(join(ROOT, "examples"), folder, { recursive: true });
  // Found by its name, as by somebody who has installed it.
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(ROOT, join(folder, "node_modules/keyturn"));
});
afterEach(async () => {
  await authority.close();
  rmSync(folder, { recursive: true, force: true });
});

function start(...args: string[]) {
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: folder,
    KEYTURN_API_KEYS_ADMIN_TOKEN: authority.adminToken,
    AUTHORITY_URL: authority.url,
  };
  return spawn(process.execPath, args, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
}

const node = (...args: string[]) => ending(start(...args));

const policies = readdirSync(join(ROOT, "examples")).filter((name) => /\.ya?ml$/.test(name));

test.each(policies)("%s is a valid policy", async (name) => {
  expect(await node(BIN, "validate", "--config", name)).toMatchObject({ code: 0, stderr: "" });
});

test("the consumer follows a rotation without a refused request", async () => {
  await authority.addClient("shop");
  const policy = join(folder, "rotation.config.yaml");
  writeFileSync(policy, readFileSync(policy, "utf8").replace("http://127.0.0.1:8787", authority.url));
  expect((await node(BIN, "rotate", "shop")).code).toBe(0);
  const consumer = start("consumer.mjs");
  const ended = ending(consumer);
  await once(consumer.stdout, "data");
  // The policy requires that the consumer was seen on the new key, so this ends only after it changed over.
  expect((await node(BIN, "--json", "rotate", "shop", "--wait", "--wait-max", "60s")).stdout).toContain(
    '"outcome": "done"',
  );
  consumer.kill();
  const { stdout, stderr } = await ended;
  expect(stderr).toBe("");
  const lines = stdout.trim().split("\n");
  expect(lines.every((line) => /^200 key_\w+$/.test(line))).toBe(true);
  expect(new Set(lines).size).toBe(2);
  expect((await authority.list("shop")).map(({ id }) => `200 ${id}`)).toEqual([lines.at(-1)]);
});

const parts = readdirSync(join(ROOT, "docs/providers")).flatMap((name) =>
  examplesOf(`docs/providers/${name}`).map((example, index) => ({ name, nth: index + 1, example })),
);

test.each(parts)("example $nth of docs/providers/$name is a part of a valid policy", async ({ example }) => {
  expect((await policyOf(example)).warnings).toEqual([]);
});
