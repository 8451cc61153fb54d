import { resolveState } from "../config/state.ts";
import { preview } from "../engine/preview.ts";
import type { Loaded } from "../ports/state.ts";
import { hanging, plain } from "../ui/text.ts";
import { relative } from "../ui/time.ts";
import { living } from "../core/model.ts";
import { eachWired, failedRow, reportOf } from "./advance.ts";
import { choose, EVERYTHING, selectionOf } from "./choose.ts";
import { documentsOf, type Documents } from "./documents.ts";
import { hintsFor, ranRow, rowOf, type Row } from "./members.ts";
import { flag, usageError } from "./options.ts";
import { pauseOf } from "./pause.ts";
import { pauseFor } from "./timing.ts";
import type { Session } from "./session.ts";
import type { Pause } from "./standing.ts";
import { nextDue, subjectOf } from "./subject.ts";
import { verb, type Report } from "./verb.ts";

const REDRAW = 2000;

export const status = verb({
  parse: (args, options) => ({
    selection: selectionOf(args, options),
    watch: flag(options, "--watch"),
    refresh: flag(options, "--refresh"),
  }),
  run: async ({ selection, watch, refresh }, session) => {
    if (watch && session.globals.json) throw usageError("--watch draws for people: --json prints one document");
    const secrets = await choose(session, selection, "all");
    const names = secrets.map(({ name }) => name);
    const everything = (selection.names ?? []).length === 0 && names.length === (await session.policy()).secrets.size;
    const look = (): Promise<Report> => (refresh ? refreshed(session, secrets) : fromState(session, names, everything));
    const report = await look();
    if (!watch) return report;
    session.terminal.redraw(report.text(session.terminal));
    while (!session.signal.aborted && !session.terminal.isClosed) {
      await pauseFor(REDRAW, session.signal);
      if (!session.signal.aborted) session.terminal.redraw((await look()).text(session.terminal));
    }
    return { ...report, instead: "" };
  },
});

/** From the state alone, with secrets that the policy no longer speaks of when everything was asked for. */
export async function fromState(
  session: Session,
  names: readonly string[],
  everything: boolean,
  known: Documents | null = null,
): Promise<Report> {
  const state = await session.state();
  const { read: documents, damaged } = known ?? (await documentsOf(state, names, everything ? "strays" : null));
  const paused = documents.get(EVERYTHING)?.state.paused ?? null;
  const { secrets } = await session.policy();
  const strays = everything ? [...documents.keys()].filter((name) => !secrets.has(name) && !name.startsWith("@")) : [];
  const rows: Row[] = [];
  for (const name of [...names, ...strays]) {
    const loaded = documents.get(name) ?? null;
    const damage = damaged.get(name);
    if (damage !== undefined) rows.push(await failedRow(session, name, damage));
    else if (secrets.has(name) || (loaded !== null && living(loaded.state).length > 0))
      rows.push(await rowFromState(session, name, loaded, paused));
  }
  const members = rows.map(({ member }) => member);
  const newest = Math.max(
    ...members.map(({ observedAt }) => (observedAt === null ? -Infinity : Date.parse(observedAt))),
  );
  const isEmpty =
    documents.size === 0 && damaged.size === 0 && (await documentsOf(state, [], "strays")).read.size === 0;
  const place = isEmpty ? await placeOf(session) : null;
  const report = reportOf(session, rows);
  return {
    ...report,
    complaints: hintsFor(rows),
    member: {
      status: { pausedAll: paused === null ? null : { reason: paused.reason, by: paused.by }, secrets: members.length },
    },
    text: (terminal) => {
      const lines = [report.text(terminal)];
      if (paused !== null) lines.push(`everything is paused by ${paused.by}: ${paused.reason}`);
      if (place !== null) lines.push(terminal.style.dim(plain(`no state yet at ${place}`)));
      if (Number.isFinite(newest)) {
        const when = relative(newest, session.now());
        const told = `from the state as of ${when}; --refresh looks at the providers`;
        lines.push(terminal.style.dim(hanging("", told, terminal.width, 2)));
      }
      return lines.join("\n");
    },
  };
}

/** Where state is kept, for people: of its settings only the path, for others may be credentials. */
async function placeOf(session: Session): Promise<string> {
  const { adapter, settings } = await resolveState(await session.policy(), session.globals.state);
  const { path } = settings;
  return typeof path === "string" ? `${adapter.type}:${path}` : adapter.type;
}

/** The adapters of a rotation in flight are made, never called: their traits tell who still needs the old key. */
async function rowFromState(
  session: Session,
  name: string,
  loaded: Loaded | null,
  pausedAll: Pause | null,
): Promise<Row> {
  const policy = (await session.policy()).secrets.get(name);
  const inFlight = policy !== undefined && loaded !== null && loaded.state.rotation !== null;
  const ports = inFlight ? await session.ports(policy).catch(() => null) : null;
  return rowOf(await subjectOf(session, name, loaded, ports?.rules ?? null, pausedAll));
}

async function refreshed(session: Session, secrets: Awaited<ReturnType<typeof choose>>): Promise<Report> {
  const deps = await session.engine();
  const report = await eachWired(session, secrets, async (secret, ports) => {
    const pausedAll = await pauseOf(deps.state, secret, session.now());
    const seen = await preview(deps, ports, { looks: true, signal: session.signal, pausedAll });
    const wall = session.now();
    return ranRow(
      { name: secret.name, policy: secret, rules: ports.rules, nextDue: await nextDue(secret, seen.state, wall) },
      seen,
      wall,
    );
  });
  return { ...report, complaints: [] };
}
