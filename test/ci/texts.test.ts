import { describe, expect, test } from "vitest";
import { publish } from "../../src/ci/publish.ts";
import { runnerOf, type Runner } from "../../src/ci/runner.ts";
import { markdownOf, notesOf, type Told } from "../../src/ci/told.ts";

const HOSTILE = "100%\r\n::add-mask::x\n##vso[task.complete]|`<img src=x>`, done: \u001b[31m[a](b)";

const secret = (name: string, outcome: string, message = "why") => ({
  name,
  phase: "idle",
  outcome,
  message,
  until: null,
  nextDue: "2026-03-01T00:00:00Z",
  rotation: null,
  hints: [] as readonly string[],
});

const told = (parts: Partial<Told> = {}): Told => ({
  command: "run",
  outcome: "failed",
  secrets: [secret("pay", "failed", HOSTILE), secret("mail", "done")],
  findings: [],
  nextDue: "2026-03-01T00:00:00Z",
  failure: null,
  folder: "/repo/ops",
  document: '{"keyturn":1}',
  summary: true,
  ...parts,
});

const runner = async (sign: string) => {
  const found = await runnerOf({ [sign]: "true" });
  if (found === null) throw new Error(`no runner for ${sign}`);
  return found;
};

const policyInvalid = {
  code: "policy-invalid",
  message: "rotation.config.yaml:20:3: issuer is missing\n/else/where.yaml:4:1: stores is missing",
  hint: "first\nsecond",
  at: "rotation.config.yaml:20:3",
};

/** What GitHub's runner makes of a command's data. */
const undo = (text: string) => text.replaceAll("%0D", "\r").replaceAll("%0A", "\n").replaceAll("%25", "%");

describe("GitHub Actions", () => {
  test("is told by its variable, and by nothing else", async () => {
    expect(await runnerOf({})).toBe(null);
    expect(await runnerOf({ GITHUB_ACTIONS: "", CI: "true" })).toBe(null);
    expect(await runnerOf({ GITHUB_ACTIONS: "false" })).toBe(null);
    expect((await runnerOf({ GITHUB_ACTIONS: "true" }))?.name).toBe("GitHub Actions");
    expect((await runnerOf({ TF_BUILD: "True" }))?.name).toBe("Azure Pipelines");
  });

  test("an annotation is one line, whatever the message says", async () => {
    const { lines } = (await runner("GITHUB_ACTIONS")).publish(told(), {}, "u");
    expect(lines).toHaveLength(1);
    const [, head, data] = /^::error title=([^:,\n\r]*)::([^\n\r]*)$/.exec(lines[0] as string) ?? [];
    expect([head, undo(data as string)]).toEqual(["keyturn%3A pay failed", HOSTILE]);
  });

  test("an error of the policy is shown where it stands", async () => {
    const failing = told({ secrets: [], failure: policyInvalid });
    const { lines } = (await runner("GITHUB_ACTIONS")).publish(failing, { GITHUB_WORKSPACE: "/repo" }, "u");
    expect(lines).toEqual([
      "::error title=keyturn run,file=ops/rotation.config.yaml,line=20,col=3::issuer is missing",
      "::error title=keyturn run,file=/else/where.yaml,line=4,col=1::stores is missing",
    ]);
  });

  test("a mask survives what the runner does to it", async () => {
    const mask = (await runner("GITHUB_ACTIONS")).mask?.("a%0Ab:c%25") as string;
    expect(mask.startsWith("::add-mask::")).toBe(true);
    expect(undo(mask.slice("::add-mask::".length))).toBe("a%0Ab:c%25");
  });

  test("outputs and summary are appended to the files that the environment names", async () => {
    const env = { GITHUB_STEP_SUMMARY: "/s", GITHUB_OUTPUT: "/o" };
    const { files } = (await runner("GITHUB_ACTIONS")).publish(told({ document: '{"a":"x\\ny"}' }), env, "u");
    expect(files.map(({ path, append }) => [path, append])).toEqual([
      ["/s", true],
      ["/o", true],
    ]);
    expect(files[1]?.text).toBe(
      "outcome<<keyturn-u\nfailed\nkeyturn-u\nnext-due<<keyturn-u\n2026-03-01T00:00:00Z\nkeyturn-u\n" +
        'json<<keyturn-u\n{"a":"x\\ny"}\nkeyturn-u\n',
    );
  });

  test("a document that no output can hold is left out", async () => {
    const { files } = (await runner("GITHUB_ACTIONS")).publish(
      told({ document: "x".repeat(2_000_000) }),
      { GITHUB_OUTPUT: "/o" },
      "u",
    );
    expect(files[0]?.text).toContain("json<<keyturn-u\n\nkeyturn-u\n");
  });
});

describe("Azure Pipelines", () => {
  test("an issue is one line, and the summary a file that is uploaded", async () => {
    const azure = await runner("TF_BUILD");
    const { files, lines } = azure.publish(told(), { AGENT_TEMPDIRECTORY: "/agent/temp" }, "u");
    expect(files).toMatchObject([{ path: "/agent/temp/keyturn-u.md", append: false }]);
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^##vso\[task\.logissue type=error\]keyturn: pay failed: 100%AZP25%0D%0A::[^\n\r]*$/);
    expect(lines[1]).toBe("##vso[task.uploadsummary]/agent/temp/keyturn-u.md");
    expect(azure.mask?.("50%")).toBe("##vso[task.setsecret]50%AZP25");
  });

  test("an error of the policy is shown where it stands", async () => {
    const failure = { ...policyInvalid, message: "a];b.yaml:20:3: issuer is missing" };
    const { lines } = (await runner("TF_BUILD")).publish(told({ secrets: [], failure }), {}, "u");
    expect(lines).toEqual([
      "##vso[task.logissue type=error;sourcepath=/repo/ops/a%5D%3Bb.yaml;linenumber=20;columnnumber=3]" +
        "keyturn run: issuer is missing%0Ahint: first%0Ahint: second",
    ]);
  });
});

test("with the signs of two systems no value is masked and nothing is told, but for one warning", async () => {
  const env = { GITHUB_ACTIONS: "true", GITLAB_CI: "true", GITHUB_OUTPUT: "/o", GITHUB_STEP_SUMMARY: "/s" };
  const both = await runnerOf(env);
  expect([both?.name, both?.mask]).toEqual(["GitHub Actions and GitLab CI", undefined]);
  const [lines, warnings]: [string[], string[]] = [[], []];
  publish(
    both as Runner,
    told(),
    env,
    (line) => lines.push(line),
    (line) => warnings.push(line),
  );
  expect([lines, warnings]).toEqual([
    [],
    [
      "GITHUB_ACTIONS and GITLAB_CI are set at once: nothing is masked, and neither GitHub Actions nor GitLab CI is " +
        "told anything; unset what is not so",
    ],
  ]);
});

test("GitLab CI has no words for any of it", async () => {
  const gitlab = await runner("GITLAB_CI");
  expect(gitlab.mask).toBe(undefined);
  expect(gitlab.publish(told(), {}, "u")).toEqual({ files: [], lines: [] });
});

describe("notes", () => {
  test("failed and blocked are told, waiting and locked are not; what does not fail the check only warns", () => {
    const secrets = ["failed", "blocked", "waiting", "locked", "done"].map((outcome) => secret(outcome, outcome));
    const finding = { secret: "a", message: "m", since: null };
    const findings = [
      { ...finding, reason: "overdue", fails: true },
      { ...finding, reason: "drift", fails: false },
    ];
    expect(notesOf(told({ secrets, findings })).map(({ level, title }) => [level, title])).toEqual([
      ["error", "keyturn: failed failed"],
      ["error", "keyturn: blocked blocked"],
      ["error", "keyturn: a overdue"],
      ["warning", "keyturn: a drift"],
    ]);
  });

  test("say what helps, where it is known what for", () => {
    const blocked = { ...secret("pay", "blocked"), hints: ["keyturn adopt pay"] };
    const finding = { secret: "mail", message: "m", since: null, fails: true };
    const findings = [
      { ...finding, reason: "drift" },
      { ...finding, reason: "unmanaged" },
      { ...finding, reason: "expiring" },
    ];
    const one = { code: "unauthenticated", message: "refused", hint: "set PGPASSWORD", at: null };
    expect(notesOf(told({ secrets: [blocked], findings, failure: one })).map(({ message }) => message)).toEqual([
      "why\nhint: keyturn adopt pay",
      "m\nhint: keyturn rotate mail --repair pushes ours again; keyturn adopt mail accepts theirs",
      "m",
      "m",
      "refused\nhint: set PGPASSWORD",
    ]);
    const several = notesOf(told({ secrets: [], failure: policyInvalid })).map(({ message }) => message);
    expect(several).toEqual(["issuer is missing", "stores is missing"]);
  });

  test("of many there are ten, and the last names the rest", () => {
    const secrets = Array.from({ length: 25 }, (_, index) => secret(`s${index}`, "failed"));
    const notes = notesOf(told({ secrets }));
    expect(notes).toHaveLength(10);
    expect(notes[9]?.message).toMatch(/^16 more, .*keyturn: s24 failed$/);
  });
});

describe("the summary", () => {
  test("puts the worst first, in a table that no message breaks", () => {
    const text = markdownOf(told({ secrets: [secret("mail", "done"), secret("pay", "failed", HOSTILE)] }));
    const rows = text.split("\n").filter((line) => line.startsWith("| "));
    expect(rows.map((row) => row.split(/(?<!\\)\|/).length)).toEqual([7, 7, 7, 7]);
    expect(rows[2]).toContain("| pay |");
    expect(text).not.toMatch(/<img|[^\\]\[a\]/);
    expect(text).not.toContain("\u001b");
    expect(text).toContain("Next due: 2026-03-01T00\\:00\\:00Z");
  });

  test("stays small", () => {
    const secrets = Array.from({ length: 10_000 }, (_, index) => secret(`s${index}`, "waiting", "x".repeat(300)));
    const text = markdownOf(told({ secrets }));
    expect(text.length).toBeLessThan(200_000);
    expect(text).toContain("And 9800 more.");
  });

  test("of a failed command says what failed", () => {
    const failure = { code: "unauthenticated", message: "a", hint: "b", at: null };
    expect(markdownOf(told({ secrets: [], failure, nextDue: null }))).toContain("**unauthenticated**: a\n\nhint: b\n");
    expect(markdownOf(told({ secrets: [], failure: policyInvalid, nextDue: null }))).toContain(
      [
        "**policy-invalid**",
        "",
        "- rotation.config.yaml\\:20\\:3\\: issuer is missing",
        "- /else/where.yaml\\:4\\:1\\: stores is missing",
        "",
        "hint: first",
        "",
        "hint: second",
      ].join("\n"),
    );
  });

  test("next to what is in flight, or failed, stands no date of the schedule", () => {
    const secrets = [
      secret("rests", "done"),
      { ...secret("flies", "waiting"), rotation: {} },
      { ...secret("waits", "waiting"), rotation: {}, until: "2026-01-02T00:00:00Z" },
      { ...secret("fails", "failed"), hints: ["keyturn show fails"] },
    ];
    const rows = markdownOf(told({ secrets })).split("\n");
    expect(rows.filter((row) => /^\| (rests|flies|waits|fails) /.test(row))).toEqual([
      "| fails | idle | failed | why<br>hint\\: keyturn show fails |  |",
      "| flies | idle | waiting | why |  |",
      "| waits | idle | waiting | why | 2026-01-02T00\\:00\\:00Z |",
      "| rests | idle | done | why | 2026-03-01T00\\:00\\:00Z |",
    ]);
  });
});
