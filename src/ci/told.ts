import { plain } from "../ui/text.ts";

/** One secret, as far as a runner hears of it. Dates are ISO texts. */
export interface ToldSecret {
  readonly name: string;
  readonly phase: string;
  readonly outcome: string;
  readonly message: string;
  readonly until: string | null;
  readonly nextDue: string | null;
}

/** Something that `check` found. */
export interface ToldFinding {
  readonly secret: string;
  readonly reason: string;
  readonly message: string;
  readonly since: string | null;
  readonly fails: boolean;
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
  /** What the whole command failed of. */
  readonly failure: { readonly code: string; readonly message: string } | null;
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
}

/** Runners show ten of each kind for a step and drop the others without a word. */
const MOST = 10;

/** What needs somebody's eye: of each level so many as a runner shows, the last of them saying how many more there are. */
export function notesOf({ command, secrets, findings, failure }: Told): readonly Note[] {
  const notes: Note[] = secrets
    .filter(({ outcome }) => outcome === "failed" || outcome === "blocked")
    .map(({ name, outcome, message }) => ({ level: "error", title: `keyturn: ${name} ${outcome}`, message }));
  for (const { secret, reason, message, fails } of findings)
    notes.push({ level: fails ? "error" : "warning", title: `keyturn: ${secret} ${reason}`, message });
  if (failure !== null)
    notes.push({ level: "error", title: `keyturn ${command ?? ""}`.trim(), message: failure.message });
  return (["error", "warning"] as const).flatMap((level) => atMost(notes.filter((note) => note.level === level)));
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
  if (failure !== null) lines.push(`**${text(failure.code)}**: ${text(failure.message)}`, "");
  if (command === "check" && failure === null) {
    const rows = findings.map((one) => [one.secret, one.reason, one.since ?? "", one.message]);
    lines.push(...(rows.length === 0 ? ["Nothing found.", ""] : table(["secret", "found", "since", "why"], rows)));
  } else if (secrets.length > 0) {
    const place = ({ outcome: one }: ToldSecret) => WORST_FIRST.indexOf(one);
    const rows = secrets
      .toSorted((a, b) => place(a) - place(b))
      .map((one) => [one.name, one.phase, one.outcome, one.message, one.until ?? one.nextDue ?? ""]);
    lines.push(...table(["secret", "phase", "outcome", "why", "next"], rows));
  }
  if (nextDue !== null) lines.push(`Next due: ${text(nextDue)}`, "");
  return `${lines.join("\n")}\n`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const shown = rows.slice(0, MOST_ROWS).map((cells) => line(cells.map(text)));
  const more = rows.length > MOST_ROWS ? [`And ${rows.length - MOST_ROWS} more.`, ""] : [];
  return [line(head), line(head.map(() => "---")), ...shown, "", ...more];
}

/** Text that Markdown shows as it is: no markup, no HTML, no second line. */
function text(said: string): string {
  return plain(said)
    .replace(/[\\`*_{}[\]#|!~@:]/g, "\\$&")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}
