import { plain } from "../ui/text.ts";
import { relative } from "../ui/time.ts";
import { table, whole, type Cell, type Heading } from "../ui/table.ts";
import type { Terminal } from "../ui/terminal.ts";
import { chooseNames } from "./choose.ts";
import { paintOf, type SecretMember } from "./members.ts";
import { fromState } from "./status.ts";
import { verb } from "./verb.ts";

export const show = verb({
  parse: ([name = ""]) => ({ name }),
  run: async ({ name }, session) => {
    const report = await fromState(session, await chooseNames(session, { names: [name] }), false);
    const { status: _, ...member } = report.member ?? {};
    return {
      ...report,
      member,
      text: (terminal) => report.secrets.map((secret) => page(secret, terminal, session.now())).join("\n\n"),
    };
  },
});

/** Everything of one secret, section by section; empty ones are left out. */
function page(secret: SecretMember, terminal: Terminal, now: number): string {
  const { bold, bad } = terminal.style;
  const when = (at: string | null): string => (at === null ? "" : relative(Date.parse(at), now));
  const section = (headings: readonly Heading[], rows: readonly (readonly Cell[])[]): string[] =>
    rows.length === 0 ? [] : [table(headings, rows, terminal.width, bold)];
  const { rotation, lease } = secret;
  const facts = [
    `${bold(secret.name)}: ${secret.phase}, ${paintOf(secret.outcome, terminal)(secret.outcome)} (${secret.reason}): ${plain(secret.message)}`,
    ...(secret.until === null ? [] : [`until ${when(secret.until)}`]),
    ...(secret.owner === null ? [] : [`owner ${plain(secret.owner)}`]),
    ...(secret.nextDue === null ? [] : [`due ${when(secret.nextDue)}`]),
    ...(rotation === null
      ? []
      : [
          `rotation ${rotation.id}: ${rotation.reason}, by ${plain(rotation.actor)}, begun ${when(rotation.startedAt)}`,
        ]),
    ...(lease === null
      ? []
      : [`lease of ${plain(lease.actor)} on ${plain(lease.host)}, process ${lease.pid}, since ${when(lease.since)}`]),
    ...secret.holds.map(
      (hold) =>
        `held by ${plain(hold.by)} ${when(hold.at)}: ${plain(hold.reason)}${hold.until === null ? "" : `, ends ${when(hold.until)}`}`,
    ),
  ];
  return [
    facts.join("\n"),
    ...section(
      [whole("VERSION"), whole("KEY"), whole("STATUS"), "ISSUED", "ENDS", "LAST USED", "BY"],
      secret.versions.map((one) => [
        one.version,
        one.keyId ?? "",
        one.compromised ? { text: `${one.status}, leaked`, paint: bad } : one.status,
        when(one.issuedAt),
        when(one.expiresAt),
        when(one.lastUsedAt),
        one.lastUsedBy.join(", "),
      ]),
    ),
    ...section(
      ["STORE", "NAME", whole("SERVES"), "CONFIRMED", "ERROR"],
      secret.stores.map((one) => [one.use, one.name, one.serves ?? "", when(one.confirmedAt), one.lastError ?? ""]),
    ),
    ...section(
      ["CONSUMER", "REQUIRED", "ADOPTED", "ON OLD KEY"],
      secret.consumers.map((one) => [
        one.name,
        one.required ? "yes" : "no",
        when(one.adoptedAt),
        when(one.lastOnOldKey),
      ]),
    ),
    ...section(
      [whole("DEBT"), "SINCE", "ATTEMPTS", "ERROR"],
      secret.debt.map((one) => [one.keyId ?? one.version, when(one.since), String(one.attempts), one.lastError ?? ""]),
    ),
  ].join("\n\n");
}
