import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BIN, build } from "../cli/harness.ts";
import { page } from "./generated.ts";

const PORT = "8787";
/** For one block of the tutorial, on a busy machine. */
const PATIENCE = 120_000;

interface Block {
  readonly kind: string;
  readonly text: string;
}

/** The fenced blocks of the README's tutorial, in order. */
function blocks(): Block[] {
  const tutorial = /^## Tutorial\n([\s\S]*?)^## /m.exec(page("README.md"))?.[1] ?? "";
  return [...tutorial.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, kind = "", text = ""]) => ({ kind, text }));
}

/** What differs from run to run: ids, times, widths. */
function plain(line: string): string {
  return line
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replace(/\b(key_|v\d+-|r-)[0-9a-f]{6,}/g, "$1ID")
    .replace(/kt_[\w-]+/g, "kt_VALUE")
    .replace(/^.*\/(?=rotation\.config)/, "")
    .replace(/\b\d+ (d|h|min|s|ms)\b( \d+ (h|min|s)\b)?/g, "DURATION")
    .replace(/\bof now\b/, "of DURATION ago")
    .replace(/\s+/g, " ")
    .trim();
}

let folder: string;
let shell: ChildProcessWithoutNullStreams;
let printed = "";
beforeAll(build);
afterAll(() => {
  // The group: the authority that the tutorial starts in the background is in it.
  if (shell?.pid !== undefined && shell.exitCode === null) process.kill(-shell.pid, "SIGKILL");
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** One shell for the whole tutorial, as a reader has it; `keyturn` on its PATH. */
function startShell(): void {
  folder = mkdtempSync(join(tmpdir(), "keyturn-tutorial-"));
  const bin = join(folder, ".bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "keyturn"), `#!/bin/sh\nexec "${process.execPath}" "${BIN}" "$@"\n`);
  chmodSync(join(bin, "keyturn"), 0o755);
  const env = { PATH: [bin, process.env["PATH"]].join(delimiter), HOME: folder };
  shell = spawn("sh", ["-s"], { cwd: folder, env, detached: true });
  for (const stream of [shell.stdout, shell.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (printed += text));
  shell.stdin.write("exec 2>&1\n");
}

async function until(isSo: () => boolean): Promise<boolean> {
  const end = Date.now() + PATIENCE;
  while (!isSo() && Date.now() < end) await sleep(20);
  return isSo();
}

/** What a block printed, once it has ended and everything that the page shows is there. */
async function run(script: string, shown: readonly string[]): Promise<readonly string[]> {
  const [start, mark] = [printed.length, `end-of-block-${printed.length}`];
  shell.stdin.write(`${script}\necho ${mark}\n`);
  const lines = () => printed.slice(start).split("\n").map(plain);
  const isComplete = () => lines().includes(mark) && missing(shown, lines()) === null;
  await until(() => isComplete() || shell.exitCode !== null);
  return lines();
}

/** The first line of the page that the output does not have, in the page's order; null: all are there. */
function missing(shown: readonly string[], lines: readonly string[]): string | null {
  let from = 0;
  for (const line of shown) {
    const at = lines.indexOf(line, from);
    if (at < 0) return line;
    from = at + 1;
  }
  return null;
}

async function freePort(): Promise<string> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return String(port);
}

/** Word for word but for the port, which may be taken here. */
test("the README's tutorial does what the README says", { timeout: 300_000 }, async () => {
  startShell();
  const port = await freePort();
  const put = (text: string) =>
    text.replaceAll(PORT, port).replaceAll("authority.db &", `authority.db --listen 127.0.0.1:${port} &`);
  const all = blocks();
  expect(all.filter(({ kind }) => kind === "sh").length).toBeGreaterThan(8);
  for (const [index, { kind, text }] of all.entries()) {
    if (kind === "yaml") writeFileSync(join(folder, "rotation.config.yaml"), text);
    if (kind === "js") writeFileSync(join(folder, "checkout.mjs"), text);
    if (kind !== "sh") continue;
    const next = all[index + 1];
    const shown = next?.kind === "text" ? put(next.text).trim().split("\n").map(plain) : [];
    const lines = await run(put(text), shown);
    expect(missing(shown, lines), `after:\n${text}\ncame:\n${lines.join("\n")}`).toBeNull();
  }
  expect(readFileSync(join(folder, "app.env"), "utf8")).toMatch(/^PAYMENTS_API_KEY=kt_\S+\n$/);
  expect(printed.match(/^200 /gm)).toHaveLength(4);
  expect(printed).not.toMatch(/^401 /m);
});
