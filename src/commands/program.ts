import type { Command } from "commander";
import { nearest } from "../config/nearest.ts";
import { UserError } from "../core/errors.ts";
import { GLOBAL_OPTIONS, VERBS, type OptionLine, type VerbLine } from "./table.ts";
import { usageError } from "./options.ts";
import type { Options } from "./verb.ts";

/** The command line with its verb found, wherever it stood. */
export interface Words {
  /** null: none was given. */
  readonly verb: VerbLine | null;
  /** All the rest, in its order. */
  readonly rest: readonly string[];
  /** Options that take no value, as they were written: enough to know how a usage error is to be told. */
  readonly flags: ReadonlySet<string>;
}

export interface Parsed {
  readonly args: readonly string[];
  readonly options: Options;
}

/** Someone asked for help: the text, for stdout. */
export class HelpWanted extends Error {}

const HELP = new Set(["-h", "--help"]);

function namesOf(option: OptionLine): string[] {
  return option.flags.split(/[ ,]+/).filter((part) => part.startsWith("-"));
}

function takesValue(option: OptionLine): boolean {
  return option.flags.includes("<");
}

const WITH_VALUE = new Set(
  [...GLOBAL_OPTIONS, ...VERBS.flatMap((verb) => verb.options)].filter(takesValue).flatMap(namesOf),
);

/**
 * Finds the verb among options that may stand before it. An option has a value for all verbs or for none, so its
 * value is never taken for the verb.
 *
 * @throws UserError for a word that is no verb.
 */
export function findVerb(argv: readonly string[]): Words {
  const places: number[] = [];
  const flags = new Set<string>();
  for (let at = 0; at < argv.length && argv[at] !== "--"; at++) {
    const token = argv[at] as string;
    if (!token.startsWith("-") || token === "-") places.push(at);
    else if (WITH_VALUE.has(token)) at++;
    else flags.add(token);
  }
  const words = places.map((at) => argv[at] as string);
  const help = words[0] === "help";
  const said = help ? words.slice(1) : words;
  const found = VERBS.filter((verb) => verb.name.split(" ").every((part, index) => said[index] === part));
  const verb = found[0] ?? null;
  if (verb === null && said[0] !== undefined) throw unknownVerb(said);
  const taken = new Set(places.slice(0, (help ? 1 : 0) + (verb?.name.split(" ").length ?? 0)));
  const rest = argv.filter((_, at) => !taken.has(at));
  return help ? { verb, rest: ["--help"], flags: flags.add("--help") } : { verb, rest, flags };
}

function unknownVerb(said: readonly string[]): UserError {
  const group = VERBS.filter((verb) => verb.name.startsWith(`${said[0]} `)).map((verb) => verb.name);
  if (group.length > 0) return usageError(`${said[0]}: say which`, ...group.map((name) => `keyturn ${name}`));
  const near = nearest(said[0] as string, new Set(VERBS.map((verb) => verb.name.split(" ")[0] as string)));
  const hint = near === null ? "keyturn --help lists the verbs" : `did you mean: keyturn ${near}`;
  return new UserError("unknown-verb", `unknown verb ${JSON.stringify(said[0])}`, { exit: 2, hints: [hint] });
}

/**
 * Reads what follows the verb.
 * @throws UserError for what the verb does not know; HelpWanted.
 */
export async function parse({ verb, rest, flags }: Words): Promise<Parsed> {
  const { Command, CommanderError, Option } = await import("commander");
  let printed = "";
  const make = (line: Pick<VerbLine, "name" | "summary" | "options">) => {
    const command = new Command(line.name).description(line.summary);
    command.exitOverride().configureOutput({ writeOut: (text) => void (printed += text), writeErr: () => {} });
    for (const { flags: names, summary, many } of line.options) {
      const option = new Option(names, summary);
      command.addOption(many ? option.argParser((value: string, before: string[] = []) => [...before, value]) : option);
    }
    return command;
  };
  if (verb === null) {
    const all = make({
      name: "keyturn",
      summary: "Rotates secrets across providers without downtime.",
      options: GLOBAL_OPTIONS,
    });
    all
      .usage("[options] <verb> …")
      .helpCommand("help [verb]", "say more about a verb")
      .option("-V, --version", "the version");
    for (const line of VERBS) all.addCommand(withArguments(new Command(line.name).summary(line.summary), line));
    if ([...HELP].some((name) => flags.has(name))) throw new HelpWanted(all.helpInformation());
    const unknown = [...flags].find((name) => !GLOBAL_OPTIONS.some((option) => namesOf(option).includes(name)));
    throw unknown === undefined
      ? usageError("no verb given", "keyturn --help lists the verbs")
      : unknownOption(unknown, null);
  }
  const command = withArguments(make({ ...verb, name: `keyturn ${verb.name}` }), verb);
  command.optionsGroup("Global options:");
  for (const { flags: names, summary } of GLOBAL_OPTIONS) command.option(names, summary);
  try {
    command.parse(rest, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === "commander.helpDisplayed") throw new HelpWanted(printed);
    if (error.code === "commander.unknownOption") throw unknownOption(/'([^']+)'/.exec(error.message)?.[1] ?? "", verb);
    throw usageError(error.message.replace(/^error: /, ""), `keyturn ${verb.name} --help`);
  }
  return { args: command.args, options: command.opts() };
}

function withArguments<C extends Command>(command: C, line: VerbLine): C {
  return line.arguments === "" ? command : command.arguments(line.arguments);
}

function unknownOption(name: string, verb: VerbLine | null): UserError {
  const known = [...GLOBAL_OPTIONS, ...(verb?.options ?? [])].flatMap(namesOf);
  // The value may be a secret that went astray.
  const bare = name.replace(/=.*$/s, "");
  const near = nearest(bare, known);
  const whose = verb === null ? "" : ` of ${verb.name}`;
  const hint = near === null ? `keyturn ${verb?.name ?? ""} --help`.replace("  ", " ") : `did you mean: ${near}`;
  return new UserError("unknown-option", `unknown option${whose}: ${bare}`, { exit: 2, hints: [hint] });
}
