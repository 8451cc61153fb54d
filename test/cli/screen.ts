/** What a terminal shows in the end, with all that has scrolled away above it. */
export interface Shown {
  readonly text: string;
  /** Lines that were longer than the terminal is wide, when they were written. */
  readonly tooLong: readonly string[];
}

// oxlint-disable-next-line no-control-regex
const PARTS = /\u001b\[([\d;?]*)([A-Za-z])|\u001b[78=>]|([\r\n\b])|([^\u001b\r\n\b]+)/g;

/** Draws the text as a terminal does: as far as our screens go. */
export function draw(text: string, cols: number): Shown {
  const lines: string[] = [""];
  const tooLong: string[] = [];
  let row = 0;
  let column = 0;
  const down = (count: number) => {
    row += count;
    while (lines.length <= row) lines.push("");
  };
  const put = (what: string) => {
    const before = (lines[row] as string).padEnd(column);
    const line = before.slice(0, column) + what + before.slice(column + what.length);
    lines[row] = line;
    column += what.length;
    if (line.trimEnd().length > cols) tooLong.push(line);
  };
  const moves: Readonly<Record<string, (count: number) => void>> = {
    A: (count) => (row = Math.max(0, row - (count || 1))),
    B: (count) => down(count || 1),
    C: (count) => (column += count || 1),
    D: (count) => (column = Math.max(0, column - (count || 1))),
    G: (count) => (column = (count || 1) - 1),
    J: () => {
      lines.length = row + 1;
      lines[row] = (lines[row] as string).slice(0, column);
    },
    K: (count) => (lines[row] = count === 2 ? "" : (lines[row] as string).slice(0, column)),
  };
  for (const [, count = "", move, control, what] of text.matchAll(PARTS)) {
    if (what !== undefined) put(what);
    else if (control === "\r") column = 0;
    else if (control === "\b") column = Math.max(0, column - 1);
    else if (control === "\n") down(1);
    else if (move !== undefined) moves[move]?.(Number.parseInt(count, 10) || 0);
  }
  return { text: lines.map((line) => line.trimEnd()).join("\n"), tooLong };
}
