import type { SecretPolicy } from "../config/model.ts";
import { dueBy } from "../config/schedule.ts";
import { isAtRest } from "../core/rest.ts";
import { advance } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { rowOf, type Row } from "./members.ts";
import { duration, flag, usageError } from "./options.ts";
import type { Session } from "./session.ts";
import { documentsOf } from "./status.ts";
import { subjectOf } from "./subject.ts";
import { verb, type Options } from "./verb.ts";

/** `--wait` and `--wait-max`. */
export function waitOf(options: Options) {
  const wait = flag(options, "--wait");
  const waitMax = duration(options, "--wait-max");
  if (waitMax !== null && !wait) throw usageError("--wait-max says how long --wait may last", "add --wait");
  return { wait, waitMax };
}

export const run = verb({
  parse: (args, options) => ({ ...waitOf(options), selection: selectionOf(args, options) }),
  run: async ({ wait, waitMax, selection }, session) => {
    const secrets = await choose(session, selection, "all");
    const known = await resting(session, secrets);
    return advance(session, secrets, { start: true, sit: wait ? "all" : "none", waitMax, known });
  },
});

/** Those with nothing to do, told by one reading of the state: no adapter is made, no reference resolved for them. */
async function resting(session: Session, secrets: readonly SecretPolicy[]): Promise<ReadonlyMap<string, Row>> {
  const readers = [...(await session.policy()).notifiers.keys()];
  const documents = await documentsOf(session, secrets.length > 20 ? null : secrets.map(({ name }) => name));
  const rows = new Map<string, Row>();
  for (const secret of secrets) {
    const loaded = documents.get(secret.name);
    if (loaded === undefined || !isAtRest(loaded.state, readers)) continue;
    const { due } = (await dueBy(secret))(loaded.state, session.now());
    if (!due || !secret.enabled) rows.set(secret.name, rowOf(await subjectOf(session, secret.name, loaded)));
  }
  return rows;
}
