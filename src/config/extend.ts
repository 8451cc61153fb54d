import { isDeepStrictEqual } from "node:util";
import { isMap, isScalar, parse, parseDocument, stringify, type Node, type Pair } from "yaml";
import { UserError } from "../core/errors.ts";
import { isRecord } from "./path.ts";
import type { Source } from "./source.ts";

/** One key of a policy that is to be written: with a plain value, keys below it, or a list of maps. */
export type Line = {
  readonly key: string;
  /** What it means: a comment above it. */
  readonly about?: string | undefined;
} & (
  | { readonly value: unknown }
  | { readonly lines: readonly Line[] }
  | { readonly items: readonly (readonly Line[])[] }
);

/** New entries of two sections of a policy. */
export interface Addition {
  readonly stores: readonly Line[];
  readonly secrets: readonly Line[];
}

const SECTIONS = ["stores", "secrets"] as const;
const WIDTH = 80;
const HEAD = `# The rotation policy: who makes which keys, and where consumers read them.
# keyturn validate checks it, keyturn schema describes all that may stand here.
version: 1
`;
const ABOUT = { stores: "Stores by name, for several secrets to use.", secrets: "What is rotated, by name." };

/**
 * The text of a policy with new entries in it: a whole one where there is none yet. What stood there stays as it
 * stood, comments and all; only JSON is set anew, with the indentation that it had.
 * @throws UserError `policy-not-extended`, exit 2, where that cannot be done safely
 */
export function extendPolicy(source: Source | null, addition: Addition): string {
  const all = SECTIONS.filter((section) => addition[section].length > 0);
  if (source === null) return `${HEAD}\n${additionText(addition)}`;
  if (/^\s*\{/.test(source.text)) return extendJson(source, addition);
  let text = source.text;
  for (const section of all) text = insert(text, section, addition, source.shown);
  // Whatever the text looks like: it has to say what it said, and the new entries, and nothing else.
  const wanted = merged(source.data, addition);
  if (!isDeepStrictEqual(parsed(text), wanted)) throw refusal(source.shown, "it is too unusual");
  return text;
}

/** The new entries alone, with comments, as they would stand in a policy of their own. */
export function additionText(addition: Addition): string {
  const all = SECTIONS.filter((section) => addition[section].length > 0);
  return all.map((section) => `${block([sectionOf(section, addition)]).join("\n")}\n`).join("\n");
}

/** The lines as the data that they stand for. */
export function dataOf(lines: readonly Line[]): Record<string, unknown> {
  return Object.fromEntries(
    lines.map((line) => [
      line.key,
      "lines" in line ? dataOf(line.lines) : "items" in line ? line.items.map(dataOf) : line.value,
    ]),
  );
}

function merged(data: Readonly<Record<string, unknown>>, addition: Addition): Record<string, unknown> {
  const next: Record<string, unknown> = { ...data };
  for (const section of SECTIONS) {
    const there = next[section];
    const added = dataOf(addition[section]);
    if (Object.keys(added).length > 0) next[section] = { ...(isRecord(there) ? there : {}), ...added };
  }
  return next;
}

function extendJson({ text, shown, root, data }: Source, addition: Addition): string {
  let whole: Record<string, unknown>;
  try {
    whole = JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw refusal(shown, "it is written in braces and is no JSON");
  }
  const next = merged(data, addition);
  const [key] = root;
  const indent = /\n([ \t]+)"/.exec(text)?.[1] ?? "  ";
  const end = /\s*$/.exec(text)?.[0] ?? "";
  return JSON.stringify(key === undefined ? next : { ...whole, [key]: next }, null, indent) + end;
}

function insert(text: string, section: (typeof SECTIONS)[number], addition: Addition, shown: string): string {
  const { contents } = parseDocument(text, { uniqueKeys: false, logLevel: "silent" });
  if (!isMap(contents) || contents.flow === true) throw refusal(shown, "it is no plain map of keys");
  const pair = contents.items.find((item: Pair) => isScalar(item.key) && item.key.value === section);
  if (pair === undefined) return splice(text, text.length, ["", ...block([sectionOf(section, addition)])]);
  const { value } = pair;
  const isEmpty = value === null || (isScalar(value) ? value.value === null : isMap(value) && value.items.length === 0);
  if (isEmpty) {
    const [from, to] = (value as Node | null)?.range ?? [0, 0];
    const [, key] = (pair.key as Node).range ?? [0, text.length];
    // What stands there for nothing (`{}`, `null`, `~`) goes; what is nothing stands nowhere.
    const before = to > from ? text.slice(0, from).trimEnd() : text.slice(0, key);
    const without = before + text.slice(to > from ? to : key);
    return splice(without, lineEnd(without, before.length), block(addition[section], "  "));
  }
  if (!isMap(value) || !value.range) throw refusal(shown, `${section} is no map of its own`);
  if (value.flow === true)
    throw refusal(shown, `${section} stands in braces: write each of its entries on a line of its own`);
  const [start, , end] = value.range;
  const indent = /[ \t]*$/.exec(text.slice(0, start))?.[0] ?? "";
  return splice(text, lastLine(text, start, end, indent), ["", ...block(addition[section], indent)]);
}

/** Where the last line of a block ends, without what only stands between it and the next one. */
function lastLine(text: string, start: number, end: number, indent: string): number {
  const lines = text.slice(start, end).split("\n");
  const isOwn = (line: string) => line.trim() !== "" && (!/^\s*#/.test(line) || line.startsWith(`${indent}#`));
  while (lines.length > 1 && !isOwn(lines.at(-1) as string)) lines.pop();
  const length = lines.join("\n").replace(/\r$/, "").length;
  return start + length;
}

function lineEnd(text: string, from: number): number {
  const end = /\r?\n/.exec(text.slice(from));
  return end === null ? text.length : from + end.index;
}

/** Puts lines behind the line that ends at `at`, in the file's own line ends. */
function splice(text: string, at: number, lines: readonly string[]): string {
  const eol = text.includes("\r\n") ? "\r\n" : "\n";
  const before = text.slice(0, at).replace(/(\r?\n)+$/, "");
  const after = text.slice(at);
  return `${before}${eol}${lines.join(eol)}${after === "" ? eol : after}`;
}

function sectionOf(section: (typeof SECTIONS)[number], addition: Addition): Line {
  return { key: section, about: ABOUT[section], lines: addition[section] };
}

/** Lines of YAML. */
function block(lines: readonly Line[], indent = ""): string[] {
  return lines.flatMap((line) => {
    const head = [...comment(line.about, indent)];
    const key = `${indent}${flow(line.key)}:`;
    if ("lines" in line) return [...head, key, ...block(line.lines, `${indent}  `)];
    if ("items" in line) return [...head, key, ...line.items.flatMap((item) => listItem(item, `${indent}  `))];
    return [...head, `${key} ${flow(line.value)}`];
  });
}

function listItem(lines: readonly Line[], indent: string): string[] {
  const inner = block(lines, `${indent}  `);
  const first = inner.findIndex((line) => !line.trimStart().startsWith("#"));
  return inner.map((line, at) => (at < first ? line.slice(2) : at === first ? `${indent}- ${line.trimStart()}` : line));
}

function comment(about: string | undefined, indent: string): string[] {
  if (about === undefined) return [];
  const lines = [""];
  for (const word of about.split(/\s+/)) {
    const last = lines.at(-1) as string;
    if (last !== "" && `${indent}# ${last} ${word}`.length > WIDTH) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines.map((line) => `${indent}# ${line}`);
}

/** On one line. A reference stands in quotes, as people write it. */
function flow(value: unknown): string {
  if (typeof value === "string" && value.includes("${")) return JSON.stringify(value);
  return stringify(value, { collectionStyle: "flow", lineWidth: 0, blockQuote: false }).trimEnd();
}

function parsed(text: string): unknown {
  try {
    return parse(text, { uniqueKeys: false, logLevel: "silent" });
  } catch {
    return null;
  }
}

function refusal(shown: string, why: string): UserError {
  return new UserError("policy-not-extended", `${shown} cannot be extended: ${why}; nothing was written`, {
    exit: 2,
    hints: ["what would be added stands above: add it by hand, then: keyturn validate"],
  });
}
