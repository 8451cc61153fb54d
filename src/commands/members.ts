import type { SecretPolicy } from "../config/model.ts";
import type { Instant } from "../core/duration.ts";
import { newState, type SecretState } from "../core/model.ts";
import type { ProviderError, UserError } from "../core/errors.ts";
import { hintOf, outcomeOf, REASONS, type Outcome, type ReasonCode } from "../core/reasons.ts";
import type { Now, SecretRules } from "../core/rules.ts";
import { describeState, type StateReport } from "../engine/report.ts";
import { helpFor, type RunResult } from "../engine/result.ts";
import { failureOf } from "../ui/failure.ts";
import type { Paint } from "../ui/table.ts";
import { table, whole } from "../ui/table.ts";
import type { Terminal } from "../ui/terminal.ts";
import { iso, isoFrom, relative } from "../ui/time.ts";
import { standingOf, type Pause } from "./standing.ts";
import type { Complaint } from "./verb.ts";

/** One secret, as every command's document shows it: dates are ISO texts, what is absent is null. */
export interface SecretMember extends StateReport {
  readonly outcome: Outcome;
  readonly reason: ReasonCode;
  readonly message: string;
  readonly until: string | null;
  readonly nextDue: string | null;
  readonly owner: string | null;
  /** What this command did. */
  readonly actions: readonly {
    readonly action: string;
    readonly at: string | null;
    readonly version: string | null;
    readonly keyId: string | null;
  }[];
}

/** A secret and what helps it on. */
export interface Row {
  readonly member: SecretMember;
  readonly hints: readonly string[];
}

export interface Subject {
  readonly name: string;
  /** null: it is not in the policy. */
  readonly policy: SecretPolicy | null;
  /** null: nobody has managed it yet. */
  readonly state: SecretState | null;
  /** null: its adapters are not loaded. */
  readonly rules: SecretRules | null;
  readonly now: Now;
  /** A pause of everything; left out where only a run's answer is shown. */
  readonly pausedAll?: Pause | null;
  /** Wall clock. */
  readonly nextDue: Instant | null;
}

/** From the document alone. */
export function rowOf({ name, policy, state, rules, now, pausedAll = null, nextDue }: Subject): Row {
  const document = state ?? newState(name, now.doc);
  const offset = now.wall - now.doc;
  const report = describeState(document, rules, offset, now.doc);
  const { until, ...standing } = standingOf(document, { policy, rules, pausedAll, now });
  const paused = pausedAll === null ? document.paused : null;
  return {
    member: {
      ...report,
      observedAt: state === null ? null : report.observedAt,
      ...standing,
      until: isoFrom(until === null ? null : until + offset),
      nextDue: iso(nextDue),
      owner: policy?.owner ?? null,
      actions: [],
    },
    hints: standing.outcome === "done" ? [] : helpFor({ ...standing, until }, name, { paused }),
  };
}

/** What a run, or a look, said on top. */
export function withSaid(
  row: Row,
  said: Pick<SecretMember, "outcome" | "reason" | "message" | "until">,
  hints: readonly string[],
): Row {
  const { outcome, reason, message, until } = said;
  return { member: { ...row.member, outcome, reason, message, until }, hints };
}

/** What a failure in our own words is to one secret: the same in a run's answer and in a worker's metrics. */
export interface Verdict extends Pick<SecretMember, "outcome" | "reason" | "message"> {
  readonly hints: readonly string[];
}

export function verdictOf(error: UserError | ProviderError, name: string): Verdict {
  const { code, lines, hints, exit } = failureOf(error);
  const reason = Object.hasOwn(REASONS, code) ? (code as ReasonCode) : "provider-unavailable";
  const outcome = exit === 3 ? "blocked" : exit === 4 ? "locked" : "failed";
  const usual = hintOf(reason, name);
  const helps = hints.length > 0 || usual === null ? hints : [usual];
  return { outcome, reason, message: lines.join("; "), hints: helps };
}

/** A word that was refused: in that secret's entry of this document, and nowhere else. */
export function refused(row: Row, reason: ReasonCode, message: string): Row {
  const usual = outcomeOf(reason);
  // Whatever the reason usually means: what a person asked for was not done.
  const said = { outcome: usual === "done" || usual === "waiting" ? ("blocked" as const) : usual, reason, message };
  return withSaid(row, { ...said, until: null }, hintsOf(said, row.member.name));
}

/** What a run or a look ended in. */
export function ranRow(subject: Omit<Subject, "state" | "now">, result: RunResult, wall: Instant): Row {
  const row = rowOf({ ...subject, state: result.state, now: { doc: wall - result.offset, wall } });
  const actions = result.actions.map(({ action, wall: at, version, keyId }) => ({
    action,
    at: iso(at),
    version,
    keyId,
  }));
  const { member, hints } = withSaid(row, { ...result, until: isoFrom(result.until) }, result.hints);
  return { member: { ...member, actions }, hints };
}

function hintsOf(
  { outcome, reason }: { readonly outcome: Outcome; readonly reason: ReasonCode },
  name: string,
): string[] {
  const hint = outcome === "done" ? null : hintOf(reason, name);
  return hint === null ? [] : [hint];
}

/** For stderr: everything that did not go as it should, and what helps on the rest. */
export function complaintsOf(rows: readonly Row[]): Complaint[] {
  const wrong = rows
    .filter(({ member }) => member.outcome !== "done" && member.outcome !== "waiting")
    .map(({ member, hints }) => ({
      secret: member.name,
      line: `${member.name}: ${member.outcome}: ${member.message}`,
      hints,
    }));
  return [...wrong, ...hintsFor(rows.filter(({ member }) => member.outcome === "waiting"))];
}

/** A screenful of hints helps nobody. */
const MOST_HINTS = 5;

/** What helps on, without saying once more what the table says. */
export function hintsFor(rows: readonly Row[]): Complaint[] {
  const hints = [...new Set(rows.flatMap((row) => row.hints))];
  return hints.length === 0 || hints.length > MOST_HINTS ? [] : [{ line: null, hints }];
}

export function paintOf(outcome: Outcome, { style }: Terminal): Paint {
  switch (outcome) {
    case "done":
      return style.good;
    case "waiting":
    case "locked":
      return style.warn;
    case "blocked":
    case "failed":
      return style.bad;
  }
}

export function overview(members: readonly SecretMember[], terminal: Terminal, now: Instant): string {
  if (members.length === 0) return "no secrets";
  const rows = members.map((member) => [
    member.name,
    member.phase,
    { text: member.outcome, paint: paintOf(member.outcome, terminal) },
    member.message,
    nextOf(member, now),
  ]);
  return table(
    [whole("SECRET"), whole("PHASE"), whole("OUTCOME"), "WHY", "NEXT"],
    rows,
    terminal.width,
    terminal.style.bold,
  );
}

function nextOf({ until, nextDue, outcome, lease }: SecretMember, now: Instant): string {
  if (until !== null) {
    const at = Date.parse(until);
    return at > now ? relative(at, now) : lease === null ? "at the next run" : "now";
  }
  return nextDue !== null && outcome === "done" ? `due ${relative(Date.parse(nextDue), now)}` : "";
}
