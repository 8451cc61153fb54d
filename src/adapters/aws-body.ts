import { ProviderError } from "../core/errors.ts";
import { SecretValue } from "../core/secret-value.ts";

/** How one delivery's fields lie in a text that may hold other people's members too. */
export interface Layout {
  /** The text is one field and nothing else. */
  readonly plain: boolean;
  /** Name in the store → field of the issuer. */
  readonly fields: Readonly<Record<string, string>>;
}

/** @returns our fields under the issuer's names, those that are there; null: none is. @throws ProviderError `invalid` */
export function ourFields(text: string, { plain, fields }: Layout): SecretValue | null {
  const members = plain ? null : membersOf(text);
  const found: Record<string, string> = {};
  for (const [name, field] of Object.entries(fields)) {
    const value = members === null ? text : members.get(name);
    // An empty or null member is where somebody left room for a value.
    if (value === undefined || value === null || value === "") continue;
    if (typeof value !== "string") throw new ProviderError("invalid", "no", `its member ${name} holds no string`);
    found[field] = value;
  }
  return Object.keys(found).length === 0 ? null : SecretValue.of(found);
}

/** Names of members that are not ours, whatever they hold; none where the text is no JSON object. */
export function otherMembers(text: string, { plain, fields }: Layout): string[] {
  if (plain) return [];
  try {
    return [...membersOf(text).keys()].filter((name) => !Object.hasOwn(fields, name));
  } catch {
    return [];
  }
}

/** The text with our fields set: every byte that is not ours stays. `text` null: nothing was there. */
export function withOurFields(text: string | null, value: SecretValue, { plain, fields }: Layout): string {
  const parts = value.reveal();
  const ours = Object.entries(fields).map(([name, field]) => {
    const part = parts[field];
    if (part === undefined) throw new ProviderError("invalid", "no", `the value has no field ${field}`);
    return [name, part] as const;
  });
  if (!plain) return setMembers(text ?? "{}", new Map(ours));
  const [only, ...more] = ours;
  if (only === undefined || more.length > 0) {
    throw new ProviderError("invalid", "no", "a plain text holds exactly one field: name it in `fields`");
  }
  return only[1];
}

/** Says in an error of the two above whose text it is. */
export function about<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    throw new ProviderError(error.kind, error.applied, `${name}: ${error.message}`, error.detail);
  }
}

/** The members of a JSON object. @throws ProviderError `invalid`, which quotes nothing */
function membersOf(text: string): ReadonlyMap<string, unknown> {
  const hint = "a text that is the one field itself is `plain: true`";
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new ProviderError("invalid", "no", "its text is no JSON", { hint });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new ProviderError("invalid", "no", "its text is JSON, but no object", { hint });
  }
  return new Map(Object.entries(parsed));
}

interface Member {
  readonly name: string;
  /** Where its value begins and ends. */
  readonly from: number;
  readonly to: number;
}

/**
 * Sets members of a JSON object in its text. Parsing and printing would change what others wrote: the spelling of
 * numbers, their digits beyond the 15th, indentation, members given twice.
 */
function setMembers(text: string, values: ReadonlyMap<string, string>): string {
  membersOf(text);
  const members = scan(text);
  let result = text;
  for (const { name, from, to } of members.toReversed()) {
    const value = values.get(name);
    if (value !== undefined) result = result.slice(0, from) + JSON.stringify(value) + result.slice(to);
  }
  const there = new Set(members.map(({ name }) => name));
  const added = [...values].filter(([name]) => !there.has(name));
  if (added.length === 0) return result;
  const [first] = members;
  const open = result.indexOf("{");
  // New ones look like the first one: the space before it, and behind its colon.
  const [, before = "", after = ""] = first
    ? (/^\{(\s*)"(?:[^"\\]|\\.)*"\s*:(\s*)/.exec(result.slice(open)) ?? [])
    : [];
  const lines = added.map(([name, value]) => `${before}${JSON.stringify(name)}:${after}${JSON.stringify(value)}`);
  const end = first ? lastValueEnd(result) : open + 1;
  return `${result.slice(0, end)}${first ? "," : ""}${lines.join(",")}${result.slice(end)}`;
}

function lastValueEnd(text: string): number {
  return (scan(text).at(-1) as Member).to;
}

/** The members of an object whose text is known to be JSON. */
function scan(text: string): Member[] {
  const members: Member[] = [];
  let at = text.indexOf("{") + 1;
  const skip = (): void => {
    while (/[\s,:]/.test(text[at] ?? "")) at++;
  };
  for (skip(); text[at] !== "}"; skip()) {
    const nameFrom = at;
    at = valueEnd(text, at);
    const name = JSON.parse(text.slice(nameFrom, at)) as string;
    skip();
    const from = at;
    at = valueEnd(text, at);
    members.push({ name, from, to: at });
  }
  return members;
}

/** Where the JSON value that begins at `from` ends. */
function valueEnd(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const sign = text[at] as string;
    if (sign === '"') {
      for (at++; text[at] !== '"'; at++) if (text[at] === "\\") at++;
    } else if (sign === "{" || sign === "[") depth++;
    else if (sign === "}" || sign === "]") depth--;
    else if (depth > 0 || !/[\s,}\]]/.test(text[at + 1] ?? "")) continue;
    if (depth === 0) return at + 1;
  }
  return text.length;
}
