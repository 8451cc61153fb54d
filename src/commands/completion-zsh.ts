import { arm } from "./completion-bash.ts";
import { pathOf, type Grammar, type GrammarOption, type Kind } from "./completion-grammar.ts";

export function zsh({ verbs, steps, globals, valued }: Grammar): string {
  const places = [...new Set(steps.map(({ after }) => after))];
  const listed = (options: readonly GrammarOption[]) =>
    options.flatMap(({ names, summary }) => names.map((name) => item(name, summary)));
  const taking = (kind: Kind) => verbs.filter(({ words }) => words === kind).map(({ name }) => name);
  const valuedBy = (kind: Kind) => valued.filter(({ value }) => value === kind).flatMap(({ names }) => names);
  const config = ["-c", "--config"];
  const files = valuedBy("file").filter((name) => !config.includes(name));
  const list = (items: readonly string[]) => `list=(${items.join(" ")})`;
  return `#compdef keyturn
# Completion of keyturn for zsh. For this shell: source <(keyturn completion zsh)
# For every one: keyturn completion zsh > a folder of $fpath, as _keyturn
_keyturn() {
  local verb='' wants='' config='' word at
  local -a list
  for ((at = 2; at < CURRENT; at++)); do
    word=\${(Q)words[at]}
    if [[ -n $wants ]]; then
      [[ $wants == config ]] && config=$word
      wants=''
      continue
    fi
    [[ $word == --config=* ]] && config=\${word#*=}
    _keyturn_option $word && continue
    case "\${verb:+$verb }$word" in
${arm(steps.map(pathOf), 'verb="${verb:+$verb }$word"', 3)}    esac
  done
  if [[ $PREFIX == --*=* ]]; then
    _keyturn_option \${PREFIX%%=*}
    compset -P '*='
  fi
  case $wants in
    config | file) _files ;;
    secret) _keyturn_names ;;
    any) _message 'a value' ;;
    *)
      if [[ $PREFIX == -* ]]; then
        case $verb in
${verbs
  .filter(({ options }) => options.length > 0)
  .map(({ name, options }) => arm([name], list(listed(options)), 5))
  .join("")}        esac
        list+=(${listed(globals).join(" ")})
        _describe -o option list
      else
        case $verb in
${places
  .map((place) =>
    arm([place], list(steps.filter(({ after }) => after === place).map(({ word, summary }) => item(word, summary))), 5),
  )
  .join(
    "",
  )}${verbs.map(({ name, words }) => (Array.isArray(words) ? arm([name], list(words as readonly string[]), 5) : "")).join("")}${arm(taking("secret"), "_keyturn_names; return", 5)}        esac
        _describe verb list
      fi
      ;;
  esac
}

# What an option wants behind it, in $wants; false for what is no option.
_keyturn_option() {
  case $1 in
    --*=*) ;;
${arm(config, "wants=config", 2)}${arm(files, "wants=file", 2)}${arm(valuedBy("secret"), "wants=secret", 2)}${arm(valuedBy("any"), "wants=any", 2)}    -*) ;;
    *) return 1 ;;
  esac
}

_keyturn_names() {
  local -a names
  names=(\${(f)"$($words[1] completion names \${config:+-c} \${config:+\${config/#\\~\\//$HOME/}} 2>/dev/null)"})
  compadd -a names
}

if [[ $funcstack[1] == _keyturn ]]; then _keyturn "$@"; else compdef _keyturn keyturn; fi
`;
}

/** `'--wait:stay until the rotation has ended'`. */
function item(name: string, summary: string): string {
  return `'${`${name}:${summary.replaceAll(":", "\\:")}`.replaceAll("'", "'\\''")}'`;
}
