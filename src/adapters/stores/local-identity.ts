import { statSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { dirname } from "node:path";
import { ProviderError } from "../../core/errors.ts";
import { canCreate, createFile, errno, fileError, privateFolder } from "../files.ts";

const SECRET_KEY = /^AGE-SECRET-KEY-1[0-9A-Z]{58}$/;

export interface Making {
  readonly announce: (line: string) => void;
  /** Runs as the last thing before the file gets its name; throws where it must not. */
  readonly commit: () => void;
}

/** The keys of one identity file; the first one encrypts, all of them decrypt. */
export class Identity {
  readonly #keys: readonly string[];

  private constructor(
    readonly path: string,
    keys: readonly string[],
  ) {
    this.#keys = keys;
  }

  /**
   * @returns null when there is no such file.
   * @throws ProviderError `unauthenticated` when others can read it, or it is no age identity.
   */
  static async read(path: string): Promise<Identity | null> {
    let text: string;
    try {
      if ((statSync(path).mode & 0o077) !== 0) {
        throw refused(`the identity ${path} can be read by others than its owner`, `chmod 600 ${path}`);
      }
      text = await readFile(path, "utf8");
    } catch (error) {
      if (errno(error) === "ENOENT") return null;
      throw error instanceof ProviderError ? error : fileError(error, path);
    }
    const lines = text.split(/\r?\n/).map((line) => line.trim());
    const keys = lines.filter((line) => line !== "" && !line.startsWith("#"));
    if (keys.length === 0 || !keys.every((key) => SECRET_KEY.test(key))) {
      throw refused(`${path} is no age identity`, "it should hold one line that begins with AGE-SECRET-KEY-1");
    }
    return new Identity(path, keys);
  }

  /**
   * Whether `readOrMake` would have one; makes nothing.
   * @throws ProviderError as it would
   */
  static async preview(path: string, secrets: string): Promise<void> {
    if ((await Identity.#find(path, secrets)) === null && !canCreate(path))
      throw refused(`the identity ${path} is missing and cannot be made`, "name another place by `identity:`");
  }

  /**
   * The identity, made on first use and announced by whoever made it.
   * @param secrets the folder of all encrypted versions: while one is there, a missing identity was lost, not never made
   */
  static async readOrMake(path: string, secrets: string, make: Making): Promise<Identity> {
    const found = await Identity.#find(path, secrets);
    if (found) return found;
    const { generateX25519Identity, identityToRecipient } = await import("age-encryption");
    const key = await generateX25519Identity();
    const text = `# created: ${new Date().toISOString()}\n# public key: ${await identityToRecipient(key)}\n${key}\n`;
    await privateFolder(dirname(path));
    const made = await createFile(path, text, 0o600, make.commit);
    if (made)
      make.announce(`made a new age identity at ${path}: keep a copy, for without it no stored version can be read`);
    return (await Identity.read(path)) as Identity;
  }

  static async #find(path: string, secrets: string): Promise<Identity | null> {
    const found = await Identity.read(path);
    if (found || !(await holdsVersions(secrets))) return found;
    // Another process may have made it, and a version with it, since we looked.
    const made = await Identity.read(path);
    if (made) return made;
    throw refused(
      `the identity ${path} is missing, and ${secrets} holds versions that only it can read`,
      `put ${path} back from a backup`,
    );
  }

  async encrypt(text: string): Promise<Uint8Array> {
    const { Encrypter, identityToRecipient } = await import("age-encryption");
    const encrypter = new Encrypter();
    encrypter.addRecipient(await identityToRecipient(this.#keys[0] as string));
    return encrypter.encrypt(text);
  }

  /** @param file only to name it in errors */
  async decrypt(data: Uint8Array, file: string): Promise<string> {
    const { Decrypter } = await import("age-encryption");
    const decrypter = new Decrypter();
    for (const key of this.#keys) decrypter.addIdentity(key);
    try {
      return await decrypter.decrypt(data, "text");
    } catch {
      const hint = `see whether ${this.path} is the identity that ${file} was encrypted to, and the file whole`;
      throw refused(`the identity ${this.path} does not decrypt ${file}`, hint);
    }
  }
}

function refused(message: string, hint: string): ProviderError {
  return new ProviderError("unauthenticated", "no", message, { hint });
}

async function holdsVersions(secrets: string): Promise<boolean> {
  const names = await readdir(secrets, { recursive: true }).catch(() => []);
  return names.some((name) => name.endsWith(".age"));
}
