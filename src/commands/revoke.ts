import { advance } from "./advance.ts";
import { choose } from "./choose.ts";
import { flag, list, usageError } from "./options.ts";
import { verb } from "./verb.ts";

export const revoke = verb({
  parse: ([name = ""], options) => {
    const [version, ...others] = list(options, "--key-version");
    if (version === undefined) throw usageError("--key-version is missing", `keyturn show ${name} lists the versions`);
    if (others.length > 0) throw usageError("--key-version: one at a time");
    return { name, version, compromised: flag(options, "--compromised") };
  },
  run: async ({ name, version, compromised }, session) => {
    const secrets = await choose(session, { names: [name] }, "error");
    return advance(session, secrets, {
      start: false,
      sit: "none",
      waitMax: null,
      word: () => ({ word: "revoke", version, compromised }),
    });
  },
});
