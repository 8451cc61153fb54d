import type { SecretPolicy } from "../config/model.ts";
import { ProviderError } from "../core/errors.ts";
import type { SecretState } from "../core/model.ts";
import { outcomeOf, type ReasonCode } from "../core/reasons.ts";
import type { SecretPorts } from "../engine/deps.ts";
import { tellsOf } from "../engine/outbox.ts";
import { overlooked } from "../engine/overlooked.ts";
import { preview } from "../engine/preview.ts";
import { outside, type Description, type Finding } from "../ports/context.ts";
import { hanging, plain } from "../ui/text.ts";
import { eachWired } from "./advance.ts";
import { choose, selectionOf } from "./choose.ts";
import { AMONG_MACHINES, filesOf } from "./disk.ts";
import { ranRow } from "./members.ts";
import { pauseOf } from "./pause.ts";
import type { Session } from "./session.ts";
import { nextDue } from "./subject.ts";
import { verb } from "./verb.ts";

/** One thing that was looked at. */
interface Examined {
  readonly secret: string;
  /** `issuer api-keys`, `store prod: prod/payments`, `rotation`. */
  readonly part: string;
  readonly verdict: "ok" | "warning" | "blocks";
  readonly reason: string | null;
  readonly message: string;
  readonly hint: string | null;
}

/** It blocks once the document has no room left for events. */
const FORGED = {
  part: "audit log",
  verdict: "warning",
  reason: "state-damaged",
  message: "the newest entry is another one than the document tells of",
  hint: "keep a copy of the state, then find out who wrote there",
} as const;

/** Reads only. Slots, names and everything else that a rotation would trip over show in its preview. */
export const doctor = verb({
  parse: (args, options) => selectionOf(args, options),
  run: async (selection, session) => {
    const secrets = await choose(session, selection, "all");
    const deps = await session.engine();
    const examined: Examined[] = [];
    const report = await eachWired(session, secrets, async (secret, ports) => {
      const parts = await examine(session, secret, ports);
      const newest = (await deps.state.audit.read(secret.name, 1)).at(-1);
      const pausedAll = await pauseOf(deps.state, secret, session.now());
      const seen = await preview(deps, ports, { looks: true, force: true, signal: session.signal, pausedAll });
      const blocks = seen.outcome === "blocked" || seen.outcome === "failed";
      const stands = blocks || seen.reason === "paused";
      const rotation: Examined = {
        secret: secret.name,
        part: "rotation",
        verdict: blocks ? "blocks" : "ok",
        reason: blocks ? seen.reason : null,
        message: stands ? seen.message : "could begin now",
        hint: stands ? (seen.hints[0] ?? null) : null,
      };
      if (newest !== undefined && seen.state !== null && tellsOf(seen.state, newest) === false)
        parts.push({ ...FORGED, secret: secret.name });
      parts.push(...(await unseen(session, secret, ports, seen.state)));
      examined.push(...parts, rotation);
      const worst = [...parts, rotation].find(({ verdict }) => verdict === "blocks");
      const wall = session.now();
      const row = ranRow(
        { name: secret.name, policy: secret, rules: ports.rules, nextDue: await nextDue(secret, seen.state, wall) },
        seen,
        wall,
      );
      const said =
        worst === undefined
          ? { outcome: "done" as const, reason: "not-due" as const, message: "in order" }
          : {
              outcome: "blocked" as const,
              reason: worst.reason as ReasonCode,
              message: `${worst.part}: ${worst.message}`,
            };
      return { member: { ...row.member, ...said, until: null }, hints: worst?.hint == null ? [] : [worst.hint] };
    });
    return {
      ...report,
      member: { doctor: examined },
      text: ({ style, width }) => {
        const marks = { ok: style.good("ok     "), warning: style.warn("warning"), blocks: style.bad("blocks ") };
        const room = " ".repeat(10);
        const line = (one: Examined) => {
          const text = hanging(room, plain(`${one.part}: ${one.message}`), width).slice(room.length);
          // Of what blocks, the hint that counts stands below everything.
          const hint =
            one.verdict === "warning" && one.hint !== null ? [hanging(`${room}hint: `, plain(one.hint), width)] : [];
          return [`  ${marks[one.verdict]} ${text}`, ...hint].join("\n");
        };
        const of = (name: string) => examined.filter(({ secret }) => secret === name);
        return secrets
          .filter(({ name }) => of(name).length > 0)
          .map(({ name }) => [style.bold(name), ...of(name).map(line)].join("\n"))
          .join("\n\n");
      },
    };
  },
});

async function examine(session: Session, secret: SecretPolicy, ports: SecretPorts): Promise<Examined[]> {
  const ctx = outside(session.signal);
  const parts: [string, () => Promise<Description>][] = [
    [`issuer ${secret.issuer.type}`, () => ports.issuer.describe(ctx)],
  ];
  const files = (await filesOf(session, [secret])).get(secret.name) ?? [];
  const warned: Examined[] = [];
  for (const { id, use, name } of ports.rules.deliveries) {
    const store = ports.stores.get(id);
    const part = `store ${use}: ${name}`;
    if (store !== undefined) parts.push([part, () => store.describe(ctx)]);
    if (files.some((file) => file.id === id))
      warned.push({ secret: secret.name, part, verdict: "warning", reason: null, ...AMONG_MACHINES });
  }
  const examined: Examined[] = [];
  for (const [part, describe] of parts) {
    const about = { secret: secret.name, part };
    try {
      const { binding, findings } = await describe();
      if (findings.length === 0) examined.push({ ...about, verdict: "ok", reason: null, message: binding, hint: null });
      examined.push(...findings.map((finding) => ({ ...about, ...verdictOf(finding, ports.rules.strict) })));
    } catch (error) {
      const { kind, message, detail } = ProviderError.from(error);
      const reason = kind === "unauthenticated" ? "credentials-missing" : "provider-unavailable";
      examined.push({
        ...about,
        verdict: outcomeOf(reason) === "failed" ? "blocks" : "warning",
        reason,
        message,
        hint: detail.hint ?? null,
      });
    }
  }
  return [...examined, ...warned];
}

/** What could be in use although the policy does not name it. Where it cannot be looked at, that is told of already. */
async function unseen(session: Session, secret: SecretPolicy, ports: SecretPorts, state: SecretState | null) {
  const found = await overlooked(ports, state, outside(session.signal)).catch((error: unknown) => {
    if (error instanceof ProviderError) return [];
    throw error;
  });
  return found.map(({ delivery, message, hint }): Examined => {
    const one = secret.deliveries.find(({ id }) => id === delivery);
    const part = one === undefined ? `issuer ${secret.issuer.type}` : `store ${one.use ?? one.type}: ${one.name}`;
    return { secret: secret.name, part, verdict: "warning", reason: null, message, hint };
  });
}

function verdictOf({ reason, blocks, message, hint }: Finding, strict: boolean) {
  return {
    verdict: blocks || strict ? ("blocks" as const) : ("warning" as const),
    reason,
    message,
    hint: hint ?? null,
  };
}
