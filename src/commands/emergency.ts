import type { SecretPolicy } from "../config/model.ts";
import { formatAgo, formatDuration, type Duration } from "../core/duration.ts";
import { living, type DeliveryState, type Version } from "../core/model.ts";
import { meantBy } from "../core/said.ts";
import type { Word } from "../core/words.ts";
import { confirm } from "../ui/prompt.ts";
import { count, plain } from "../ui/text.ts";
import { advance } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { documentsOf, type Documents } from "./documents.ts";
import { rowOf, withSaid, type Row, type SecretMember } from "./members.ts";
import { duration, flag, list, usageError } from "./options.ts";
import type { Session } from "./session.ts";
import { subjectOf } from "./subject.ts";
import { verb } from "./verb.ts";

const GRACE = 300_000;
/** Whoever holds the lease now is at the same work, or hangs and loses it. */
const PATIENCE = 600_000;
/** So long after an emergency has ended the same command means the keys that are dead by now. */
const AGAIN = 3_600_000;

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
    const documents = await documentsOf(await session.state(), names);
    const leaked = leakedBySecret(documents, names, versions, keyIds);
    const chosen = secrets.filter(({ name }) => leaked === null || leaked.has(name));
    const known = leaked === null ? await answered(session, chosen, documents) : new Map<string, Row>();
    const affected = chosen.filter(({ name }) => !known.has(name));
    const victims = victimsOf(documents, affected, leaked);
    const keys = count([...victims.values()].flatMap((of) => of.versions).length, "key");
    const where = affected.length > 5 ? count(affected.length, "secret") : affected.map(({ name }) => name).join(", ");
    const question = {
      command: "emergency",
      question: `replace and kill ${keys} of ${where}`,
      facts: [
        ...affected.map(({ name }) => killText(name, victims.get(name), documents.damaged.has(name))),
        termsText(wishes),
      ],
    };
    if (affected.length > 0) await confirm(question, session.globals.yes, session.terminal, session.signal);
    const word = ({ name }: SecretPolicy): Word => ({
      word: "emergency",
      ...wishes,
      versions: leaked?.get(name) ?? null,
      overrideHold: overrideHold.includes(name),
    });
    const report = await advance(session, chosen, {
      start: true,
      sit: "dead",
      waitMax: null,
      patience: PATIENCE,
      regardless: true,
      word,
      known,
    });
    return {
      ...report,
      text: (terminal) =>
        [
          report.text(terminal),
          ...report.secrets.map((member) =>
            documents.damaged.has(member.name)
              ? plain(`${member.name}: nobody knows: ${member.message}`)
              : endText(member, victims.get(member.name)),
          ),
        ].join("\n"),
    };
  },
});

/**
 * Secrets whose keys an emergency has replaced just now, while others of the chosen ones are still in theirs: that is
 * the same command, typed again after it was killed, and it means the keys that it meant, not the ones that took their
 * place. Once all of them have ended it is a new emergency.
 */
async function answered(
  session: Session,
  secrets: readonly SecretPolicy[],
  { read }: Documents,
): Promise<Map<string, Row>> {
  const rows = new Map<string, Row>();
  const isResumed = secrets.some(({ name }) => (read.get(name)?.state.incident ?? null) !== null);
  for (const { name } of isResumed ? secrets : []) {
    const loaded = read.get(name);
    if (loaded === undefined) continue;
    const { last, rotation, incident, clock, versions } = loaded.state;
    const ago = clock + loaded.age - (last?.endedAt ?? -Infinity);
    if (rotation !== null || incident !== null || last?.reason !== "emergency" || ago > AGAIN) continue;
    // Its key has to be the answer: an emergency over a version that was still on its way replaces nothing.
    const current = versions.find(({ status }) => status === "current");
    if (current === undefined || current.since < (last.startedAt ?? Infinity)) continue;
    const message = `an emergency replaced its keys ${formatAgo(ago)}; to replace this one too, name it: --key-version`;
    const said = { outcome: "done", reason: "not-due", message, until: null } as const;
    rows.set(name, withSaid(rowOf(await subjectOf(session, name, loaded)), said, []));
  }
  return rows;
}

/** Secret → the versions named by their id or their key's; null: none was named, so all count. */
function leakedBySecret(
  { read, damaged }: Documents,
  names: readonly string[],
  versions: readonly string[],
  keyIds: readonly string[],
) {
  if (versions.length + keyIds.length === 0) return null;
  const leaked = new Map<string, string[]>();
  const missing = new Set([...versions, ...keyIds]);
  for (const name of names) {
    const loaded = read.get(name);
    const named = (loaded === undefined ? [] : living(loaded.state)).filter(
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
      damaged.size === 0
        ? "keyturn show SECRET lists them"
        : `what cannot be read may have them: ${[...damaged.keys()].join(", ")}`,
    );
  return leaked;
}

interface Victims {
  readonly versions: readonly Version[];
  readonly deliveries: readonly DeliveryState[];
}

function victimsOf(
  { read }: Documents,
  secrets: readonly SecretPolicy[],
  leaked: ReadonlyMap<string, readonly string[]> | null,
): Map<string, Victims> {
  const victims = new Map<string, Victims>();
  for (const { name } of secrets) {
    const loaded = read.get(name);
    if (loaded === undefined) continue;
    victims.set(name, {
      versions: meantBy(loaded.state, leaked?.get(name) ?? null),
      deliveries: loaded.state.deliveries,
    });
  }
  return victims;
}

/** What will be killed, and who reads it now. */
function killText(name: string, victims: Victims | undefined, isDamaged: boolean): string {
  if (isDamaged) return `${name}: its document cannot be read, and nothing can be done for it`;
  if (victims === undefined || victims.versions.length === 0) return `${name}: no living key is recorded`;
  const keys = victims.versions.map(({ id, keyId, status }) => {
    const places = victims.deliveries.filter(({ serves }) => serves === id).map((one) => `${one.use} ${one.name}`);
    const served = places.length === 0 ? "" : `, served by ${places.join(", ")}`;
    return `${keyId ?? "a key not known yet"} (${id}, ${status}${served})`;
  });
  return `${name}: ${keys.join("; ")}`;
}

function termsText(wishes: {
  readonly grace: Duration;
  readonly revokeFirst: boolean;
  readonly acceptOutage: boolean;
}) {
  const order = wishes.revokeFirst ? "killed first, replaced then" : "replaced first";
  const grace =
    wishes.grace === 0
      ? "use of them is not waited for"
      : `use of them is waited for up to ${formatDuration(wishes.grace)}`;
  return `${order}; ${grace}; ${wishes.acceptOutage ? "an outage is accepted" : "no outage is accepted"}`;
}

/** Whether the leaked keys are dead: what a responder has to know at the end. */
function endText({ name, versions, current, message }: SecretMember, victims: Victims | undefined): string {
  const ids = new Set(victims?.versions.map(({ id }) => id));
  const leaked = versions.filter(({ version }) => ids.has(version));
  const keys = (all: typeof leaked): string => all.map(({ keyId, version }) => keyId ?? version).join(", ");
  const alive = leaked.filter(
    ({ status, keyId }) => status !== "destroyed" && !(status === "abandoned" && keyId === null),
  );
  const dead = leaked.filter((one) => !alive.includes(one));
  const parts = [
    ...(dead.length > 0 ? [`dead: ${keys(dead)}`] : []),
    ...(alive.length > 0 ? [`still alive: ${keys(alive)}, because: ${message}`] : []),
    current === null
      ? "nothing is served"
      : `served now: ${current.keyId ?? current.version}${current.compromised ? ", leaked" : ""}`,
  ];
  return plain(`${name}: ${parts.join("; ")}`);
}
