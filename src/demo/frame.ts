import { formatDuration, type Instant } from "../core/duration.ts";
import type { Style } from "../ui/style.ts";
import { table, type Cell } from "../ui/table.ts";
import { plain, wrap } from "../ui/text.ts";
import { relative } from "../ui/time.ts";
import type { Client } from "./clients.ts";
import { STEPS, tail } from "./words.ts";

/** Everything that is on the screen at one moment. */
export interface Picture {
  readonly seconds: number;
  readonly perSecond: number;
  readonly failed: number;
  /** Index in the steps; their number when all are behind. */
  readonly step: number;
  readonly clients: readonly Client[];
  /** Who holds on to its key; `reminded`: until it was told. */
  readonly straggler: { readonly name: string; readonly reminded: boolean };
  readonly oldKey: string | null;
  readonly doing: string;
  /** Newest last. */
  readonly notes: readonly string[];
}

const NOTES = 6;
const DOING = 2;
/** Of the screen, whatever its size: wider lines are harder to read. */
const WIDEST = 80;

/** Lines of at most `width` columns; with six clients 22 of them. */
export function frame(picture: Picture, now: Instant, columns: number, style: Style): string[] {
  const width = Math.min(columns, WIDEST) - 1;
  const failed = `${picture.failed} failed`;
  const numbers = `${picture.seconds.toFixed(0)} s · ${picture.perSecond.toFixed(0)} requests/s · `;
  const title = "keyturn demo";
  const gap = " ".repeat(Math.max(1, width - title.length - numbers.length - failed.length));
  const doing = wrap(plain(picture.doing), width).slice(0, DOING);
  const notes = picture.notes.slice(-NOTES).map((note) => style.dim(clip(plain(note), width)));
  return [
    style.bold(title) + gap + numbers + (picture.failed === 0 ? style.good(failed) : style.bad(failed)),
    "",
    steps(picture.step, style),
    "",
    ...clients(picture, now, width, style).split("\n"),
    "",
    ...pad(doing, DOING),
    "",
    ...pad(notes, NOTES),
  ];
}

function steps(at: number, style: Style): string {
  const shown = STEPS.map((name, index) => {
    if (index < at) return style.good(`✓ ${name}`);
    return index === at ? style.bold(`▸ ${name}`) : style.dim(`  ${name}`);
  });
  return shown.join("   ");
}

function clients({ clients: all, straggler, oldKey }: Picture, now: Instant, width: number, style: Style): string {
  const rows = all.map(({ name, keeps, report }): Cell[] => {
    const isOld = report.keyId === oldKey;
    const key = oldKey === null ? tail(report.keyId) : `${tail(report.keyId)} ${isOld ? "old" : "new"}`;
    return [
      name,
      report.keyId === null ? "-" : { text: key, paint: oldKey === null ? same : isOld ? style.warn : style.good },
      String(report.requests),
      report.failed === 0 ? "0" : { text: String(report.failed), paint: style.bad },
      report.lastAt === null ? "-" : relative(Math.min(report.lastAt, now), now),
      name === straggler.name ? habit(straggler.reminded, style) : `every ${formatDuration(keeps)}`,
    ];
  });
  const headings = ["client", "uses key", "requests", "failed", "last use", "looks for a new key"];
  return table(headings, rows, width, style.dim);
}

function habit(reminded: boolean, style: Style): Cell {
  return reminded ? { text: "was reminded, and did", paint: style.good } : { text: "once an hour", paint: style.warn };
}

function pad(lines: readonly string[], height: number): string[] {
  return [...lines, ...Array.from({ length: Math.max(0, height - lines.length) }, () => "")];
}

function clip(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}

function same(text: string): string {
  return text;
}
