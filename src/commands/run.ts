import type { SecretPolicy } from "../config/model.ts";
import { relative } from "../ui/time.ts";
import { advance, failedRow } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { warnOfFiles } from "./disk.ts";
import { documentsOf } from "./documents.ts";
import { withHeartbeat } from "./heartbeat.ts";
import { rowOf, type Row, type SecretMember } from "./members.ts";
import { duration, flag, text, usageError } from "./options.ts";
import type { Session } from "./session.ts";
import { restOf, subjectOf } from "./subject.ts";
import { verb, type Options, type Report } from "./verb.ts";

/** `--wait` and `--wait-max`. */
export function waitOf(options: Options) {
  const wait = flag(options, "--wait");
  const waitMax = duration(options, "--wait-max");
  if (waitMax !== null && !wait) throw usageError("--wait-max says how long --wait may last", "add --wait");
  return { wait, waitMax };
}

/** A scheduled run that stays is always a bounded one: `--wait-max` alone says it all. */
function stayOf(options: Options) {
  return waitOf(text(options, "--wait-max") === null ? options : { ...options, wait: true });
}

export const run = verb({
  parse: (args, options) => ({ ...stayOf(options), selection: selectionOf(args, options) }),
  run: async ({ wait, waitMax, selection }, session) => {
    const secrets = await choose(session, selection, "all");
    const work = async () => {
      await warnOfFiles(session, secrets);
      const known = await resting(session, secrets);
      const report = await advance(session, secrets, { start: true, sit: wait ? "all" : "none", waitMax, known });
      return withNext(report, session);
    };
    const isAll = secrets.length === (await session.policy()).secrets.size;
    return isAll ? withHeartbeat(session, work) : work();
  },
});

/** The same report, saying when a run has something to do next: what a scheduler may sleep until. */
function withNext(report: Report, session: Session): Report {
  const next = nextOf(report.secrets);
  return {
    ...report,
    member: { run: { nextDue: next?.at ?? null, secret: next?.secret ?? null } },
    text: (terminal) => {
      const text = report.text(terminal);
      if (next === null) return text;
      const when =
        Date.parse(next.at) > session.now() ? relative(Date.parse(next.at), session.now()) : "at the next run";
      return `${text}\n${terminal.style.dim(`next: ${next.secret} ${when} (${next.at})`)}`;
    },
  };
}

/** The earliest moment at which time alone gives a run something to do; a blocked secret waits for a person. */
function nextOf(secrets: readonly SecretMember[]): { readonly secret: string; readonly at: string } | null {
  const ahead = secrets.flatMap(({ name: secret, outcome, until, nextDue, rotation }) => {
    const at = until ?? (rotation === null ? nextDue : null);
    return at === null || outcome === "blocked" ? [] : [{ secret, at }];
  });
  return ahead.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at))[0] ?? null;
}

/** Those with nothing to do, or nothing that can be done, told by one reading of the state: no adapter is made, no reference resolved for them. */
async function resting(session: Session, secrets: readonly SecretPolicy[]): Promise<ReadonlyMap<string, Row>> {
  const policy = await session.policy();
  const { read, damaged } = await documentsOf(
    await session.state(),
    secrets.map(({ name }) => name),
  );
  const rows = new Map<string, Row>();
  for (const secret of secrets) {
    const damage = damaged.get(secret.name);
    if (damage !== undefined) rows.set(secret.name, await failedRow(session, secret.name, damage));
    const loaded = read.get(secret.name);
    if (loaded === undefined || (await restOf(policy, secret, loaded, session.now())) === "works") continue;
    rows.set(secret.name, rowOf(await subjectOf(session, secret.name, loaded)));
  }
  return rows;
}
