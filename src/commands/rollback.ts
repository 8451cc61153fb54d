import { advance } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { verb } from "./verb.ts";

/** A fenced run leaves with its next decision; one that hangs loses its lease. */
const PATIENCE = 60_000;

export const rollback = verb({
  parse: (args, options) => selectionOf(args, options),
  run: async (selection, session) => {
    const secrets = await choose(session, selection, "error");
    return advance(session, secrets, {
      start: false,
      sit: "served",
      waitMax: null,
      patience: PATIENCE,
      word: () => ({ word: "rollback" }),
    });
  },
});
