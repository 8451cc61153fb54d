import type { SecretPolicy } from "../config/model.ts";
import { living } from "../core/model.ts";
import type { Word } from "../core/words.ts";
import { confirm } from "../ui/prompt.ts";
import { count } from "../ui/text.ts";
import { advance } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { duration, flag, list, usageError } from "./options.ts";
import type { Session } from "./session.ts";
import { verb } from "./verb.ts";

const GRACE = 300_000;

export const emergency = verb({
  parse: (args, options) => {
    const [revokeFirst, acceptOutage] = [flag(options, "--revoke-first"), flag(options, "--accept-outage")];
    if (revokeFirst && !acceptOutage) {
      throw usageError(
        "--revoke-first kills keys that are still served",
        "add --accept-outage when that is what you want",
      );
    }
    return {
      selection: selectionOf(args, options),
      versions: list(options, "--key-version"),
      keyIds: list(options, "--key-id"),
      grace: duration(options, "--grace") ?? GRACE,
      revokeFirst,
      acceptOutage,
      overrideHold: list(options, "--override-hold"),
    };
  },
  run: async ({ selection, versions, keyIds, overrideHold, ...wishes }, session) => {
    const secrets = await choose(session, selection, "error");
    const names = secrets.map(({ name }) => name);
    for (const name of overrideHold)
      if (!names.includes(name)) throw usageError(`--override-hold: ${name} is not among the chosen secrets`);
    const leaked = await leakedBySecret(session, secrets, versions, keyIds);
    const affected = secrets.filter(({ name }) => leaked === null || leaked.has(name));
    const what = leaked === null ? "every living key" : count([...leaked.values()].flat().length, "key");
    const where = affected.length > 5 ? count(affected.length, "secret") : affected.map(({ name }) => name).join(", ");
    await confirm(`replace and kill ${what} of ${where}`, session.globals.yes, session.terminal, session.signal);
    const word = ({ name }: SecretPolicy): Word => ({
      word: "emergency",
      ...wishes,
      versions: leaked?.get(name) ?? null,
      overrideHold: overrideHold.includes(name),
    });
    return advance(session, affected, { start: true, sit: "dead", waitMax: null, word });
  },
});

/** Secret → the versions named by their id or their key's; null: none was named, so all count. */
async function leakedBySecret(
  session: Session,
  secrets: readonly SecretPolicy[],
  versions: readonly string[],
  keyIds: readonly string[],
) {
  if (versions.length + keyIds.length === 0) return null;
  const state = await session.state();
  const leaked = new Map<string, string[]>();
  const missing = new Set([...versions, ...keyIds]);
  for (const { name } of secrets) {
    const loaded = await state.load(name);
    const named = (loaded === null ? [] : living(loaded.state)).filter(
      ({ id, keyId }) => versions.includes(id) || (keyId !== null && keyIds.includes(keyId)),
    );
    for (const { id, keyId } of named) [id, keyId ?? id].forEach((one) => missing.delete(one));
    if (named.length > 0)
      leaked.set(
        name,
        named.map(({ id }) => id),
      );
  }
  if (missing.size > 0)
    throw usageError(
      `no living version or key ${[...missing].join(", ")} in the chosen secrets`,
      "keyturn show SECRET lists them",
    );
  return leaked;
}
