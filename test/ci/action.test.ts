import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { bench, policyOf, type Bench, type Json } from "../cli/harness.ts";
import { CommandLine } from "../support/command-line.ts";
import { TestRunner } from "./runner.ts";

const ACTION = fileURLToPath(new URL("../../action.yml", import.meta.url));

let cli: CommandLine;
let b: Bench;
let runner: TestRunner;
beforeAll(() => {
  cli = new CommandLine();
});
beforeEach(async () => {
  b = await bench();
  b.policy(policyOf(b.authority.url));
  runner = new TestRunner(b.folder, dirname(dirname(cli.bin)), b.env);
});
afterEach(async () => {
  runner.remove();
  await b.close();
});
afterAll(() => cli.remove());

const keyturn = (env: Record<string, string>, ...args: string[]) =>
  cli.run({ folder: b.folder, env: { ...b.env, ...env } }, ...args);

describe("the GitHub Action", () => {
  test("rotates, tells when to come again, and lets no later step print a value", async () => {
    await keyturn({}, "rotate", "--all");
    const first = b.served();
    const job = await runner.uses(ACTION, { command: "rotate", args: "one" });
    expect(job.code).toBe(0);
    const second = b.served();
    expect(second).not.toBe(first);
    // Both were in this process: the old one was read, the new one issued.
    expect(job.masks).toEqual(expect.arrayContaining([first, second]));
    expect(job.log).not.toContain(first);
    expect(job.log).not.toContain(second);

    const run = await runner.uses(ACTION, {});
    expect(run.code).toBe(0);
    const document: Json = JSON.parse(run.outputs["json"] ?? "");
    expect(document).toMatchObject({ keyturn: 1, command: "run", outcome: "waiting", error: null });
    expect(run.outputs["outcome"]).toBe("waiting");
    expect(run.outputs["next-due"]).toBe(document.run.nextDue);
    expect(document.run).toEqual({ nextDue: document.secrets[0].until, secret: "one" });
    expect(run.log).toMatch(/next: one in (1 h|\d+ min) \(20/);
    for (const part of [run.log, run.summary, run.outputs["json"] ?? "", JSON.stringify(run.annotations)])
      expect(part).not.toContain(second);
    expect(run.summary).toMatch(/^### keyturn run: waiting\n/);
    expect(run.summary).toMatch(/^\| one \| overlap \| waiting \|/m);
    expect(run.summary).toMatch(/^\| two \| idle \| done \|/m);
    expect(run.annotations).toEqual([]);

    const later = await runner.run("cat one.env");
    expect(later.raw).toContain(second);
    expect(later.log).toBe("API_KEY=***");
  });

  test("a key's id is no secret: it stays readable", async () => {
    const job = await runner.uses(ACTION, { command: "rotate", args: "one" });
    const [id] = (await b.authority.list("one")).map((key) => key.id);
    expect(job.outputs["json"]).toContain(id);
    expect(job.masks).not.toContain(id);
  });

  test("what failed or is blocked becomes an annotation and the step's exit code", async () => {
    await keyturn({}, "rotate", "--all");
    writeFileSync(join(b.folder, "one.env"), "API_KEY=somebody-elses-value\n");
    const job = await runner.uses(ACTION, { command: "rotate", args: "one" });
    expect(job.code).toBe(3);
    expect(job.outputs["outcome"]).toBe("blocked");
    expect(job.annotations).toMatchObject([{ level: "error", title: "keyturn: one blocked" }]);
    expect(job.annotations[0]?.message).toContain("\nhint: keyturn ");
    expect(job.summary).toMatch(/^\| one \| .*<br>hint\\: keyturn .*\|  \|$/m);
    // A stranger's value that was read is masked as well.
    expect(job.masks).toContain("somebody-elses-value");
  });

  test("a policy that does not hold is told in all three places", async () => {
    b.policy("version: 1\nsecrets: { one: { isuer: {} } }\n");
    const job = await runner.uses(ACTION, {});
    expect(job.code).toBe(2);
    expect(job.outputs["outcome"]).toBe("failed");
    expect(JSON.parse(job.outputs["json"] ?? "").error.code).toMatch(/\w/);
    const place = {
      level: "error",
      title: "keyturn run",
      file: expect.stringMatching(/rotation\.config\.yaml$/),
      line: "2",
    };
    expect(job.annotations.length).toBeGreaterThan(0);
    for (const one of job.annotations) expect(one).toMatchObject(place);
    expect(job.summary).toContain("### keyturn run: failed");
  });

  test("inputs are words, never code", async () => {
    const job = await runner.uses(ACTION, {
      command: "status",
      args: "$(touch pwned)\n`touch pwned`\n; touch pwned",
      config: '"; touch pwned; "',
    });
    expect(job.code).toBe(2);
    expect(() => readFileSync(join(b.folder, "pwned"))).toThrow("ENOENT");
  });

  test("an empty line is no argument, and a folder and a config are found", async () => {
    const job = await runner.uses(ACTION, {
      command: "check",
      args: "\n--fail-on\ndebt\n\n",
      config: "rotation.config.yaml",
      "working-directory": b.folder,
    });
    expect(job.code).toBe(0);
    expect(job.annotations.map(({ level, title }) => [level, title])).toEqual([
      ["warning", "keyturn: one unmanaged"],
      ["warning", "keyturn: two unmanaged"],
    ]);
    expect(job.outputs["outcome"]).toBe("done");
  });

  test.each([{}, { NODE_ENV: "production" }, { NPM_CONFIG_OMIT: "dev" }])(
    "a copy that comes without a build builds itself, whatever the job's environment leaves out: %j",
    async (env) => {
      const copy = join(b.folder, "copy");
      const files = {
        "package.json": JSON.stringify({
          name: "copy",
          version: "1.0.0",
          type: "module",
          scripts: { prepare: "node build.mjs" },
          devDependencies: { tool: "file:tool" },
        }),
        "tool/package.json": JSON.stringify({ name: "tool", version: "1.0.0", type: "module", exports: "./index.js" }),
        "tool/index.js": 'export const text = "console.log(`built: ${process.argv.slice(2)}`);";',
        "build.mjs": `import { text } from "tool";
          import { mkdirSync, writeFileSync } from "node:fs";
          mkdirSync("dist");
          writeFileSync("dist/cli.js", text);`,
        "bin/keyturn.js": 'await import("../dist/cli.js");',
      };
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(dirname(join(copy, name)), { recursive: true });
        writeFileSync(join(copy, name), text);
      }
      const quiet = { NPM_CONFIG_OFFLINE: "true", NPM_CONFIG_UPDATE_NOTIFIER: "false" };
      const plain = { cwd: copy, env: { ...b.env, ...quiet }, stdio: "ignore" } as const;
      execFileSync("npm", ["install", "--package-lock-only", "--ignore-scripts"], plain);
      const fresh = new TestRunner(b.folder, copy, { ...b.env, ...quiet, ...(env as Record<string, string>) });
      onTestFinished(() => fresh.remove());
      const job = await fresh.uses(ACTION, { command: "check", args: "one" });
      expect([job.code, job.raw]).toEqual([0, expect.stringContaining("built: check,one")]);
    },
  );
});

describe("masks", () => {
  test("stand on stderr before anything else of a rotation, and leave the document alone", async () => {
    const { stdout, stderr } = await keyturn({ GITHUB_ACTIONS: "true" }, "rotate", "one", "--json");
    const value = b.served();
    expect(JSON.parse(stdout)).toMatchObject({ command: "rotate", error: null });
    expect(stdout).not.toContain(value);
    expect(stderr.split("\n").filter((line) => line.includes(value))).toEqual([`::add-mask::${value}`]);
    expect(stderr.indexOf("::add-mask::")).toBeLessThan(stderr.indexOf("stage"));
  });

  test("with the signs of two systems there are none, and one warning says so", async () => {
    const output = join(b.folder, "output");
    const env = { GITHUB_ACTIONS: "true", GITLAB_CI: "true", GITHUB_OUTPUT: output };
    const { code, stdout, stderr } = await keyturn(env, "rotate", "one");
    expect(code).toBe(0);
    expect(stdout + stderr).not.toContain(b.served());
    expect(stderr.match(/^warning: GITHUB_ACTIONS and GITLAB_CI are set at once: nothing is masked/gm)).toHaveLength(1);
    expect(existsSync(output)).toBe(false);
  });

  test("Azure has its own words", async () => {
    const { stderr } = await keyturn({ TF_BUILD: "True" }, "rotate", "one", "--quiet");
    expect(stderr.split("\n").filter((line) => line.includes(b.served()))).toEqual([
      `##vso[task.setsecret]${b.served()}`,
    ]);
  });

  test.each([{}, { CI: "true" }, { GITLAB_CI: "true" }, { GITHUB_ACTIONS: "false" }, { JENKINS_URL: "http://x" }])(
    "where no runner takes them out there are none: %j",
    async (env) => {
      const { stdout, stderr } = await keyturn(env as Record<string, string>, "rotate", "one", "--verbose");
      expect(b.served()).not.toBe("");
      expect(stdout + stderr).not.toContain(b.served());
    },
  );

  test("nor where stderr is a file, which no runner reads", async () => {
    const job = await runner.run(`"${process.execPath}" "${cli.bin}" rotate one 2> kept.log`);
    expect(job.code).toBe(0);
    expect(job.raw).not.toContain(b.served());
    expect(readFileSync(join(b.folder, "kept.log"), "utf8")).not.toContain(b.served());
  });
});

describe("the value that api-keys key add prints", () => {
  const authority = () => ({
    KEYTURN_API_KEYS_URL: b.authority.url,
    KEYTURN_API_KEYS_ADMIN_TOKEN: b.authority.adminToken,
  });
  const add = ["api-keys", "key", "add", "--client", "one"];
  const valueOf = (text: string) => /\bkt_\w+/.exec(text)?.[0] ?? expect.unreachable("no value");

  test("is masked in the job that prints it", async () => {
    const job = await runner.run(`"${process.execPath}" "${cli.bin}" ${add.join(" ")}`, { env: authority() });
    expect(job.code).toBe(0);
    const value = valueOf(job.raw);
    expect(job.masks).toEqual([value]);
    expect(job.log).toMatch(/its value, shown this once:\n\*\*\*$/);
    expect(job.log + JSON.stringify(job.outputs) + job.summary).not.toContain(value);
  });

  test("is masked where another step prints what this one kept, and what was kept is the value", async () => {
    const script = `"${process.execPath}" "${cli.bin}" ${add.join(" ")} --quiet | tail -n 1 > kept`;
    expect((await runner.run(script, { env: authority() })).log).toBe("");
    const value = readFileSync(join(b.folder, "kept"), "utf8").trim();
    expect((await b.authority.whoami(value)).status).toBe(200);
    const later = await runner.run("cat kept");
    expect([later.raw, later.log]).toEqual([value, "***"]);
  });

  test.each([
    [{ GITHUB_ACTIONS: "true" }, "::add-mask::"],
    [{ TF_BUILD: "True" }, "##vso[task.setsecret]"],
  ])("stands on stderr once, as a mask: %j", async (env, command) => {
    const { stdout, stderr } = await keyturn({ ...env, ...authority() } as Record<string, string>, ...add, "--json");
    const { value } = JSON.parse(stdout).key;
    expect(stderr).toBe(`${command}${value}\n`);
  });

  test("on GitLab, which masks nothing, a warning stands there instead", async () => {
    const { stdout, stderr } = await keyturn({ GITLAB_CI: "true", ...authority() }, ...add);
    expect(stderr).toBe("warning: GitLab CI is not told to mask this value: let nothing print it\n");
    expect(stdout).toMatch(/\bkt_\w+$/m);
  });

  test("nor is it told to a file", async () => {
    const script = `"${process.execPath}" "${cli.bin}" ${add.join(" ")} 2> kept.log`;
    const job = await runner.run(script, { env: authority() });
    const kept = readFileSync(join(b.folder, "kept.log"), "utf8");
    expect(kept).toBe("warning: GitHub Actions is not told to mask this value: let nothing print it\n");
    expect(job.masks).toEqual([]);
  });

  test("off CI nothing is said beside it", async () => {
    expect((await keyturn(authority(), ...add)).stderr).toBe("");
  });
});

test.each([{ GITHUB_ACTIONS: "true" }, { TF_BUILD: "True" }])(
  "a caller's name is no command to the runner: %j",
  async (env) => {
    b.policy(policyOf(b.authority.url, { minimum: "0s" }));
    await keyturn({}, "rotate", "one");
    const old = b.served();
    const names = ["##vso[task.setvariable variable=PATH]evil", "##[stop-commands]x"];
    for (const name of names) await b.authority.whoami(old, name);
    await keyturn({}, "rotate", "one");
    for (const name of names) await b.authority.whoami(old, name);
    for (const form of [["run"], ["run", "--json"], ["show", "one"]]) {
      const { stdout, stderr } = await keyturn(env as Record<string, string>, ...form);
      expect(stdout).toContain("task.setvariable variable=PATH]evil");
      const commands = `${stdout}\n${stderr}`.split("\n").filter((line) => /##(vso)?\[/.test(line));
      expect(commands.filter((line) => !line.startsWith("##vso[task.setsecret]"))).toEqual([]);
    }
  },
);

test("a summary that cannot be written warns, and nothing fails of it", async () => {
  const env = { GITHUB_ACTIONS: "true", GITHUB_STEP_SUMMARY: join(b.folder, "no/such/folder") };
  const { code, stderr } = await keyturn(env, "rotate", "one");
  expect(code).toBe(0);
  expect(stderr).toContain("warning: GitHub Actions: a file could not be written (ENOENT)");
});

test("--wait-max stays for what comes in that time, and not for what comes later", async () => {
  b.policy(policyOf(b.authority.url, { minimum: "1h" }));
  await keyturn({}, "rotate", "--all");
  await keyturn({}, "rotate", "one");
  // An hour would be more than this test has.
  const later = await keyturn({}, "run", "--wait-max", "59m", "--json");
  expect(later.code).toBe(0);
  expect(JSON.parse(later.stdout)).toMatchObject({ outcome: "waiting", run: { secret: "one" } });
  b.policy(policyOf(b.authority.url, { minimum: "1s" }));
  const soon = await keyturn({}, "run", "--wait-max", "59m", "--json");
  expect(JSON.parse(soon.stdout)).toMatchObject({ outcome: "done", secrets: [{ phase: "idle" }, { phase: "idle" }] });
});
