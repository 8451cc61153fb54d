import { living } from "../core/model.ts";
import { advance } from "./advance.ts";
import { choose } from "./choose.ts";
import { flag, list, usageError } from "./options.ts";
import type { Session } from "./session.ts";
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
    const wanted = await fullId(session, name, version);
    return advance(session, secrets, {
      start: false,
      sit: "none",
      waitMax: null,
      word: () => ({ word: "revoke", version: wanted, compromised }),
    });
  },
});

/** `v1` for `v1-c059bce9`, where it fits one living version alone; else what was said, for the refusal to name. */
async function fullId(session: Session, name: string, said: string): Promise<string> {
  const loaded = await (await session.state()).load(name);
  const ids = loaded === null ? [] : living(loaded.state).map(({ id }) => id);
  const [only, ...others] = ids.filter((id) => id.startsWith(`${said}-`) || id === said);
  return only !== undefined && others.length === 0 ? only : said;
}
