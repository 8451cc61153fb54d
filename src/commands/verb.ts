import type { Terminal } from "../ui/terminal.ts";
import type { CommandOutcome } from "./exit.ts";
import type { SecretMember } from "./members.ts";
import type { Session } from "./session.ts";

/** What stood on the command line after the verb: option names in camel case. */
export type Options = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export interface Complaint {
  /** Whose; left out: nobody's alone. */
  readonly secret?: string;
  /** null: the hints alone. */
  readonly line: string | null;
  readonly hints: readonly string[];
}

export interface Report {
  readonly outcome: CommandOutcome;
  readonly secrets: readonly SecretMember[];
  /** The command's own named member of the document. */
  readonly member?: Readonly<Record<string, unknown>>;
  /** For people, on stdout; made only when it is asked for. */
  readonly text: (terminal: Terminal) => string;
  /** What went wrong with single secrets, for stderr, whatever the form of the answer. */
  readonly complaints?: readonly Complaint[];
  /** Printed as it is, with `--json` too: for commands whose answer has a form of its own. */
  readonly instead?: string;
}

/** A verb with its words already understood. */
export type Prepared = (session: Session) => Promise<Report>;

export interface Verb {
  /** @throws UserError, exit 2, before anything else is touched. */
  readonly prepare: (args: readonly string[], options: Options) => Prepared;
}

/** Parsing and running apart: `parse` is pure. */
export function verb<Input>(parts: {
  readonly parse: (args: readonly string[], options: Options) => Input;
  readonly run: (input: Input, session: Session) => Promise<Report>;
}): Verb {
  return {
    prepare: (args, options) => {
      const input = parts.parse(args, options);
      return (session) => parts.run(input, session);
    },
  };
}
