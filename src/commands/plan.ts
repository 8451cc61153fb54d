import { formatDuration } from "../core/duration.ts";
import { preview, type Preview } from "../engine/preview.ts";
import { mustReadWithin } from "../engine/timeline.ts";
import { hanging, plain } from "../ui/text.ts";
import { iso, relative } from "../ui/time.ts";
import { eachWired } from "./advance.ts";
import { choose, EVERYTHING, selectionOf } from "./choose.ts";
import { ranRow } from "./members.ts";
import { nextDue } from "./subject.ts";
import { verb } from "./verb.ts";

interface Plan {
  readonly secret: string;
  readonly next: string | null;
  readonly message: string;
  readonly timeline: readonly { readonly what: string; readonly at: string | null; readonly note: string | null }[];
  readonly warnings: readonly string[];
}

export const plan = verb({
  parse: (args, options) => selectionOf(args, options),
  run: async (selection, session) => {
    const secrets = await choose(session, selection, "all");
    const deps = await session.engine();
    const pausedAll = (await deps.state.load(EVERYTHING))?.state.paused ?? null;
    const plans = new Map<string, Plan>();
    const report = await eachWired(session, secrets, async (secret, ports) => {
      const seen = await preview(deps, ports, { looks: true, signal: session.signal, pausedAll });
      const within = mustReadWithin(ports.rules);
      const warnings =
        within > 0
          ? [`a consumer that reads or runs less often than every ${formatDuration(within)} will break`]
          : ["a consumer that keeps the old key will break"];
      if (ports.rules.usage === "none")
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

function planOf({ next, message, timeline }: Preview): Pick<Plan, "next" | "message" | "timeline"> {
  return { next, message, timeline: timeline.map(({ what, at, note = null }) => ({ what, at: iso(at), note })) };
}

const WHEN = 14;

function stepText({ what, at, note }: Plan["timeline"][number], now: number, width: number): string {
  const when = at === null ? "by hand" : relative(Date.parse(at), now);
  const text = plain(`${what}${note === null ? "" : ` (${note})`}`);
  return hanging(`  ${when}`.padEnd(WHEN) + " ", text, width);
}
