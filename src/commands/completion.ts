import { nearest } from "../config/nearest.ts";
import { bash } from "./completion-bash.ts";
import { fish } from "./completion-fish.ts";
import { grammarOf } from "./completion-grammar.ts";
import { zsh } from "./completion-zsh.ts";
import { usageError } from "./options.ts";
import type { OptionLine, VerbLine } from "./table.ts";
import { verb, type Verb } from "./verb.ts";

const SHELLS = { bash, zsh, fish } as const;
/** What the scripts ask for: the names of the policy's secrets, one a line. */
const NAMES = "names";

/** Prints a script for a shell; it knows verbs and options by itself and asks for nothing but names. */
export function completionOf(verbs: readonly VerbLine[], globals: readonly OptionLine[]): Verb {
  return verb({
    parse: ([shell = ""]): keyof typeof SHELLS | typeof NAMES => {
      if (shell === NAMES || Object.hasOwn(SHELLS, shell)) return shell as keyof typeof SHELLS | typeof NAMES;
      const near = nearest(shell, Object.keys(SHELLS));
      throw usageError(
        `completion: ${JSON.stringify(shell)} is none of ${Object.keys(SHELLS).join(", ")}`,
        near === null ? "for example: source <(keyturn completion bash)" : `did you mean: keyturn completion ${near}`,
      );
    },
    run: async (what, { process, globals: { config } }) => {
      const instead = what === NAMES ? await names(process.cwd, config) : SHELLS[what](grammarOf(verbs, globals));
      return { outcome: "done", secrets: [], text: () => "", instead };
    },
  });
}

async function names(cwd: string, config: string | null): Promise<string> {
  const { secretNames } = await import("../config/names.ts");
  return secretNames(cwd, config ?? undefined)
    .map((name) => `${name}\n`)
    .join("");
}
