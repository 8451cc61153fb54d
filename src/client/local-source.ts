import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Decrypter } from "age-encryption";
import type { KeySource, Served } from "./source.ts";

export interface LocalSourceOptions {
  /** The secret's name in the store. */
  readonly name: string;
  /** The folder of the store. `.keyturn/secrets` unless told. */
  readonly path?: string;
  /** The file with the age identity. `.keyturn/identity` unless told. */
  readonly identity?: string;
}

/** The local store has nothing that could be served. Its message names files, never what they hold. */
export class LocalSourceError extends Error {
  override readonly name = "LocalSourceError";
}

const VERSION = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/**
 * Reads keyturn's local encrypted store. Each call reads the small file that says which version is current; only a
 * version not seen before is read and decrypted.
 *
 * @returns a source that throws {@link LocalSourceError} while there is nothing readable.
 */
export function localSource(options: LocalSourceOptions): KeySource {
  const folder = join(options.path ?? join(".keyturn", "secrets"), options.name);
  const identity = options.identity ?? join(".keyturn", "identity");
  let held: Served | undefined;
  return async () => {
    const version = await currentVersion(folder);
    if (held?.version !== version) held = { version, value: await readVersion(folder, version, identity) };
    return held;
  };
}

async function currentVersion(folder: string): Promise<string> {
  const file = join(folder, "current");
  const version = ((await read(file)).toString("utf8").split("\n")[0] ?? "").trim();
  if (!VERSION.test(version)) throw new LocalSourceError(`${file} names no version`);
  return version;
}

async function readVersion(folder: string, version: string, identity: string): Promise<Record<string, string>> {
  const file = join(folder, `${version}.age`);
  const [encrypted, identities] = await Promise.all([read(file), read(identity)]);
  let value: unknown;
  try {
    const decrypter = new Decrypter();
    for (const line of identities.toString("utf8").split("\n")) {
      if (line.startsWith("AGE-SECRET-KEY-")) decrypter.addIdentity(line.trim());
    }
    value = JSON.parse(await decrypter.decrypt(encrypted, "text"));
  } catch {
    throw new LocalSourceError(`${file} cannot be decrypted with ${identity}`);
  }
  if (!isFields(value)) throw new LocalSourceError(`${file} holds no fields`);
  return value;
}

async function read(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new LocalSourceError(`${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? "failed"})`);
  }
}

function isFields(value: unknown): value is Record<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((field) => typeof field === "string");
}
