import type { Duration } from "../core/duration.ts";
import { formatDuration } from "../core/duration.ts";
import { living, type SecretState } from "../core/model.ts";
import { table, whole } from "../ui/table.ts";
import { choose, selectionOf } from "./choose.ts";
import type { SecretMember } from "./members.ts";
import { duration } from "./options.ts";
import { documentsOf, fromState } from "./status.ts";
import { verb } from "./verb.ts";

interface Finding {
  readonly secret: string;
  readonly reason: string;
  readonly message: string;
}

/** For monitoring: from the state alone, exit 5 where something is wrong. */
export const check = verb({
  parse: (args, options) => ({ selection: selectionOf(args, options), maxAge: duration(options, "--max-age") }),
  run: async ({ selection, maxAge }, session) => {
    const names = (await choose(session, selection, "all")).map(({ name }) => name);
    const everything = names.length === (await session.policy()).secrets.size;
    const report = await fromState(session, names, everything);
    const documents = await documentsOf(session, null);
    const found = report.secrets.flatMap((member) => {
      const state = documents.get(member.name)?.state ?? null;
      return findingsOf(member, state, maxAge, session.now()).map(([reason, message]): Finding => ({
        secret: member.name,
        reason,
        message,
      }));
    });
    return {
      ...report,
      outcome: found.length > 0 ? "found" : "done",
      complaints: [],
      member: { check: found },
      text: ({ width, style }) =>
        found.length === 0
          ? "nothing found"
          : table(
              [whole("SECRET"), whole("FOUND"), "WHY"],
              found.map((one) => [one.secret, one.reason, one.message]),
              width,
              style.bold,
            ),
    };
  },
});

/** Reason and message of each thing that is wrong with one secret. */
function findingsOf(
  member: SecretMember,
  state: SecretState | null,
  maxAge: Duration | null,
  now: number,
): [string, string][] {
  const found: [string, string][] = [];
  if (state === null || living(state).length === 0) return [["unmanaged", "never adopted or rotated"]];
  const late = lateness(member, state, maxAge, now);
  if (late !== null) found.push(["overdue", late]);
  for (const { keyId, version, attempts } of member.debt) {
    found.push(["debt", `${keyId ?? version} should be dead and is not proven dead, after ${attempts} attempts`]);
  }
  const leaked = living(state).filter(({ compromised }) => compromised);
  for (const { id, keyId, status } of leaked) {
    const helps = state.incident === null ? `keyturn emergency ${member.name}` : "its emergency is under way";
    found.push(["compromised", `${keyId ?? id} has leaked and is not dead (${status}): ${helps}`]);
  }
  if (member.reason === "compromised" && leaked.length > 0) return found;
  if (member.outcome === "blocked" || member.outcome === "failed") found.push([member.reason, member.message]);
  return found;
}

function lateness(
  { nextDue }: SecretMember,
  { versions }: SecretState,
  maxAge: Duration | null,
  now: number,
): string | null {
  const current = versions.find(({ status }) => status === "current");
  if (current === undefined) return null;
  if (maxAge === null)
    return nextDue !== null && Date.parse(nextDue) < now
      ? `due ${formatDuration(now - Date.parse(nextDue))} ago`
      : null;
  const age = now - (current.createdAt ?? current.since);
  return age > maxAge ? `its key is ${formatDuration(age)} old, allowed are ${formatDuration(maxAge)}` : null;
}
