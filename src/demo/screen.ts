import type { Stream } from "../ui/terminal.ts";

const UP = (lines: number) => (lines === 0 ? "" : `\u001b[${lines}A`);
const CLEAR_BELOW = "\r\u001b[J";
const HIDE_CURSOR = "\u001b[?25l";
const SHOW_CURSOR = "\u001b[?25h";

/** A few lines of a terminal that are drawn over in place; what stood above them stays. */
export class Screen {
  #height = 0;
  readonly #atExit = () => void this.stream.write(SHOW_CURSOR);

  constructor(private readonly stream: Stream & { readonly rows?: number }) {
    process.once("exit", this.#atExit);
    stream.write(HIDE_CURSOR);
  }

  /** What does not fit on the screen is left off at the end: the cursor cannot go up to what scrolled away. */
  draw(lines: readonly string[]): void {
    const shown = lines.slice(0, (this.stream.rows ?? 24) - 1);
    this.stream.write(`${UP(this.#height)}${CLEAR_BELOW}${shown.join("\n")}\n`);
    this.#height = shown.length;
  }

  /** The last picture stays. */
  close(): void {
    this.stream.write(SHOW_CURSOR);
    process.off("exit", this.#atExit);
  }
}
