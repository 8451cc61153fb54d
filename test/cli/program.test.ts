import { describe, expect, test } from "vitest";
import { exitCode, worst } from "../../src/commands/exit.ts";
import { globalsOf } from "../../src/commands/globals.ts";
import { findVerb, HelpWanted, parse } from "../../src/commands/program.ts";
import { GLOBAL_OPTIONS, VERBS, type OptionLine } from "../../src/commands/table.ts";

const understand = async (...argv: string[]) => {
  const words = findVerb(argv);
  return { verb: words.verb?.name ?? null, ...(await parse(words)) };
};
const names = ({ flags }: OptionLine) => flags.split(/[ ,]+/).filter((part) => part.startsWith("-"));

describe("the table of verbs", () => {
  test("no option of a verb means a global one", () => {
    const global = new Set([...GLOBAL_OPTIONS.flatMap(names), "-h", "--help", "-V", "--version"]);
    for (const verb of VERBS)
      for (const option of verb.options) expect(names(option).filter((name) => global.has(name))).toEqual([]);
  });

  test("an option has a value for every verb or for none", () => {
    const arity = new Map<string, boolean>();
    for (const option of [...GLOBAL_OPTIONS, ...VERBS.flatMap((verb) => verb.options)]) {
      const valued = option.flags.includes("<");
      for (const name of names(option)) expect([name, arity.get(name) ?? valued]).toEqual([name, valued]);
      names(option).forEach((name) => arity.set(name, valued));
    }
  });

  test("every verb loads, and reads its own words", async () => {
    for (const line of VERBS) expect(typeof (await line.load()).prepare).toBe("function");
  });
});

describe("options before and after the verb", () => {
  test.each(VERBS.map((verb) => [verb.name, verb] as const))("%s", async (name, verb) => {
    const args = verb.arguments.includes("keyid") ? ["a", "b"] : verb.arguments.includes("<") ? ["a"] : [];
    const given = (option: OptionLine) => [
      names(option).at(-1) as string,
      ...(option.flags.includes("<") ? ["1d"] : []),
    ];
    const options = [...GLOBAL_OPTIONS, ...verb.options].flatMap(given);
    const before = await understand(...options, ...name.split(" "), ...args);
    const after = await understand(...name.split(" "), ...args, ...options);
    expect(before).toEqual(after);
    expect(before).toMatchObject({ verb: name, args });
    expect(globalsOf(before.options)).toEqual({
      config: "1d",
      state: "1d",
      json: true,
      quiet: true,
      verbose: true,
      noColour: true,
      yes: true,
      detailed: true,
      lockTimeout: 86_400_000,
    });
  });

  test("a value that looks like a verb stays a value", async () => {
    expect(await understand("--tag", "run", "status")).toMatchObject({ verb: "status", options: { tag: "run" } });
    expect(await understand("--reason=run", "hold", "a")).toMatchObject({ verb: "hold", options: { reason: "run" } });
    expect(await understand("show", "--", "--json")).toMatchObject({ verb: "show", args: ["--json"] });
  });
});

describe("what is not understood", () => {
  test.each([
    [["rotat"], "unknown-verb", "keyturn rotate"],
    [["rotate", "--wiat"], "unknown-option", "--wait"],
    [["--wiat", "rotate"], "unknown-option", "--wait"],
    [["plan", "--repair"], "unknown-option", "plan"],
    [["--jsn"], "unknown-option", "--json"],
    [["api-keys", "key"], "usage", "api-keys key add"],
    [["hold", "a", "--reason"], "usage", "hold --help"],
    [["show", "a", "b"], "usage", "show --help"],
    [["show"], "usage", "show --help"],
    [[], "usage", "--help"],
  ])("%j", async (argv, code, hint) => {
    const error = await understand(...argv).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code, options: { exit: 2 } });
    expect((error as { options: { hints: string[] } }).options.hints.join("\n")).toContain(hint);
  });

  test("a value that stands in an unknown option is not repeated", async () => {
    const error = await understand("status", "--tokn=s3cret").catch((thrown: unknown) => String(thrown));
    expect(error).not.toContain("s3cret");
  });
});

test.each([
  [["--help"], "rotate"],
  [["rotate", "--help"], "--repair"],
  [["help", "rotate"], "--repair"],
  [["-h"], "emergency"],
])("help by %j", async (argv, holds) => {
  const help = await understand(...argv).catch((thrown: unknown) => thrown);
  expect(help).toBeInstanceOf(HelpWanted);
  expect((help as Error).message).toContain(holds);
  for (const line of (help as Error).message.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
});

test("the worst outcome counts, and waiting is told only when asked", () => {
  const outcomes = ["failed", "blocked", "locked", "waiting", "done"] as const;
  outcomes.forEach((outcome, index) => expect(worst(outcomes.slice(index).toReversed())).toBe(outcome));
  expect(worst([])).toBe("done");
  expect(outcomes.map((outcome) => exitCode(outcome, true))).toEqual([1, 3, 4, 8, 0]);
  expect(outcomes.map((outcome) => exitCode(outcome, false))).toEqual([1, 3, 4, 0, 0]);
  expect(exitCode("found", false)).toBe(5);
});
