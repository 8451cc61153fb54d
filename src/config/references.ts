import { readFileSync } from "node:fs";
import { resolve as resolvePath } from "node:path";
import { valueIssue, type Issue } from "./issues.ts";
import { isRecord, type Path } from "./path.ts";

export type Env = Readonly<Record<string, string | undefined>>;

const REFERENCE = /\$\{(env|file):([^}]*)\}/g;
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Whether a string holds `${env:NAME}` or `${file:PATH}`. */
export function hasReference(value: unknown): boolean {
  return typeof value === "string" && value.includes("${") && value.search(REFERENCE) >= 0;
}

/** Whether a reference stands anywhere inside. */
export function holdsReference(value: unknown): boolean {
  return typeof value === "object" && value !== null ? Object.values(value).some(holdsReference) : hasReference(value);
}

/** What is wrong with the references of one string by their looks alone; null: nothing. */
export function malformedReference(text: string): string | null {
  if (!text.includes("${")) return null;
  const bad = [...text.matchAll(REFERENCE)].some(([, kind, name]) =>
    kind === "env" ? !VARIABLE.test(name as string) : name === "",
  );
  const open = /\$\{(env|file):/.test(text.replace(REFERENCE, ""));
  return bad || open ? "holds a broken reference: write ${env:NAME} or ${file:PATH}" : null;
}

/**
 * A copy with every reference replaced by what it names; a file's last line end is dropped.
 * What is missing is named in `missing`, and the copy is then not to be used.
 */
export function resolveReferences<T>(value: T, at: Path, source: { env: Env; folder: string }, missing: Issue[]): T {
  if (typeof value === "string") {
    return value.replace(REFERENCE, (_, kind: string, name: string) => {
      const found = kind === "env" ? fromEnv(name, source.env) : fromFile(name, source.folder);
      if (found.text === undefined) missing.push({ ...valueIssue(at, found.why), unresolved: true });
      return found.text ?? "";
    }) as T;
  }
  if (Array.isArray(value))
    return value.map((item, index) => resolveReferences(item, [...at, index], source, missing)) as T;
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, resolveReferences(item, [...at, key], source, missing)]),
  ) as T;
}

type Found = { text: string; why?: never } | { text?: never; why: string };

function fromEnv(name: string, env: Env): Found {
  const text = Object.hasOwn(env, name) ? env[name] : undefined;
  return text === undefined || text === ""
    ? { why: `environment variable ${name} is ${text === "" ? "empty" : "not set"}` }
    : { text };
}

function fromFile(name: string, folder: string): Found {
  try {
    const text = readFileSync(resolvePath(folder, name), "utf8").replace(/\r?\n$/, "");
    return text === "" ? { why: `file ${name} is empty` } : { text };
  } catch (error) {
    return { why: `file ${name} cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown reason"})` };
  }
}
