import { adopt as takeOver } from "../engine/adopt.ts";
import { eachWired } from "./advance.ts";
import { choose } from "./choose.ts";
import { ranRow } from "./members.ts";
import { text } from "./options.ts";
import { nextDue } from "./subject.ts";
import { verb } from "./verb.ts";

export const adopt = verb({
  parse: ([name = ""], options) => ({ name, keyId: text(options, "--key") }),
  run: async ({ name, keyId }, session) => {
    const secrets = await choose(session, { names: [name] }, "error");
    const deps = await session.engine();
    return eachWired(session, secrets, async (secret, ports) => {
      const result = await takeOver(deps, ports, { keyId, signal: session.signal });
      const wall = session.now();
      return ranRow(
        { name, policy: secret, rules: ports.rules, nextDue: await nextDue(secret, result.state, wall) },
        result,
        wall,
      );
    });
  },
});
