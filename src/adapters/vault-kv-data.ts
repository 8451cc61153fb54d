import { ProviderError } from "../core/errors.ts";
import { SecretValue } from "../core/secret-value.ts";

/** What a path of Vault's holds: any JSON object. */
export type Data = Readonly<Record<string, unknown>>;
/** Name in the store → field of the issuer; empty: the issuer's names. */
export type Fields = Readonly<Record<string, string>>;

/** Our fields under their names in the store. */
export function named(value: SecretValue, fields: Fields): Record<string, string> {
  const revealed = value.reveal();
  if (Object.keys(fields).length === 0) return revealed;
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => {
      const part = revealed[field];
      if (part === undefined) throw new ProviderError("invalid", "no", `the value has no field ${field}`);
      return [name, part];
    }),
  );
}

/**
 * Our fields in what a path holds, under the issuer's names; null: none of them is there. Empty ones and nulls are
 * placeholders, and anything else that is no text is shown as its JSON: foreign, but there.
 */
export function unnamed(data: Data, fields: Fields): SecretValue | null {
  const names =
    Object.keys(fields).length === 0 ? Object.keys(data).map((name) => [name, name]) : Object.entries(fields);
  const ours = names.flatMap(([name, field]): [string, string][] => {
    const held = Object.hasOwn(data, name as string) ? data[name as string] : undefined;
    if (held === undefined || held === null || held === "") return [];
    return [[field as string, typeof held === "string" ? held : JSON.stringify(held)]];
  });
  return ours.length === 0 ? null : SecretValue.of(Object.fromEntries(ours));
}

/** The names of what is not ours. */
export function otherNames(data: Data | null | undefined, fields: Fields): string[] {
  return Object.keys(data ?? {}).filter((name) => !Object.hasOwn(fields, name));
}

/** What is not ours, in a comparable form. */
export function siblings(data: Data, fields: Fields): string {
  const theirs = Object.entries(data).filter(([name]) => !Object.hasOwn(fields, name));
  return JSON.stringify(theirs.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
