/**
 * The text of a `.env` file as its readers see it: `dotenv` and its ports, and shells that source it.
 *
 * Texts are byte strings (latin1), so that whatever encoding the rest of a file has comes out as it went in;
 * only values are read and written as UTF-8. Where readers differ, only what all of them read alike is written.
 */

export type Quote = "" | "'" | '"';

/** One `KEY=value` of the file; `start` and `end` enclose the value with its quotes. */
export interface Definition {
  readonly key: string;
  readonly value: string;
  readonly quote: Quote | "`";
  readonly start: number;
  readonly end: number;
}

const HEAD = /^[ \t]*(?:export[ \t]+)?([\w.-]+)(?:[ \t]*=|:(?=[ \t]))[ \t]*/;
/** What may stand behind a closing quote; anything else, and the quotes are part of an unquoted value. */
const END = String.raw`(?=[ \t]*(?:#[^\r\n]*)?(?:[\r\n]|$))`;
const QUOTED = ["'", '"', "`"].map((quote) => new RegExp(`${quote}(?:\\\\${quote}|[^${quote}])*${quote}${END}`, "y"));
const BYTE_ORDER_MARK = "\xef\xbb\xbf";

/** Names that every reader takes, shells included. */
export const KEY = /^[A-Za-z_]\w*$/;

/** The definitions in their order; the last one of a key is the one in force. */
export function scan(text: string): Definition[] {
  const found: Definition[] = [];
  let at = text.startsWith(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK.length : 0;
  while (at < text.length) {
    const rest = text.slice(at, lineEnd(text, at));
    const head = HEAD.exec(rest);
    if (head) {
      const definition = valueAt(text, at + head[0].length, head[1] as string);
      found.push(definition);
      at = definition.end;
    }
    at = lineEnd(text, at) + 1;
  }
  return found;
}

/** Key → value in force, for everything in the file. */
export function parse(text: string): Map<string, string> {
  return new Map(scan(text).map(({ key, value }) => [key, value]));
}

/**
 * The text with `values` in it: every definition of a key gets the new value where it stands, in its own quoting
 * where that can hold it; missing keys are added at the end.
 * @returns null when a value cannot be written so that every reader gets it back, and the rest stays as it reads now
 */
export function edit(text: string, values: Readonly<Record<string, string>>): string | null {
  const missing = new Set(Object.keys(values));
  let edited = "";
  let copied = 0;
  for (const definition of scan(text)) {
    const value = Object.hasOwn(values, definition.key) ? values[definition.key] : undefined;
    if (value === undefined) continue;
    const encoded = encode(value, definition.quote);
    if (encoded === null) return null;
    missing.delete(definition.key);
    edited += text.slice(copied, definition.start) + encoded;
    copied = definition.end;
  }
  edited += text.slice(copied);

  const newline = /\r?\n/.exec(text)?.[0] ?? "\n";
  const complete = text === "" || text === BYTE_ORDER_MARK || text.endsWith("\n");
  for (const key of missing) {
    const encoded = encode(values[key] as string, "");
    if (encoded === null) return null;
    edited += complete ? `${key}=${encoded}${newline}` : `${newline}${key}=${encoded}`;
  }
  return readsAs(edited, new Map([...parse(text), ...Object.entries(values)])) ? edited : null;
}

/** An unbalanced quote elsewhere in the file can swallow what follows: what was meant is read back before it counts. */
function readsAs(text: string, meant: ReadonlyMap<string, string>): boolean {
  const read = parse(text);
  return read.size === meant.size && [...meant].every(([key, value]) => read.get(key) === value);
}

/** A value as it stands in the file, in the style that is there if it can be; null when no style holds it for all readers. */
function encode(value: string, style: Definition["quote"]): string | null {
  const styles: readonly Quote[] = style === '"' ? ['"', "'"] : style === "'" ? ["'", '"'] : ["", "'", '"'];
  const fit = styles.find((quote) => FITS[quote](value));
  return fit === undefined || /[\0\r]/.test(value) ? null : fit + Buffer.from(value, "utf8").toString("latin1") + fit;
}

const FITS: Record<Quote, (value: string) => boolean> = {
  "": (value) => /^[\w./:@%+,=-]+$/.test(value),
  // Some readers take \\ and \' for escapes even here, and a backslash before the closing quote for one of them.
  "'": (value) => !/'|\\\\|\\$/.test(value),
  '"': (value) => !/["\\$`]/.test(value),
};

function valueAt(text: string, start: number, key: string): Definition {
  for (const quoted of QUOTED) {
    const token = match(quoted, text, start);
    if (token === null) continue;
    const quote = token[0] as "'" | '"' | "`";
    return { key, quote, value: unquote(token.slice(1, -1), quote), start, end: start + token.length };
  }
  const token = /^[^#\r\n]*/.exec(text.slice(start, lineEnd(text, start)))?.[0].replace(/[ \t]+$/, "") ?? "";
  return { key, quote: "", value: decode(token), start, end: start + token.length };
}

function unquote(inner: string, quote: "'" | '"' | "`"): string {
  const value = decode(inner.replace(/\r\n?/g, "\n"));
  return quote === '"' ? value.replace(/\\n/g, "\n").replace(/\\r/g, "\r") : value;
}

function decode(bytes: string): string {
  return Buffer.from(bytes, "latin1").toString("utf8");
}

function match(pattern: RegExp, text: string, at: number): string | null {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? null;
}

/** Index of the next end of line, or the end of the text. */
function lineEnd(text: string, from: number): number {
  const end = text.slice(from).search(/[\r\n]/);
  return end < 0 ? text.length : from + end;
}
