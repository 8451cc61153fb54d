import { createHash, createHmac } from "node:crypto";
import type { Instant } from "../../core/duration.ts";
import type { KeyId } from "../../ports/issuer.ts";
import { parseInstant } from "../instants.ts";
import { textAt } from "../json-path.ts";

/** What one line says. */
export interface Entry {
  readonly at: Instant;
  /** As the log writes it; null: the line names no key. */
  readonly key: string | null;
  readonly who: string;
  readonly status: string | null;
}

/** Where each of the four stands: a path in JSON, else the name of a group. */
export interface Places {
  readonly time: string;
  readonly key: string;
  readonly who: string;
  readonly status: string;
}

export type Format = "json" | "combined" | { readonly pattern: string };
export type Reader = (line: string) => Entry | null;

/** Groups: host user time request status referer agent. Apache and nginx escape a quote inside a quoted part. */
const COMBINED =
  /^(?<host>\S+) \S+ (?<user>.+?) \[(?<time>[^\]]+)\] "(?<request>(?:[^"\\]|\\.)*)" (?<status>\d{3}|-) (?:\d+|-)(?: "(?<referer>(?:[^"\\]|\\.)*)" "(?<agent>(?:[^"\\]|\\.)*)")?/;

export const COMBINED_PLACES: Places = { time: "time", key: "user", who: "agent", status: "status" };
export const PLACES: Places = { time: "time", key: "key", who: "who", status: "status" };

/** The names of the groups that a pattern has. */
export function groupsOf(pattern: string): readonly string[] {
  return [...pattern.matchAll(/\(\?<([A-Za-z_$][\w$]*)>/g)].map(([, name]) => name as string);
}

/** Reads one line; null where it is none of this format or has no time that can be told for certain. */
export function reader(format: Format, places: Places, zone: number | null): Reader {
  const text = format === "json" ? fromJson : fromGroups(format === "combined" ? COMBINED : new RegExp(format.pattern));
  return (line) => {
    const get = text(line);
    const at = get === null ? null : parseInstant(get(places.time), zone);
    if (get === null || at === null) return null;
    return { at, key: get(places.key), who: get(places.who) ?? "", status: get(places.status) };
  };
}

type Get = (place: string) => string | null;

function fromJson(line: string): Get | null {
  try {
    const document: unknown = JSON.parse(line);
    if (typeof document !== "object" || document === null) return null;
    return (place) => textAt(document, place);
  } catch {
    return null;
  }
}

function fromGroups(pattern: RegExp): (line: string) => Get | null {
  return (line) => {
    const groups = pattern.exec(line)?.groups;
    if (groups === undefined) return null;
    return (place) => {
      const found = groups[place];
      return found === undefined || found === "" || found === "-" ? null : found;
    };
  };
}

export interface Hash {
  readonly algorithm: "sha256" | "sha512" | "sha1" | "hmac-sha256";
  readonly salt?: string | undefined;
}

/** From what a log writes in the place of a key id to the key id. */
export class KeyNames {
  readonly #forms = new Map<string, KeyId>();

  constructor(
    keyIds: readonly KeyId[],
    private readonly hash: Hash | null,
  ) {
    for (const keyId of keyIds) for (const form of formsOf(keyId, hash)) this.#forms.set(form, keyId);
  }

  keyOf(written: string): KeyId | undefined {
    const whole = this.#forms.get(written);
    if (whole !== undefined || this.hash === null) return whole;
    // "sha256:…", "hmac-sha256:…"; hexadecimal in capitals.
    const digest = written.slice(written.lastIndexOf(":") + 1);
    return this.#forms.get(digest) ?? this.#forms.get(digest.toLowerCase());
  }

  /** Whether a line that cannot be read names one of the keys all the same. */
  standsIn(line: string): boolean {
    return [...this.#forms.keys()].some((form) => line.includes(form));
  }
}

function formsOf(keyId: KeyId, hash: Hash | null): readonly string[] {
  if (hash === null) return [keyId];
  const { algorithm, salt = "" } = hash;
  const digest =
    algorithm === "hmac-sha256"
      ? createHmac("sha256", salt).update(keyId).digest()
      : createHash(algorithm).update(salt).update(keyId).digest();
  const base64 = digest.toString("base64");
  return [digest.toString("hex"), base64, base64.replace(/=+$/, ""), digest.toString("base64url")];
}
