import type { OptionLine, VerbLine } from "./table.ts";

/** What may stand in a place: one of the policy's secrets, a file, one of some words, anything. */
export type Kind = "secret" | "file" | "any" | readonly string[];

export interface GrammarOption {
  /** `-c`, `--config`. */
  readonly names: readonly string[];
  readonly summary: string;
  /** null: it takes no value. */
  readonly value: Kind | null;
}

export interface GrammarVerb {
  readonly name: string;
  readonly options: readonly GrammarOption[];
  /** null: it takes no words. */
  readonly words: Kind | null;
}

/** A word that may follow some words of a verb: `client` after `api-keys`. */
export interface Step {
  /** What stands before it; "" at the beginning. */
  readonly after: string;
  readonly word: string;
  readonly summary: string;
}

/** The command line as a shell's completion needs to know it. */
export interface Grammar {
  readonly verbs: readonly GrammarVerb[];
  readonly steps: readonly Step[];
  /** Before and after every verb. */
  readonly globals: readonly GrammarOption[];
  /** Options with a value, of every verb. */
  readonly valued: readonly GrammarOption[];
}

export function grammarOf(lines: readonly VerbLine[], globalLines: readonly OptionLine[]): Grammar {
  const verbs = lines.map(({ name, options, arguments: words }) => {
    return { name, options: options.map(optionOf), words: words === "" ? null : kindOf(words) };
  });
  const globals = [...globalLines, { flags: "-h, --help", summary: "say more" }].map(optionOf);
  const valued = new Map<string, GrammarOption>();
  for (const option of [...globals, ...verbs.flatMap(({ options }) => options)]) {
    const there = valued.get(option.names.join());
    if (option.value !== null && there?.value !== "secret") valued.set(option.names.join(), option);
  }
  return { verbs, steps: stepsOf(lines), globals, valued: [...valued.values()] };
}

/** The steps that lead to another one, or to a verb's end, as a shell's patterns match them: `api-keys client`. */
export function pathOf({ after, word }: Step): string {
  return `${after} ${word}`.trimStart();
}

function stepsOf(lines: readonly VerbLine[]): Step[] {
  const steps = new Map<string, Step>();
  for (const { name, summary } of lines) {
    const words = name.split(" ");
    for (const [at, word] of words.entries()) {
      const after = words.slice(0, at).join(" ");
      const isLast = at === words.length - 1;
      if (isLast || !steps.has(`${after} ${word}`))
        steps.set(`${after} ${word}`, { after, word, summary: isLast ? summary : `${word} …` });
    }
  }
  return [...steps.values()];
}

function optionOf({ flags, summary }: OptionLine): GrammarOption {
  const names = flags.split(/[ ,]+/).filter((part) => part.startsWith("-"));
  const value = /<.*>/.exec(flags)?.[0];
  return { names, summary, value: value === undefined ? null : kindOf(value) };
}

function kindOf(words: string): Kind {
  if (/^[<[]secret/.test(words)) return "secret";
  if (words === "<file>") return "file";
  return words === "<shell>" ? ["bash", "zsh", "fish"] : "any";
}
