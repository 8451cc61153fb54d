import type { SecretPolicy } from "../config/model.ts";
import { suggestion } from "../config/nearest.ts";
import { replaceBy } from "../config/schedule.ts";
import type { Duration, Instant } from "../core/duration.ts";
import { formatAgo, formatDuration } from "../core/duration.ts";
import { living, type SecretState, type Version } from "../core/model.ts";
import { relative, iso } from "../ui/time.ts";
import { table, whole } from "../ui/table.ts";
import { choose, selectionOf } from "./choose.ts";
import type { SecretMember } from "./members.ts";
import { duration, list, usageError } from "./options.ts";
import { documentsOf } from "./documents.ts";
import { fromState } from "./status.ts";
import { verb, type Options } from "./verb.ts";

interface Finding {
  readonly secret: string;
  readonly reason: string;
  readonly message: string;
  /** ISO; null: nobody wrote down when. */
  readonly since: string | null;
  /** Whether it makes the command exit 5. */
  readonly fails: boolean;
}

/** What `--fail-on` may list: each is looked for by its own rule, except the last two, which are outcomes of a run. */
const KINDS = [
  "overdue",
  "expiring",
  "debt",
  "drift",
  "compromised",
  "unmanaged",
  "not-in-policy",
  "blocked",
  "failed",
] as const;
type Kind = (typeof KINDS)[number];

/** One thing that is wrong with a secret, and the kinds that it is of. */
interface Wrong {
  readonly kinds: readonly Kind[];
  readonly reason: string;
  readonly message: string;
  /** Wall clock. */
  readonly since: Instant | null;
}

/** For monitoring: from the state alone, exit 5 where something is wrong. */
export const check = verb({
  parse: (args, options) => ({
    selection: selectionOf(args, options),
    maxAge: duration(options, "--max-age"),
    grace: duration(options, "--grace") ?? 0,
    failOn: kindsOf(options),
  }),
  run: async ({ selection, maxAge, grace, failOn }, session) => {
    const names = (await choose(session, selection, "all")).map(({ name }) => name);
    const { secrets } = await session.policy();
    const everything = names.length === secrets.size;
    const documents = await documentsOf(await session.state(), names, everything ? "strays" : null);
    const report = await fromState(session, names, everything, documents);
    const now = session.now();
    const found = report.secrets.flatMap((member) => {
      const loaded = documents.read.get(member.name);
      const offset = loaded === undefined ? 0 : now - loaded.state.clock - loaded.age;
      const policy = secrets.get(member.name) ?? null;
      const judged = { policy, grace, maxAge, now, offset, isDamaged: documents.damaged.has(member.name) };
      return wrongWith(member, loaded?.state ?? null, judged).map((one): Finding => ({
        secret: member.name,
        reason: one.reason,
        message: one.message,
        since: iso(one.since),
        fails: one.kinds.some((kind) => failOn.has(kind)),
      }));
    });
    return {
      ...report,
      outcome: found.some(({ fails }) => fails) ? "found" : "done",
      complaints: [],
      member: { check: found },
      text: ({ width, style }) =>
        found.length === 0
          ? "nothing found"
          : table(
              [whole("SECRET"), whole("FOUND"), "SINCE", "WHY"],
              found.map(({ secret, reason, message, since, fails }) => [
                secret,
                { text: reason, paint: fails ? style.bad : style.dim },
                since === null ? "" : relative(Date.parse(since), now),
                message,
              ]),
              width,
              style.bold,
            ),
    };
  },
});

/** All kinds, unless `--fail-on` names some. */
function kindsOf(options: Options): ReadonlySet<Kind> {
  const words = list(options, "--fail-on");
  const unknown = words.find((word) => !(KINDS as readonly string[]).includes(word));
  if (unknown !== undefined)
    throw usageError(`--fail-on: unknown word ${JSON.stringify(unknown)}${suggestion(unknown, KINDS)}`);
  return new Set(words.length === 0 ? KINDS : (words as Kind[]));
}

interface Judged {
  /** null: it is not in the policy. */
  readonly policy: SecretPolicy | null;
  /** How long after it was due a secret is not late yet. */
  readonly grace: Duration;
  readonly maxAge: Duration | null;
  readonly now: Instant;
  /** Added to a document instant, gives wall time. */
  readonly offset: Duration;
  /** Its document cannot be read, so nobody knows what it is like. */
  readonly isDamaged: boolean;
}

function wrongWith(member: SecretMember, state: SecretState | null, judged: Judged): Wrong[] {
  const { policy, grace, maxAge, now, offset, isDamaged } = judged;
  const found: Wrong[] = [];
  const alive = state === null ? [] : living(state);
  const current = state?.versions.find(({ status }) => status === "current");
  if (current !== undefined)
    found.push(...overdue(member, current, { grace, maxAge, now }), ...expiring(current, policy, now));
  else if (alive.length === 0 && !isDamaged && member.reason !== "unmanaged")
    found.push({ kinds: ["unmanaged"], reason: "unmanaged", message: "never adopted or rotated", since: null });
  for (const { keyId, version, attempts, since } of member.debt) {
    const message = `${keyId ?? version} should be dead and is not proven dead, after ${attempts} attempts`;
    found.push({ kinds: ["debt"], reason: "debt", message, since: since === null ? null : Date.parse(since) });
  }
  const { incident = null, stopped = null, standing = null } = state ?? {};
  const leaked = alive.filter(({ compromised }) => compromised);
  for (const { id, keyId, status } of leaked) {
    const helps = incident === null ? `keyturn emergency ${member.name}` : "its emergency is under way";
    const message = `${keyId ?? id} has leaked and is not dead (${status}): ${helps}`;
    found.push({ kinds: ["compromised"], reason: "compromised", message, since: null });
  }
  if (member.reason === "compromised" && leaked.length > 0) return found;
  const { outcome, reason, message } = member;
  if (outcome === "blocked" || outcome === "failed") {
    const own = KINDS.find((kind) => kind === reason);
    const at = stopped?.at ?? (standing?.reason === reason ? standing.at : null);
    const since = at === null ? null : at + offset;
    found.push({ kinds: [outcome, ...(own === undefined ? [] : [own])], reason, message, since });
  }
  return found;
}

function overdue(
  { nextDue }: SecretMember,
  current: Version,
  { grace, maxAge, now }: Pick<Judged, "grace" | "maxAge" | "now">,
): Wrong[] {
  const late = (since: Instant, message: string): Wrong => ({ kinds: ["overdue"], reason: "overdue", message, since });
  if (maxAge === null) {
    const due = nextDue === null ? Infinity : Date.parse(nextDue);
    return due + grace < now ? [late(due, `due ${formatAgo(now - due)}`)] : [];
  }
  const made = current.createdAt ?? current.since;
  const age = now - made;
  const message = `its key is ${formatDuration(age)} old, allowed are ${formatDuration(maxAge)}`;
  return age > maxAge ? [late(made + maxAge, message)] : [];
}

/** The issuer ends it by itself, and an overlap hardly fits in any more. */
function expiring(current: Version, policy: SecretPolicy | null, now: Instant): Wrong[] {
  const since = policy === null ? null : replaceBy(current, policy);
  if (current.expiresAt === undefined || since === null || since > now) return [];
  const { keyId, id, expiresAt } = current;
  const message = `${keyId ?? id} ${expiresAt > now ? "ends" : "ended"} by itself ${relative(expiresAt, now)}`;
  return [{ kinds: ["expiring"], reason: "expiring", message, since }];
}
