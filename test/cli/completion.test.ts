import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { VERBS } from "../../src/commands/table.ts";
import { needs } from "../support/require.ts";
import { BIN, build } from "./harness.ts";
import { ENTER, openPty, type Pty } from "./pty.ts";

const TAB = "\t";
/** References that nothing sets, and a store that nobody may open: names are all that is read. */
const secrets = (...names: string[]) =>
  `secrets:\n${names.map((name) => `  ${name}: { issuer: { type: api-keys, url: "\${env:UNSET}" } }`).join("\n")}\n`;

let folder: string;
beforeAll(() => {
  build();
  folder = mkdtempSync(join(tmpdir(), "keyturn-shells-"));
  mkdirSync(join(folder, "bin"));
  writeFileSync(
    join(folder, "rotation.config.yaml"),
    `version: 1\ninclude: [more/*.yaml]\n${secrets("payments", "search", "$(touch hacked)", "reports.eu-1")}`,
  );
  mkdirSync(join(folder, "more"));
  writeFileSync(join(folder, "more", "one.yaml"), secrets("included"));
  writeFileSync(join(folder, "team.yaml"), `version: 1\n${secrets("elsewhere")}`);
  // Says what it was called with, so that a completed line shows whole.
  const wrapper = `#!/bin/sh\n[ "$2" = names ] && exec "${process.execPath}" "${BIN}" "$@"\necho "GOT<$*>"\n`;
  writeFileSync(join(folder, "bin", "keyturn"), wrapper, { mode: 0o755 });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const env = () => ({
  PATH: `${join(folder, "bin")}:${process.env["PATH"] ?? ""}`,
  HOME: folder,
  TERM: "xterm",
  LANG: "C.UTF-8",
  PS1: "ready> ",
});
const keyturn = (...args: string[]) => spawnSync(process.execPath, [BIN, ...args], { cwd: folder, env: env() });

/** What is typed before the tab, and what the command gets of it. */
const LINES: readonly (readonly [typed: string, whole: string])[] = [
  ["emerg", "emergency"],
  ["help rotat", "help rotate"],
  ["api-keys cli", "api-keys client"],
  ["api-keys key disa", "api-keys key disable"],
  ["rotate --wait-", "rotate --wait-max"],
  ["status --detailed", "status --detailed-exitcode"],
  ["completion fi", "completion fish"],
  ["rotate pay", "rotate payments"],
  ["--quiet rotate --wait-max 5m sea", "--quiet rotate --wait-max 5m search"],
  ["history reports.", "history reports.eu-1"],
  ["rotate incl", "rotate included"],
  ["-c tea", "-c team.yaml"],
  ["-c team.yaml show else", "-c team.yaml show elsewhere"],
  ["show --config=team.yaml else", "show --config=team.yaml elsewhere"],
  ["-c ~/team.yaml show else", "-c ~/team.yaml show elsewhere"],
  ["emergency --override-hold pay", "emergency --override-hold payments"],
  ["hold --reason pay", "hold --reason pay"],
  ["validate pay", "validate pay"],
];

const isThere = (shell: string) => needs(shell, spawnSync(shell, ["-c", "exit 0"]).status === 0);

describe.each([
  ["bash", ["--norc", "--noprofile", "-i"], "source ./script"],
  ["zsh", ["-f", "-i"], "autoload -U compinit; compinit -u -D; source ./script"],
])("%s, at a terminal", (shell, args, begin) => {
  const runs = isThere(shell);
  let pty: Pty;
  beforeAll(async () => {
    if (!runs) return;
    writeFileSync(join(folder, "script"), keyturn("completion", shell).stdout);
    pty = openPty(args, { cwd: folder, env: env(), cols: 120, program: [shell] });
    pty.type(`${begin}; keyturn be""gin${ENTER}`);
    await pty.until(/GOT<begin>/);
  });
  afterAll(async () => {
    pty?.type(`exit${ENTER}`);
    await pty?.code;
  });

  test.runIf(runs).each(LINES)("%s becomes %s", async (typed, whole) => {
    await pty.answer(/GOT<.*>/, `keyturn ${typed}${TAB}${ENTER}`);
    await pty.until(/GOT<.*>/);
    expect(pty.last(/GOT<.*>/)).toBe(`GOT<${whole.replace("~", folder)}>`);
  });
});

describe("fish", () => {
  test.runIf(isThere("fish")).each(LINES)("%s becomes %s", (typed, whole) => {
    writeFileSync(join(folder, "script"), keyturn("completion", "fish").stdout);
    const asked = `source ./script; complete -C ${JSON.stringify(`keyturn ${typed}`)}`;
    const { stdout } = spawnSync("fish", ["--no-config", "-c", asked], { cwd: folder, env: env() });
    const offered = String(stdout)
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split("\t")[0]);
    const [last = ""] = whole.split(" ").slice(-1);
    expect(offered).toEqual(typed === whole ? [] : [last]);
  });
});

test("names are read from the policy alone: no state, no reference, no word where there is none", () => {
  const { status, stdout, stderr } = keyturn("completion", "names");
  expect([status, String(stdout), String(stderr)]).toEqual([0, "payments\nsearch\nreports.eu-1\nincluded\n", ""]);
  expect(existsSync(join(folder, ".keyturn")) || existsSync(join(folder, "hacked"))).toBe(false);
  const none = keyturn("completion", "names", "-c", "nowhere.yaml");
  expect([none.status, String(none.stdout)]).toEqual([2, ""]);
});

test("a shell that it does not know, or none", () => {
  expect(String(keyturn("completion", "bahs").stderr)).toContain("did you mean: keyturn completion bash");
  expect(keyturn("completion").status).toBe(2);
});

test.each(["bash", "zsh", "fish"])("every verb and option stands in the script for %s", (shell) => {
  const script = String(keyturn("completion", shell).stdout);
  for (const { name, options } of VERBS) {
    for (const word of name.split(" ")) expect(script).toContain(word);
    for (const { flags } of options) expect(script).toContain(/--([\w-]+)/.exec(flags)?.[1] ?? "?");
  }
});
