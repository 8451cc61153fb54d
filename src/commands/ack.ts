import type { SecretPolicy } from "../config/model.ts";
import { suggestion } from "../config/nearest.ts";
import type { Word } from "../core/words.ts";
import { choose } from "./choose.ts";
import { list, usageError } from "./options.ts";
import type { Session } from "./session.ts";
import { verb } from "./verb.ts";
import { sayTo } from "./words.ts";

/** About the current version; several consumers and stores may be named at once. */
export const ack = verb({
  parse: ([name = ""], options) => {
    const [consumers, stores] = [list(options, "--consumer"), list(options, "--store")];
    if (consumers.length + stores.length === 0) throw usageError("--consumer or --store is missing");
    return { name, consumers, stores };
  },
  run: async ({ name, consumers, stores }, session) => {
    const [secret] = await choose(session, { names: [name] }, "error");
    const known = secret?.consumers.map((consumer) => consumer.name) ?? [];
    for (const consumer of consumers)
      if (!known.includes(consumer))
        throw usageError(`${name} has no consumer ${JSON.stringify(consumer)}${suggestion(consumer, known)}`);
    const places = stores.length === 0 ? [] : await placesOf(session, name, secret?.deliveries ?? []);
    const words: Word[] = consumers.map((consumer) => ({ word: "ack", kind: "consumer", name: consumer }));
    for (const store of stores) {
      if (!places.includes(store))
        throw usageError(`${name} has no store ${JSON.stringify(store)}${suggestion(store, new Set(places))}`);
      words.push({ word: "ack", kind: "store", name: store });
    }
    let report = await sayTo(session, [name], words[0] as Word);
    for (const word of words.slice(1)) if (report.outcome === "done") report = await sayTo(session, [name], word);
    return report;
  },
});

/** Stores and places in them: those of the policy, and those that were taken out of it but may still serve a key. */
async function placesOf(session: Session, name: string, deliveries: SecretPolicy["deliveries"]): Promise<string[]> {
  const recorded = (await (await session.state()).load(name))?.state.deliveries ?? [];
  const lines = deliveries.map(({ use, type, name: place }) => ({ use: use ?? type, name: place }));
  return [...lines, ...recorded].flatMap(({ use, name: place }) => [use, place]);
}
