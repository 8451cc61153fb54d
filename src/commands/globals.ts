import type { Duration } from "../core/duration.ts";
import { duration, flag, text } from "./options.ts";
import type { Options } from "./verb.ts";

export interface Globals {
  readonly config: string | null;
  /** URL of the state; null: as the policy says. */
  readonly state: string | null;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly noColour: boolean;
  readonly yes: boolean;
  readonly detailed: boolean;
  readonly lockTimeout: Duration;
}

export function globalsOf(options: Options): Globals {
  return {
    config: text(options, "--config"),
    state: text(options, "--state"),
    json: flag(options, "--json"),
    quiet: flag(options, "--quiet"),
    verbose: flag(options, "--verbose"),
    noColour: options["color"] === false,
    yes: flag(options, "--yes"),
    detailed: flag(options, "--detailed-exitcode"),
    lockTimeout: duration(options, "--lock-timeout") ?? 0,
  };
}

/** As far as they can be told from a command line that was not understood. */
export function guessGlobals(flags: ReadonlySet<string>): Globals {
  const has = (name: string) => flags.has(name);
  return {
    config: null,
    state: null,
    json: has("--json"),
    quiet: has("--quiet"),
    verbose: has("--verbose"),
    noColour: has("--no-color"),
    yes: false,
    detailed: false,
    lockTimeout: 0,
  };
}
