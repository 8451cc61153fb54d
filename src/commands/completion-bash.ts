import { pathOf, type Grammar, type GrammarOption, type Kind } from "./completion-grammar.ts";

/** Bash 3.2 and newer, with nothing else loaded. */
export function bash({ verbs, steps, globals, valued }: Grammar): string {
  const namesOf = (options: readonly GrammarOption[]) => options.flatMap(({ names }) => names);
  const places = [...new Set(steps.map(({ after }) => after))];
  const following = (place: string) => steps.filter(({ after }) => after === place).map(({ word }) => word);
  const taking = (kind: Kind) => verbs.filter(({ words }) => words === kind).map(({ name }) => name);
  const valuedBy = (kind: Kind) => namesOf(valued.filter(({ value }) => value === kind));
  const config = ["-c", "--config"];
  const files = valuedBy("file").filter((name) => !config.includes(name));
  return `# Completion of keyturn for bash. For this shell: source <(keyturn completion bash)
# For every one: keyturn completion bash > ~/.local/share/bash-completion/completions/keyturn
_keyturn() {
  local cur=\${COMP_WORDS[COMP_CWORD]} verb='' wants='' config='' words='' word at
  COMPREPLY=()
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=\${COMP_WORDS[at]}
    if [[ -n $wants ]]; then
      [[ $word == '=' ]] && continue
      [[ $wants == config ]] && config=$word
      wants=''
      continue
    fi
    case $word in
${arm(config, "wants=config", 3)}${arm(files, "wants=file", 3)}${arm(valuedBy("secret"), "wants=secret", 3)}${arm(valuedBy("any"), "wants=any", 3)}      -*) ;;
      *)
        case "\${verb:+$verb }$word" in
${arm(steps.map(pathOf), 'verb="${verb:+$verb }$word"', 5)}        esac
        ;;
    esac
  done
  [[ $cur == '=' ]] && cur=''
  case $wants in
    config | file)
      local IFS=$'\\n'
      compopt -o filenames 2>/dev/null
      COMPREPLY=($(compgen -f -- "$cur"))
      return
      ;;
    secret) words=$(_keyturn_names "$config") ;;
    any) return ;;
    *)
      if [[ $cur == -* ]]; then
        case $verb in
${verbs
  .filter(({ options }) => options.length > 0)
  .map(({ name, options }) => arm([name], `words='${namesOf(options).join(" ")}'`, 5))
  .join("")}        esac
        words+=' ${namesOf(globals).join(" ")}'
      else
        case $verb in
${places.map((place) => arm([place], `words='${following(place).join(" ")}'`, 5)).join("")}${arm(taking("secret"), 'words=$(_keyturn_names "$config")', 5)}${verbs.map(({ name, words }) => (Array.isArray(words) ? arm([name], `words='${words.join(" ")}'`, 5) : "")).join("")}        esac
      fi
      ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}

_keyturn_names() {
  "\${COMP_WORDS[0]}" completion names \${1:+-c "\${1/#\\~\\//$HOME/}"} 2>/dev/null
}

complete -F _keyturn keyturn
`;
}

/** One branch of a `case`, so many levels in; none without patterns. */
export function arm(patterns: readonly string[], what: string, level: number): string {
  if (patterns.length === 0) return "";
  const quoted = patterns.map((pattern) => (/^[\w-]+$/.test(pattern) ? pattern : `'${pattern}'`));
  return `${"  ".repeat(level)}${quoted.join(" | ")}) ${what} ;;\n`;
}
