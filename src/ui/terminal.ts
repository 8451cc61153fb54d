import type { Writable } from "node:stream";
import { plain } from "./text.ts";
import { PLAIN, colours, wantsColour, type Style } from "./style.ts";

/** A stream as far as it is used here. */
export type Stream = Writable & { readonly isTTY?: boolean; readonly columns?: number };

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

const CLEAR_LINE = "\r\u001b[2K";

/** Data goes to stdout, everything else to stderr. */
export class Terminal {
  /** Of stdout and of stderr. */
  readonly style: Style;
  readonly errorStyle: Style;
  /** Somebody is there to be asked. */
  readonly interactive: boolean;
  #live = "";
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

  get stdin(): NodeJS.ReadableStream {
    return this.options.stdin;
  }

  get stderr(): Stream {
    return this.options.stderr;
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

  /** Where things stand: one live line on a terminal, lines with their time elsewhere. */
  progress(line: string): void {
    if (this.options.quiet) return;
    if (!this.isLive) {
      this.#line(`${new Date(this.options.now()).toISOString().slice(0, 19)}Z ${plain(line)}`);
      return;
    }
    this.#live = plain(line).slice(0, columnsOf(this.options.stderr) - 1);
    this.options.stderr.write(CLEAR_LINE + this.errorStyle.dim(this.#live));
  }

  /** Takes the live line away. */
  clear(): void {
    if (this.#live === "") return;
    this.#live = "";
    this.options.stderr.write(CLEAR_LINE);
  }

  #line(line: string): void {
    this.clear();
    this.options.stderr.write(`${line}\n`);
  }
}

/** Some terminals say that they have 0. */
function columnsOf({ columns = 0 }: Stream): number {
  return columns > 0 ? columns : 80;
}
