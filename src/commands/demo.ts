import { UserError } from "../core/errors.ts";
import { verb } from "./verb.ts";

export const demo = verb({
  parse: () => null,
  run: async () => {
    throw new UserError("unavailable", "the demo is not in this build", { exit: 1 });
  },
});
