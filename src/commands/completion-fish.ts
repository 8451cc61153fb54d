import { pathOf, type Grammar, type GrammarOption, type Kind } from "./completion-grammar.ts";

/** Fish 3 and newer. */
export function fish({ verbs, steps, globals, valued }: Grammar): string {
  const takingSecrets = verbs.filter(({ words }) => words === "secret").map(({ name }) => name);
  const lines = [
    line({ flag: "f" }),
    ...globals.map((option) => optionLine(option, null)),
    ...steps.map(({ after, word, summary }) => line({ at: [after], words: word, summary })),
    ...verbs.flatMap(({ name, options, words }) => [
      ...options.map((option) => optionLine(option, name)),
      ...(Array.isArray(words) ? [line({ at: [name], words: words.join(" ") })] : []),
    ]),
    line({ at: takingSecrets, words: NAMES }),
  ];
  return `# Completion of keyturn for fish. For this shell: keyturn completion fish | source
# For every one: keyturn completion fish > ~/.config/fish/completions/keyturn.fish
function __keyturn_verb
    set -l verb ''
    set -l skips 0
    for word in (commandline -opc)[2..-1]
        if test $skips = 1
            set skips 0
            continue
        end
        switch $word
            case ${valued.flatMap(({ names }) => names).join(" ")}
                set skips 1
            case '-*'
            case '*'
                switch (string trim "$verb $word")
                    case ${steps.map((step) => quoted(pathOf(step))).join(" ")}
                        set verb (string trim "$verb $word")
                end
        end
    end
    echo $verb
end

function __keyturn_at
    contains -- (__keyturn_verb) $argv
end

function __keyturn_names
    set -l tokens (commandline -opc)
    set -l config
    for at in (seq (count $tokens))
        set -l next (math $at + 1)
        switch $tokens[$at]
            case -c --config
                test $next -le (count $tokens); and set config -c (string replace -r '^~/' "$HOME/" -- $tokens[$next])
            case '--config=*'
                set config -c (string replace -- --config= '' $tokens[$at])
        end
    end
    command $tokens[1] completion names $config 2>/dev/null
end

${lines.join("\n")}
`;
}

const NAMES = "(__keyturn_names)";

function optionLine({ names, summary, value }: GrammarOption, verb: string | null): string {
  const flags = names.map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(" ");
  const takes = { secret: `-x -a ${quoted(NAMES)}`, file: "-r -F", any: "-x" };
  const kind = value === null ? "" : ` ${takes[value as Exclude<Kind, readonly string[]>]}`;
  return line({ ...(verb !== null && { at: [verb] }), flag: "", summary, more: `${flags}${kind}` });
}

function line(parts: {
  /** The verbs behind which it holds; none: everywhere. */
  readonly at?: readonly string[];
  readonly flag?: string;
  readonly words?: string;
  readonly more?: string;
  readonly summary?: string;
}): string {
  const { at, flag = "", words, more, summary } = parts;
  return [
    "complete -c keyturn",
    ...(flag === "" ? [] : [`-${flag}`]),
    ...(at === undefined ? [] : [`-n ${quoted(`__keyturn_at ${at.map((verb) => `"${verb}"`).join(" ")}`)}`]),
    ...(more === undefined ? [] : [more]),
    ...(words === undefined ? [] : [`-a ${quoted(words)}`]),
    ...(summary === undefined ? [] : [`-d ${quoted(summary)}`]),
  ].join(" ");
}

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}
