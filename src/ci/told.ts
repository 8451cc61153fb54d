import { resolve } from "node:path";
import { hintOf, REASONS, type ReasonCode } from "../core/reasons.ts";
import { plain } from "../ui/text.ts";

/** One secret, as far as a runner hears of it. Dates are ISO texts. */
export interface ToldSecret {
  readonly name: string;
  readonly phase: string;
  readonly outcome: string;
  readonly message: string;
  readonly until: string | null;
  readonly nextDue: string | null;
  /** null: none is in flight. */
  readonly rotation: unknown;
  /** What helps it on. */
  readonly hints: readonly string[];
}

/** Something that `check` found. */
export interface ToldFinding {
  readonly secret: string;
  readonly reason: string;
  readonly message: string;
  readonly since: string | null;
  readonly fails: boolean;
}

/** What a whole command failed of. */
export interface ToldFailure {
  readonly code: string;
  /** One line for each thing that is wrong; with a place in a file as `file:line:column: why`. */
  readonly message: string;
  /** One a line. */
  readonly hint: string | null;
  /** null: nothing of it has a place. */
  readonly at: string | null;
}

/** How a command ended. */
export interface Told {
  /** null: it was not understood which. */
  readonly command: string | null;
  readonly outcome: string;
  readonly secrets: readonly ToldSecret[];
  readonly findings: readonly ToldFinding[];
  /** When a run has something to do next. */
  readonly nextDue: string | null;
  readonly failure: ToldFailure | null;
  /** What places in the failure are relative to. */
  readonly folder: string;
  /** What `--json` prints. */
  readonly document: string;
  /** Whether it is worth a place in the job's summary. */
  readonly summary: boolean;
}

/** A line that a runner shows beside the job, not only in its log. */
export interface Note {
  readonly level: "error" | "warning";
  readonly title: string;
  readonly message: string;
  readonly place?: { readonly file: string; readonly line: number; readonly column: number };
}

/** Runners show ten of each kind for a step and drop the others without a word. */
const MOST = 10;

/** What needs somebody's eye: of each level so many as a runner shows, the last of them saying how many more there are. */
export function notesOf({ command, secrets, findings, failure, folder }: Told): readonly Note[] {
  const notes: Note[] = secrets
    .filter(({ outcome }) => outcome === "failed" || outcome === "blocked")
    .map(({ name, outcome, message, hints }) => ({
      level: "error",
      title: `keyturn: ${name} ${outcome}`,
      message: withHints(message, hints),
    }));
  for (const one of findings) {
    const title = `keyturn: ${one.secret} ${one.reason}`;
    notes.push({ level: one.fails ? "error" : "warning", title, message: withHints(one.message, helpOf(one)) });
  }
  if (failure !== null) notes.push(...failureNotes(failure, `keyturn ${command ?? ""}`.trim(), folder));
  return (["error", "warning"] as const).flatMap((level) => atMost(notes.filter((note) => note.level === level)));
}

function failureNotes(failure: ToldFailure, title: string, folder: string): readonly Note[] {
  const lines = failure.message.split("\n");
  // Of several lines nobody knows any more which of them a hint is for: they stand in the summary.
  if (lines.length === 1) return [{ level: "error", title, ...placed(failure, folder, hintsOf(failure)) }];
  return lines.map((message) => ({ level: "error", title, ...placed({ ...failure, message }, folder, []) }));
}

function placed(
  { message, at }: ToldFailure,
  folder: string,
  hints: readonly string[],
): Pick<Note, "message" | "place"> {
  const [, file, line, column, why] = (at !== null && /^(.+?):(\d+):(\d+): (.+)$/.exec(message)) || [];
  if (file === undefined || why === undefined) return { message: withHints(message, hints) };
  const place = { file: resolve(folder, file), line: Number(line), column: Number(column) };
  return { message: withHints(why, hints), place };
}

function hintsOf({ hint }: ToldFailure): readonly string[] {
  return hint === null ? [] : hint.split("\n");
}

/** `check` calls a secret unmanaged whose first key is yet to come, too: there is nothing that could be adopted. */
function helpOf({ secret, reason }: ToldFinding): readonly string[] {
  if (reason === "unmanaged" || !Object.hasOwn(REASONS, reason)) return [];
  const hint = hintOf(reason as ReasonCode, secret);
  return hint === null ? [] : [hint];
}

function withHints(message: string, hints: readonly string[]): string {
  return [message, ...hints.map((hint) => `hint: ${hint}`)].join("\n");
}

function atMost(notes: readonly Note[]): readonly Note[] {
  if (notes.length <= MOST) return notes;
  const rest = notes.slice(MOST - 1);
  const message = `${rest.length} more, which a runner would not show: ${rest.map(({ title }) => title).join("; ")}`;
  return [...notes.slice(0, MOST - 1), { level: (rest[0] as Note).level, title: "keyturn", message }];
}

/** More rows than anybody reads, and far from the 1 MiB that GitHub takes. */
const MOST_ROWS = 200;

const WORST_FIRST = ["failed", "blocked", "locked", "waiting", "done"];

/** The job's summary in Markdown, worst first. */
export function markdownOf({ command, outcome, secrets, findings, nextDue, failure }: Told): string {
  const lines = [`### keyturn ${text(command ?? "")}: ${text(outcome)}`, ""];
  if (failure !== null) lines.push(...failureText(failure));
  if (command === "check" && failure === null) {
    const rows = findings.map((one) => [one.secret, one.reason, one.since ?? "", withHints(one.message, helpOf(one))]);
    lines.push(...(rows.length === 0 ? ["Nothing found.", ""] : table(["secret", "found", "since", "why"], rows)));
  } else if (secrets.length > 0) {
    const place = ({ outcome: one }: ToldSecret) => WORST_FIRST.indexOf(one);
    const rows = secrets
      .toSorted((a, b) => place(a) - place(b))
      .map((one) => [one.name, one.phase, one.outcome, withHints(one.message, one.hints), nextOf(one)]);
    lines.push(...table(["secret", "phase", "outcome", "why", "next"], rows));
  }
  if (nextDue !== null) lines.push(`Next due: ${text(nextDue)}`, "");
  return `${lines.join("\n")}\n`;
}

/** A rotation in flight, and one that did not come about, are not for the schedule's next date. */
function nextOf({ outcome, until, nextDue, rotation }: ToldSecret): string {
  return until ?? (outcome === "done" && rotation === null ? nextDue : null) ?? "";
}

function failureText(failure: ToldFailure): string[] {
  const [first = "", ...rest] = failure.message.split("\n");
  const code = `**${text(failure.code)}**`;
  const what =
    rest.length === 0 ? [`${code}: ${text(first)}`] : [code, "", ...[first, ...rest].map((one) => `- ${text(one)}`)];
  return [...what, "", ...hintsOf(failure).flatMap((hint) => [`hint: ${text(hint)}`, ""])];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const shown = rows.slice(0, MOST_ROWS).map((cells) => line(cells.map(cell)));
  const more = rows.length > MOST_ROWS ? [`And ${rows.length - MOST_ROWS} more.`, ""] : [];
  return [line(head), line(head.map(() => "---")), ...shown, "", ...more];
}

function cell(said: string): string {
  return said.split("\n").map(text).join("<br>");
}

/** Text that Markdown shows as it is: no markup, no HTML, no second line. */
function text(said: string): string {
  return plain(said)
    .replace(/[\\`*_{}[\]#|!~@:]/g, "\\$&")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}
