import type { z } from "zod";
import { valueIssue, type Issue } from "./issues.ts";
import { own, type Path } from "./path.ts";
import { hasReference, malformedReference } from "./references.ts";

const HINT = "write ${env:NAME} or ${file:PATH} in its place; what stood in the file is to be rotated";
const PASSWORD_IN_URL = /^[a-z][a-z0-9+.-]*:\/\/[^/?#\s@:]*:[^/?#\s@]+@/i;

/** Credentials that stand in clear, and references that are none. Never quotes what stands there. */
export function clearCredentials(settings: Readonly<Record<string, unknown>>, schema: z.ZodObject, at: Path): Issue[] {
  const issues: Issue[] = [];
  for (const place of credentialPlaces(schema)) {
    for (const path of expand(settings, place)) {
      const value = path.reduce<unknown>(own, settings);
      const written = typeof value === "string" || typeof value === "number";
      if (written && !hasReference(value))
        issues.push(valueIssue([...at, ...path], "a credential stands here in clear", HINT));
    }
  }
  return [...issues, ...stringIssues(settings, at)];
}

/** What is wrong with strings whatever they are for. */
export function stringIssues(value: unknown, at: Path, issues: Issue[] = []): Issue[] {
  if (typeof value === "string") {
    const broken = malformedReference(value);
    if (broken !== null) issues.push(valueIssue(at, broken));
    // A reference may be the password, or be left out of what remains.
    else if (value.includes("://") && PASSWORD_IN_URL.test(value.replace(/\$\{[^}]*\}/g, "")))
      issues.push(valueIssue(at, "a password stands in this URL in clear", HINT));
  } else if (typeof value === "object" && value !== null) {
    const isList = Array.isArray(value);
    for (const [key, item] of Object.entries(value)) stringIssues(item, [...at, isList ? Number(key) : key], issues);
  }
  return issues;
}

const ANY = Symbol("any key");
type Place = readonly (string | typeof ANY)[];
const places = new WeakMap<z.ZodObject, readonly Place[]>();

/** Where a schema has strings marked by `credential()`. */
function credentialPlaces(schema: z.ZodObject): readonly Place[] {
  let found = places.get(schema);
  if (!found) places.set(schema, (found = search(schema, [])));
  return found;
}

function search(schema: z.core.$ZodType, at: Place): Place[] {
  if ((schema as z.ZodType).meta()?.credential === true) return [at];
  const def = (schema as z.ZodType).def as unknown as Record<string, unknown>;
  const inside = (key: string, place: Place) => search(def[key] as z.core.$ZodType, place);
  switch (def.type) {
    case "object":
      return Object.entries(def.shape as z.core.$ZodShape).flatMap(([key, inner]) => search(inner, [...at, key]));
    case "array":
      return inside("element", [...at, ANY]);
    case "record":
      return inside("valueType", [...at, ANY]);
    case "union":
      return (def.options as z.core.$ZodType[]).flatMap((option) => search(option, at));
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "nonoptional":
    case "readonly":
      return inside("innerType", at);
    case "pipe":
      return [...inside("in", at), ...inside("out", at)];
    default:
      return [];
  }
}

function expand(value: unknown, place: Place): Path[] {
  const [step, ...rest] = place;
  if (step === undefined) return [[]];
  if (typeof value !== "object" || value === null) return [];
  const keys = step === ANY ? (Array.isArray(value) ? [...value.keys()] : Object.keys(value)) : [step];
  return keys.flatMap((key) => expand(own(value, key), rest).map((path) => [key, ...path]));
}
