import { plain, wrap } from "./text.ts";

export type Paint = (text: string) => string;

/** A cell's text, or a text and how it is coloured. */
export type Cell = string | { readonly text: string; readonly paint: Paint };

const GAP = 2;
const NARROWEST = 8;

/**
 * Aligned columns under bold headings, no wider than `width`: what does not fit is wrapped inside its column, widest
 * column first, so that nothing is cut off.
 */
export function table(
  headings: readonly string[],
  rows: readonly (readonly Cell[])[],
  width: number,
  heading: Paint,
): string {
  const texts = rows.map((row) => row.map((cell) => plain(typeof cell === "string" ? cell : cell.text)));
  const natural = headings.map((name, column) =>
    Math.max(name.length, ...texts.map((row) => (row[column] ?? "").length)),
  );
  const widths = fit(natural, width);
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
      headings,
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

/** Takes from the widest columns until all fit. */
function fit(natural: readonly number[], width: number): number[] {
  const widths = [...natural];
  let excess = widths.reduce((sum, one) => sum + one, 0) + GAP * (widths.length - 1) - width;
  while (excess > 0) {
    const widest = Math.max(...widths);
    if (widest <= NARROWEST) break;
    widths[widths.lastIndexOf(widest)] = widest - 1;
    excess--;
  }
  return widths;
}

function same(text: string): string {
  return text;
}
