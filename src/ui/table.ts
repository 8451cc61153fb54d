import { plain, wrap } from "./text.ts";

export type Paint = (text: string) => string;

/** A cell's text, or a text and how it is coloured. */
export type Cell = string | { readonly text: string; readonly paint: Paint };

/** A column's name; `whole`: its words are ids or the like and are never broken. */
export type Heading = string | { readonly text: string; readonly whole: true };

/** Ids and names are copied and searched for: their columns break at spaces only. */
export function whole(text: string): Heading {
  return { text, whole: true };
}

const GAP = 2;
const NARROWEST = 8;

/**
 * Aligned columns under bold headings, no wider than `width`: what does not fit is wrapped inside its column, widest
 * column first, so that nothing is cut off. Only whole words that have no room make lines longer.
 */
export function table(
  headings: readonly Heading[],
  rows: readonly (readonly Cell[])[],
  width: number,
  heading: Paint,
): string {
  const texts = rows.map((row) => row.map((cell) => plain(typeof cell === "string" ? cell : cell.text)));
  const names = headings.map((one) => (typeof one === "string" ? one : one.text));
  const longest = (column: number, measure: (text: string) => number): number =>
    Math.max(...[names[column] as string, ...texts.map((row) => row[column] ?? "")].map(measure));
  const widths = fit(
    headings.map((one, column) => ({
      natural: longest(column, (text) => text.length),
      least: typeof one === "string" ? NARROWEST : longest(column, longestWord),
    })),
    width,
  );
  const line = (cells: readonly string[], paints: readonly Paint[]): string =>
    cells
      .map((cell, column) => {
        const padding = column === cells.length - 1 ? "" : " ".repeat((widths[column] as number) - cell.length + GAP);
        return (cell === "" ? "" : (paints[column] as Paint)(cell)) + padding;
      })
      .join("")
      .trimEnd();

  const lines = [
    line(
      names,
      headings.map(() => heading),
    ),
  ];
  for (const [index, row] of texts.entries()) {
    const paints = (rows[index] as readonly Cell[]).map((cell) => (typeof cell === "string" ? same : cell.paint));
    const cells = row.map((text, column) => wrap(text, widths[column] as number));
    const height = Math.max(...cells.map((cell) => cell.length));
    for (let at = 0; at < height; at++)
      lines.push(
        line(
          cells.map((cell) => cell[at] ?? ""),
          paints,
        ),
      );
  }
  return lines.join("\n");
}

/** Takes from the widest columns that have something to give until all fit. */
function fit(columns: readonly { readonly natural: number; readonly least: number }[], width: number): number[] {
  const widths = columns.map(({ natural }) => natural);
  let excess = widths.reduce((sum, one) => sum + one, 0) + GAP * (widths.length - 1) - width;
  for (; excess > 0; excess--) {
    const giving = widths.map((one, column) => (one > (columns[column]?.least ?? 0) ? one : 0));
    const widest = Math.max(...giving);
    if (widest === 0) break;
    widths[giving.lastIndexOf(widest)] = widest - 1;
  }
  return widths;
}

function longestWord(text: string): number {
  return Math.max(...text.split(" ").map((word) => word.length));
}

function same(text: string): string {
  return text;
}
