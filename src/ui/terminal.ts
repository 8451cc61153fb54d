import type { Writable } from "node:stream";
import { plain } from "./text.ts";
import { PLAIN, colours, wantsColour, type Style } from "./style.ts";

/** A stream as far as it is used here. */
export type Stream = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };

export interface TerminalOptions {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly noColour: boolean;
  /** Wall clock, ms. */
  readonly now: () => number;
}

const CLEAR_BELOW = "\r\u001b[J";
const UP = (lines: number) => (lines === 0 ? "" : `\u001b[${lines}A`);

/** Data goes to stdout, everything else to stderr. */
export class Terminal {
  /** Of stdout and of stderr. */
  readonly style: Style;
  readonly errorStyle: Style;
  /** Somebody is there to be asked. */
  readonly interactive: boolean;
  /** The lines below all others, which are drawn over. */
  #live: readonly string[] = [];
  #isClosed = false;

  private constructor(
    private readonly options: TerminalOptions,
    style: Style,
    errorStyle: Style,
  ) {
    this.style = style;
    this.errorStyle = errorStyle;
    options.stdout.once("error", () => (this.#isClosed = true));
    this.interactive = options.stdin.isTTY === true && options.stderr.isTTY === true;
  }

  static async open(options: TerminalOptions): Promise<Terminal> {
    const painted = (stream: Stream) => wantsColour(options.env, options.noColour, stream.isTTY === true);
    const [out, err] = [painted(options.stdout), painted(options.stderr)];
    const style = out || err ? await colours() : PLAIN;
    return new Terminal(options, out ? style : PLAIN, err ? style : PLAIN);
  }

  /** Columns that a table may take; where no terminal is, lines are for programs and end where they end. */
  get width(): number {
    return this.options.stdout.isTTY === true ? Math.max(40, columnsOf(this.options.stdout)) : Infinity;
  }

  /** The same of stderr, for prose. */
  get proseWidth(): number {
    return this.isLive ? Math.max(40, columnsOf(this.options.stderr)) : Infinity;
  }

  get stdin(): NodeJS.ReadableStream {
    return this.options.stdin;
  }

  get stderr(): Stream {
    return this.options.stderr;
  }

  /** Of stderr. */
  get isColoured(): boolean {
    return this.errorStyle !== PLAIN;
  }

  get isLive(): boolean {
    return this.options.stderr.isTTY === true;
  }

  /** Nobody reads stdout any more. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Data, on stdout. */
  out(text: string): void {
    this.clear();
    this.options.stdout.write(text === "" || text.endsWith("\n") ? text : `${text}\n`);
  }

  /** Draws over what stands on the screen; on no terminal, writes below. */
  redraw(text: string): void {
    if (this.options.stdout.isTTY === true) this.options.stdout.write("\u001b[H\u001b[2J");
    this.out(text);
  }

  /** One line of prose; silent with `--quiet`. */
  say(line: string): void {
    if (!this.options.quiet) this.#line(line);
  }

  /** One line that is shown whatever the verbosity. */
  announce(line: string): void {
    this.#line(line);
  }

  /** One line for `--verbose`. */
  debug(line: string): void {
    if (this.options.verbose) this.#line(this.errorStyle.dim(plain(line)));
  }

  /** Where things stand, where no terminal is: a line with its time. */
  progress(line: string): void {
    if (!this.options.quiet) this.#line(`${new Date(this.options.now()).toISOString().slice(0, 19)}Z ${plain(line)}`);
  }

  /** Where things stand, on a terminal: lines that stay at the bottom until they are drawn over or taken away. */
  live(lines: readonly string[]): void {
    if (this.options.quiet) return;
    const { stderr } = this.options;
    const width = columnsOf(stderr) - 1;
    // The cursor cannot go up to what has scrolled away.
    const height = Math.max(1, (stderr.rows || 24) - 2);
    const shown = lines.slice(0, height).map((line) => plain(line).slice(0, width));
    this.#draw(shown);
  }

  /** Takes the live lines away. */
  clear(): void {
    if (this.#live.length > 0) this.#draw([]);
  }

  #draw(lines: readonly string[], above = ""): void {
    const before = this.#live.length === 0 ? "" : UP(this.#live.length - 1) + CLEAR_BELOW;
    this.#live = lines;
    this.options.stderr.write(before + above + lines.map((line) => this.errorStyle.dim(line)).join("\n"));
  }

  #line(line: string): void {
    this.#draw(this.#live, `${line}\n`);
  }
}

/** Some terminals say that they have 0. */
function columnsOf({ columns = 0 }: Stream): number {
  return columns > 0 ? columns : 80;
}
