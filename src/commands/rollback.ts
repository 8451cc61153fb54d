import { advance } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { verb } from "./verb.ts";

export const rollback = verb({
  parse: (args, options) => selectionOf(args, options),
  run: async (selection, session) => {
    const secrets = await choose(session, selection, "error");
    return advance(session, secrets, {
      start: false,
      sit: "served",
      waitMax: null,
      word: () => ({ word: "rollback" }),
    });
  },
});
