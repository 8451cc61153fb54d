import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { load } from "js-yaml";

interface Step {
  readonly id?: string;
  readonly run: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly "working-directory"?: string;
}

export interface Action {
  readonly inputs: Readonly<Record<string, { readonly default?: string }>>;
  readonly outputs: Readonly<Record<string, { readonly value: string }>>;
  readonly runs: { readonly using: string; readonly steps: readonly Step[] };
}

export interface Annotation {
  readonly level: string;
  readonly title: string;
  readonly message: string;
  readonly file?: string;
  readonly line?: string;
}

/** What a job of GitHub Actions would show. */
export interface Job {
  readonly code: number;
  /** As it is stored: commands taken out, masked texts replaced. */
  readonly log: string;
  /** All that the processes printed. */
  readonly raw: string;
  readonly masks: readonly string[];
  readonly annotations: readonly Annotation[];
  readonly summary: string;
  readonly outputs: Readonly<Record<string, string>>;
}

/**
 * Runs a composite action's steps as GitHub's runner does: a script for bash, environment files, commands read from
 * both streams line by line. Ends at the first step that fails.
 */
export class TestRunner {
  readonly #folder = mkdtempSync(join(tmpdir(), "keyturn-runner-"));
  readonly #masks: string[] = [];

  constructor(
    private readonly workspace: string,
    private readonly actionPath: string,
    private readonly env: Readonly<Record<string, string>>,
  ) {}

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async uses(action: string, given: Readonly<Record<string, string>>): Promise<Job> {
    const { inputs, outputs, runs } = load(readFileSync(action, "utf8")) as Action;
    for (const name of Object.keys(given)) if (!(name in inputs)) throw new Error(`no input ${name}`);
    const known = new Map<string, string>([["github.action_path", this.actionPath]]);
    for (const [name, { default: usual = "" }] of Object.entries(inputs))
      known.set(`inputs.${name}`, given[name] ?? usual);
    let job: Job | null = null;
    for (const step of runs.steps) {
      const done = await this.run(filled(step.run, known), {
        cwd: filled(step["working-directory"] ?? ".", known),
        env: Object.fromEntries(Object.entries(step.env ?? {}).map(([name, text]) => [name, filled(text, known)])),
      });
      for (const [name, value] of Object.entries(done.outputs)) known.set(`steps.${step.id}.outputs.${name}`, value);
      job = job === null ? done : joined(job, done);
      if (done.code !== 0) break;
    }
    const told = Object.entries(outputs).map(([name, { value }]) => [name, filled(value, known)] as const);
    return { ...(job as Job), outputs: Object.fromEntries(told) };
  }

  /** One step with `shell: bash`. */
  async run(
    script: string,
    { cwd = ".", env = {} }: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<Job> {
    const place = mkdtempSync(join(this.#folder, "step-"));
    mkdirSync(place, { recursive: true });
    const files = { GITHUB_OUTPUT: "output", GITHUB_STEP_SUMMARY: "summary", GITHUB_ENV: "env" };
    const named = Object.entries(files).map(([name, file]) => [name, join(place, file)] as const);
    for (const [, file] of named) writeFileSync(file, "");
    const text = join(place, "script.sh");
    writeFileSync(text, script);
    const child = spawn("bash", ["--noprofile", "--norc", "-eo", "pipefail", text], {
      cwd: join(cwd.startsWith("/") ? "/" : this.workspace, cwd),
      env: {
        ...this.env,
        CI: "true",
        GITHUB_ACTIONS: "true",
        GITHUB_ACTION_PATH: this.actionPath,
        ...Object.fromEntries(named),
        ...env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [log, raw]: [string[], string[]] = [[], []];
    const annotations: Annotation[] = [];
    const masks: string[] = [];
    const ends = [child.stdout, child.stderr].map((stream) => {
      let held = "";
      const line = (said: string) => {
        raw.push(said);
        const [, command, words = "", data = ""] = /^::([a-z-]+)(?: ([^:]*))?::(.*)$/.exec(said) ?? [];
        if (command === "add-mask") {
          masks.push(undone(data));
          this.#masks.push(undone(data));
        } else if (command !== undefined) {
          const { title = "", ...place } = propertiesIn(words);
          annotations.push({ level: command, title, message: undone(data), ...place });
        } else log.push(this.#masks.reduce((text, mask) => text.replaceAll(mask, "***"), said));
      };
      stream.setEncoding("utf8").on("data", (text: string) => {
        const lines = (held + text).split("\n");
        held = lines.pop() ?? "";
        lines.forEach(line);
      });
      return new Promise<void>((resolve) => stream.once("end", () => (held === "" ? null : line(held), resolve())));
    });
    const code = await new Promise<number>((resolve) => child.once("close", (status) => resolve(status ?? -1)));
    await Promise.all(ends);
    return {
      code,
      log: log.join("\n"),
      raw: raw.join("\n"),
      masks,
      annotations,
      summary: readFileSync(join(place, "summary"), "utf8"),
      outputs: outputsOf(readFileSync(join(place, "output"), "utf8")),
    };
  }
}

function joined(one: Job, two: Job): Job {
  return {
    code: two.code,
    log: `${one.log}\n${two.log}`,
    raw: `${one.raw}\n${two.raw}`,
    masks: [...one.masks, ...two.masks],
    annotations: [...one.annotations, ...two.annotations],
    summary: one.summary + two.summary,
    outputs: { ...one.outputs, ...two.outputs },
  };
}

/** `${{ inputs.name }}`; what nobody set is empty. */
function filled(text: string, known: ReadonlyMap<string, string>): string {
  return text.replaceAll(/\$\{\{\s*([\w.-]+)\s*\}\}/g, (_, name: string) => known.get(name) ?? "");
}

/** `name=value,name=value`, as a command has them before its data. */
function propertiesIn(words: string): Record<string, string> {
  const pairs = words.split(",").map((pair) => /^(\w+)=(.*)$/.exec(pair) ?? []);
  return Object.fromEntries(pairs.map(([, name = "", value = ""]) => [name, undone(value)]));
}

function undone(text: string): string {
  const signs = { "%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%" };
  return text.replaceAll(/%(?:0D|0A|3A|2C|25)/g, (found) => signs[found as keyof typeof signs]);
}

/** `name<<MARK`, lines, `MARK`; anything else is refused, as the runner does. */
function outputsOf(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  const lines = text.split("\n");
  while (lines.length > 1) {
    const [, name, mark] = /^([\w-]+)<<(.+)$/.exec(lines.shift() as string) ?? [];
    const end = lines.indexOf(mark ?? "");
    if (name === undefined || end < 0) throw new Error("Invalid format of the output file");
    found[name] = lines
      .splice(0, end + 1)
      .slice(0, -1)
      .join("\n");
  }
  return found;
}
