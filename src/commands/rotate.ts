import { advance } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { warnOfFiles } from "./disk.ts";
import { flag } from "./options.ts";
import { waitOf } from "./run.ts";
import { verb } from "./verb.ts";

export const rotate = verb({
  parse: (args, options) => ({
    ...waitOf(options),
    repair: flag(options, "--repair"),
    selection: selectionOf(args, options),
  }),
  run: async ({ wait, waitMax, repair, selection }, session) => {
    const secrets = await choose(session, selection, "error");
    await warnOfFiles(session, secrets);
    return advance(session, secrets, {
      start: true,
      sit: wait ? "all" : "short",
      waitMax,
      word: () => ({ word: "rotate", repair }),
    });
  },
});
