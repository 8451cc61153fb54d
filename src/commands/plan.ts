import type { SecretPolicy } from "../config/model.ts";
import { formatDuration, type Instant } from "../core/duration.ts";
import { preview, type Preview } from "../engine/preview.ts";
import { endsAKey, mustReadWithin } from "../engine/timeline.ts";
import { table, whole } from "../ui/table.ts";
import { hanging, plain } from "../ui/text.ts";
import { iso, relative } from "../ui/time.ts";
import { eachWired } from "./advance.ts";
import { agendaOf, calendarOf } from "./agenda.ts";
import { choose, selectionOf } from "./choose.ts";
import { ranRow } from "./members.ts";
import { moment, text, usageError } from "./options.ts";
import { pauseOf } from "./pause.ts";
import type { Session } from "./session.ts";
import { documentsOf } from "./documents.ts";
import { fromState } from "./status.ts";
import { nextDue } from "./subject.ts";
import { verb, type Report } from "./verb.ts";

interface Plan {
  readonly secret: string;
  readonly next: string | null;
  readonly message: string;
  readonly timeline: readonly { readonly what: string; readonly at: string | null; readonly note: string | null }[];
  readonly warnings: readonly string[];
}

export const plan = verb({
  parse: (args, options) => {
    const [until, format] = [moment(options, "--until"), text(options, "--format")];
    if (format !== null && format !== "ics") throw usageError(`--format: ${JSON.stringify(format)} is not ics`);
    if (format !== null && until === null) throw usageError("--format ics is for --until", "add --until 90d");
    return { selection: selectionOf(args, options), until, format };
  },
  run: async ({ selection, until, format }, session) => {
    const secrets = await choose(session, selection, "all");
    if (until !== null) return agenda(session, secrets, session.now(), until, format === "ics");
    const deps = await session.engine();
    const plans = new Map<string, Plan>();
    const report = await eachWired(session, secrets, async (secret, ports) => {
      const pausedAll = await pauseOf(deps.state, secret, session.now());
      const seen = await preview(deps, ports, { looks: true, signal: session.signal, pausedAll });
      const within = mustReadWithin(ports.rules);
      const ends = seen.state !== null && endsAKey(seen.state);
      const warnings: string[] = [];
      if (ends && within > 0)
        warnings.push(`a consumer that reads or runs less often than every ${formatDuration(within)} will break`);
      else if (ends) warnings.push("a consumer that keeps the old key will break");
      if (ends && ports.rules.usage === "none")
        warnings.push("blind: no usage signal; acks and twice the minimum overlap stand in");
      if (ports.rules.issuer.maxKeys < 2)
        warnings.push("one slot: the old key is dead as soon as the new one is made, and rollback may be refused");
      plans.set(secret.name, { secret: secret.name, ...planOf(seen), warnings });
      const wall = session.now();
      return ranRow(
        { name: secret.name, policy: secret, rules: ports.rules, nextDue: await nextDue(secret, seen.state, wall) },
        seen,
        wall,
      );
    });
    const all = secrets.flatMap(({ name }) => plans.get(name) ?? []);
    return {
      ...report,
      member: { plan: all },
      text: ({ style, width }) =>
        all
          .map((one) =>
            [
              style.bold(one.secret) +
                hanging(`${one.secret}: `, plain(one.message), width, 4).slice(one.secret.length),
              ...one.timeline.map((step) => stepText(step, session.now(), width)),
              ...one.warnings.map((line) => hanging("  ! ", line, width)),
            ].join("\n"),
          )
          .join("\n\n"),
    };
  },
});

/** From the state alone. */
async function agenda(
  session: Session,
  secrets: readonly SecretPolicy[],
  now: Instant,
  until: (now: Instant) => Instant,
  asCalendar: boolean,
): Promise<Report> {
  const names = secrets.map(({ name }) => name);
  const documents = await documentsOf(await session.state(), names);
  const { starts, truncated } = await agendaOf(
    secrets.map((policy) => ({ policy, state: documents.read.get(policy.name)?.state ?? null })),
    now,
    until(now),
  );
  const report = await fromState(session, names, false, documents);
  return {
    ...report,
    outcome: "done",
    complaints: truncated.map(({ secret, at }) => ({
      line: `${secret} starts more often than can be listed: nothing of it is after ${iso(at)}`,
      hints: [],
    })),
    member: {
      calendar: starts.map((one) => ({ ...one, at: iso(one.at) })),
      truncated: truncated.map(({ secret, at }) => ({ secret, after: iso(at) })),
    },
    text: ({ width, style }) =>
      starts.length === 0
        ? "nothing starts by schedule until then"
        : table(
            ["STARTS", "IN", whole("SECRET"), "HELD BACK BY"],
            starts.map(({ secret, at, delayedBy }) => [
              (iso(at) ?? "").replace(/:\d\d(\.\d+)?Z$/, "Z"),
              relative(at, now),
              secret,
              delayedBy ?? "",
            ]),
            width,
            style.bold,
          ),
    ...(asCalendar && { instead: await calendarOf(starts, now) }),
  };
}

function planOf({ next, message, timeline }: Preview): Pick<Plan, "next" | "message" | "timeline"> {
  return { next, message, timeline: timeline.map(({ what, at, note = null }) => ({ what, at: iso(at), note })) };
}

const WHEN = 14;

function stepText({ what, at, note }: Plan["timeline"][number], now: number, width: number): string {
  const when = at === null ? "by hand" : relative(Date.parse(at), now);
  const text = plain(`${what}${note === null ? "" : ` (${note})`}`);
  return hanging(`  ${when}`.padEnd(WHEN) + " ", text, width);
}
