import type { AuditEntry } from "../ports/state.ts";
import { table, type Paint } from "../ui/table.ts";
import type { Terminal } from "../ui/terminal.ts";
import { hanging, plain } from "../ui/text.ts";
import { iso } from "../ui/time.ts";
import { chooseNames, EVERYTHING, selectionOf } from "./choose.ts";
import { wholeNumber } from "./options.ts";
import { fromState } from "./status.ts";
import { verb } from "./verb.ts";

const LIMIT = 50;

/** What happened to the chosen secrets, newest last, beside where they stand. */
export const history = verb({
  parse: (args, options) => ({
    selection: selectionOf(args, options),
    limit: wholeNumber(options, "--limit") ?? LIMIT,
  }),
  run: async ({ selection, limit }, session) => {
    const { names = [], tag, store, issuer } = selection;
    const everything = names.length === 0 && tag === undefined && store === undefined && issuer === undefined;
    const chosen = await chooseNames(session, everything ? { all: true } : selection);
    const { audit: log } = await session.state();
    const entries = (await Promise.all(chosen.map((name) => log.read(name, limit * 2)))).flat();
    // What was about to be done is for the audit; here stands what was.
    const newest = entries
      .filter(({ type }) => type !== "intent")
      .toSorted((a, b) => a.at - b.at || a.seq - b.seq)
      .slice(-limit);
    const report = await fromState(session, chosen, everything);
    return { ...report, member: { history: newest.map(shown) }, text: (terminal) => text(newest, terminal) };
  },
});

/** The log as it is kept, hashes included; also of secrets that are forgotten. */
export const audit = verb({
  parse: ([name = null], options) => ({ name, limit: wholeNumber(options, "--limit") ?? LIMIT }),
  run: async ({ name, limit }, session) => {
    const entries = await (await session.state()).audit.read(name, limit);
    // Forgotten secrets have entries; a name without any is one of the policy, or a mistake.
    if (entries.length === 0 && name !== null && name !== EVERYTHING) await chooseNames(session, { names: [name] });
    return {
      outcome: "done",
      secrets: [],
      member: { audit: entries.map((entry) => ({ ...shown(entry), previous: entry.previous, hash: entry.hash })) },
      text: (terminal) => text(entries, terminal),
    };
  },
});

function shown({ secret, seq, at, actor, type, data }: AuditEntry) {
  return { secret, seq, at: iso(at), actor, type, data };
}

/** A table; on a terminal that is too narrow for it, a paragraph for each entry. */
function text(entries: readonly AuditEntry[], { width, style }: Terminal): string {
  if (entries.length === 0) return "nothing yet";
  const rows = entries.map(({ at, secret, type, actor, data }): [string, string, string, string, string] => {
    const details = Object.entries(data).filter(([, value]) => value !== null && value !== false);
    const told = details.map(([name, value]) => `${name}=${String(value)}`).join(" ");
    return [(iso(at) ?? "").slice(0, 19), secret, type, actor, told];
  });
  const wide = (heading: Paint) => table(["WHEN (UTC)", "SECRET", "WHAT", "WHO", "DETAILS"], rows, Infinity, heading);
  const isWide = wide((heading) => heading)
    .split("\n")
    .every((line) => line.length <= width);
  if (isWide) return wide(style.bold);
  return rows
    .map(([when, secret, type, actor, told]) => {
      const head = hanging(`${when}  `, plain(`${secret}  ${type}  by ${actor}`), width, 2);
      return told === "" ? head : `${head}\n${hanging("  ", plain(told), width)}`;
    })
    .join("\n");
}
