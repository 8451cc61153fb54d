import { advance } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { duration, flag, usageError } from "./options.ts";
import { verb, type Options } from "./verb.ts";

/** `--wait` and `--wait-max`. */
export function waitOf(options: Options) {
  const wait = flag(options, "--wait");
  const waitMax = duration(options, "--wait-max");
  if (waitMax !== null && !wait) throw usageError("--wait-max says how long --wait may last", "add --wait");
  return { wait, waitMax };
}

export const run = verb({
  parse: (args, options) => ({ ...waitOf(options), selection: selectionOf(args, options) }),
  run: async ({ wait, waitMax, selection }, session) => {
    const secrets = await choose(session, selection, "all");
    return advance(session, secrets, { start: true, sit: wait ? "all" : "none", waitMax });
  },
});
