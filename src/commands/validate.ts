import { relative } from "node:path";
import { count } from "../ui/text.ts";
import { verb } from "./verb.ts";

/** References are not resolved: what is wrong with the policy shows without its credentials. */
export const validate = verb({
  parse: () => null,
  run: async (_, session) => {
    const { file, secrets, stores } = await session.policy();
    const names = [...secrets.keys()];
    return {
      outcome: "done",
      secrets: [],
      member: {
        validate: { file, secrets: names, warnings: session.warnings.map(({ at, message }) => ({ at, message })) },
      },
      text: () =>
        `${relative(session.process.cwd, file)}: ok: ${count(names.length, "secret")}, ${count(stores.size, "shared store")}`,
    };
  },
});

export const schema = verb({
  parse: () => null,
  run: async () => {
    const { jsonSchema } = await import("../config/json-schema.ts");
    const instead = `${JSON.stringify(await jsonSchema(), null, 2)}\n`;
    return { outcome: "done", secrets: [], text: () => "", instead };
  },
});
