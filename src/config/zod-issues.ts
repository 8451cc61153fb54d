import type { z } from "zod";
import { keyIssue, missingIssue, valueIssue, type Issue } from "./issues.ts";
import { nearest, suggestion } from "./nearest.ts";
import { formatPath, isRecord, own, valueAt, type Path } from "./path.ts";
import { hasReference, holdsReference } from "./references.ts";

export interface Checked<T> {
  /** null when there are issues. */
  readonly data: T | null;
  readonly issues: readonly Issue[];
}

const NONE: readonly Issue[] = [];

interface CheckOptions {
  /** Keys that stand in the same map but are not the schema's. */
  readonly otherKeys?: readonly string[];
  /** What a reference stands in for is judged only when it is resolved. `data` is then the input itself. */
  readonly references?: "kept";
}

/** Parses `value`, telling what is wrong in our own words, at its place in the policy. */
export function check<S extends z.ZodType>(
  schema: S,
  value: unknown,
  at: Path,
  options: CheckOptions = {},
): Checked<z.output<S>> {
  const first = schema.safeParse(value);
  if (first.success) return { data: first.data, issues: NONE };
  // Only for what failed: words cost. The schema that refused a key is only known while the message is made; the issue keeps the same array of keys.
  const known = new Map<unknown, readonly string[]>();
  const result = schema.safeParse(value, {
    error: (raw) => {
      if (raw.code === "unrecognized_keys") known.set(raw.keys, Object.keys((raw.inst as z.ZodObject).def.shape));
      return words(raw as RawIssue);
    },
  });
  if (result.success) return { data: result.data, issues: NONE };
  const kept =
    options.references === "kept"
      ? result.error.issues.filter((issue) => !standsForReference(issue, value))
      : result.error.issues;
  if (kept.length === 0) return { data: value as z.output<S>, issues: NONE };
  return {
    data: null,
    issues: kept.flatMap((issue) => {
      const path = [...at, ...(issue.path as Path)];
      if (issue.code === "unrecognized_keys") {
        const names = [...(known.get(issue.keys) ?? []), ...(issue.path.length === 0 ? (options.otherKeys ?? []) : [])];
        return issue.keys.map((key) => unknownKey([...path, key], names));
      }
      if (isMissing(value, issue.path as Path)) return [missingIssue(path.slice(0, -1), String(path.at(-1)))];
      return [valueIssue(path, issue.message)];
    }),
  };
}

/** `unknown key "sotres" in secrets.payments: did you mean "stores"?` */
export function unknownKey(path: Path, names: readonly string[]): Issue {
  const key = String(path.at(-1));
  // A key that looks like no key may be a value gone astray.
  const shown = nearest(key, names) !== null || /^[A-Za-z][A-Za-z_-]{0,31}$/.test(key) ? ` "${key}"` : "";
  const where = formatPath(path.slice(0, -1));
  return keyIssue(path, `unknown key${shown}${where ? ` in ${where}` : ""}${suggestion(key, names)}`);
}

function isMissing(value: unknown, path: Path): boolean {
  const key = path.at(-1);
  const map = valueAt(value, path.slice(0, -1));
  return typeof key === "string" && isRecord(map) && own(map, key) === undefined;
}

function standsForReference(issue: z.core.$ZodIssue, value: unknown): boolean {
  const found = valueAt(value, issue.path as Path);
  if (issue.code === "unrecognized_keys") return false;
  return issue.code === "custom" || issue.code === "invalid_union" ? holdsReference(found) : hasReference(found);
}

type RawIssue = z.core.$ZodRawIssue & z.core.$ZodIssue;

const TYPES: Record<string, string> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a map",
  record: "a map",
};

function oneOf(values: readonly unknown[], input: unknown): string {
  const names = values.map(String);
  const near = typeof input === "string" ? nearest(input, names) : null;
  const hint = near === null ? "" : `: did you mean "${near}"?`;
  // A long list helps only who has no idea.
  return near !== null && names.length > 8 ? `is unknown${hint}` : `must be ${names.join(" or ")}${hint}`;
}

function words(raw: RawIssue): string {
  switch (raw.code) {
    case "invalid_type":
      return `must be ${TYPES[raw.expected] ?? raw.expected}`;
    case "invalid_value":
      return oneOf(raw.values, raw.input);
    case "too_small":
      return raw.origin === "number" || raw.origin === "int" ? `must be at least ${raw.minimum}` : "must not be empty";
    case "too_big":
      return raw.origin === "number" || raw.origin === "int" ? `must be at most ${raw.maximum}` : "is too long";
    case "invalid_format":
      return raw.format === "url" ? "is no URL" : "has the wrong form";
    case "invalid_union": {
      const { discriminator, options } = raw as { readonly discriminator?: string; readonly options?: unknown[] };
      if (discriminator !== undefined) return oneOf(options ?? [], own(raw.input, discriminator));
      const expected = raw.errors.flatMap((branch) =>
        branch.flatMap((issue) =>
          issue.code === "invalid_type" && issue.path.length === 0 ? [TYPES[issue.expected] ?? issue.expected] : [],
        ),
      );
      return expected.length === raw.errors.length ? `must be ${expected.join(" or ")}` : "has none of the known forms";
    }
    case "invalid_key":
      return "has a key that is not allowed";
    default:
      return "is not valid";
  }
}
