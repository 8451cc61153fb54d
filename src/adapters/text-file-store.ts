import { statSync, type BigIntStats } from "node:fs";
import { open } from "node:fs/promises";
import { dirname } from "node:path";
import { ProviderError } from "../core/errors.ts";
import { SecretValue } from "../core/secret-value.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import type { Ctx, Description, Finding } from "../ports/context.ts";
import type { Ref, Served, Store } from "../ports/store.ts";
import { atFile, canCreate, privateFolder, realPath, replaceFile, sweepTemps, withLock } from "./files.ts";

const MAX_SIZE = 1024 * 1024;

/** How a text file holds named values. Texts are byte strings (latin1), so that what is not ours comes out as it went in. */
export interface Dialect {
  /** What an object key begins with: the store's type. */
  readonly scheme: string;
  /** The part of the file that the names stand in; "" for the whole. */
  readonly place: string;
  /** Name → value in force. */
  parse(text: string): ReadonlyMap<string, string>;
  /** The text with `values` in it; null when no way of writing them is read alike by every reader. */
  edit(text: string, values: Readonly<Record<string, string>>): string | null;
  /** For people: what cannot be written, when `edit` says null. */
  readonly refusal: string;
  isName(name: string): boolean;
  /** Why this text cannot be edited at all; null when it can. */
  unsuitable?(text: string): string | null;
  /** Whether the folder, too, is made where it is missing. */
  readonly makesFolder?: boolean;
}

interface Snapshot {
  /** One character a byte. */
  readonly text: string;
  readonly ref: Ref;
  readonly stats: BigIntStats;
}

/**
 * Some named values of a text file that others write, too; every other byte of it stays.
 *
 * The ref is the file's identity (device, inode, size, times of change), for it must be the same for the next
 * process and tell nothing of a value, which rules out every digest that our values go into. A replacement is a
 * new inode whose time of modification is later than the last one's by at least 1 ms, so no two of our writes ever
 * share a ref, not even writes of the same text; an edit in place moves the time of change, which nobody can set.
 * It moves with every write to the file, a neighbour's too: that is a `conflict` with applied `no`, answered by looking again.
 */
export class TextFileStore implements Store {
  readonly traits = { staged: false, proof: "value", timing: { propagation: 0, settle: 0 } } as const;
  readonly #path: string;
  #real: string | null = null;
  readonly #fields: Readonly<Record<string, string>>;
  readonly #dialect: Dialect;
  readonly #deps: AdapterDeps;

  /**
   * @param path absolute
   * @param fields name in the file → field of the issuer
   */
  constructor(path: string, fields: Readonly<Record<string, string>>, dialect: Dialect, deps: AdapterDeps) {
    this.#path = path;
    this.#fields = fields;
    this.#dialect = dialect;
    this.#deps = deps;
  }

  /** The file behind every link, looked up at first use: what only tells of a secret needs no file system. */
  get #file(): string {
    return (this.#real ??= realPath(this.#path));
  }

  get objectKey(): string {
    return `${this.#dialect.scheme}:${this.#file}`;
  }

  async describe(_ctx: Ctx): Promise<Description> {
    const findings: Finding[] = [];
    await atFile(this.#file, async () => {
      const unsuitable = this.#unsuitable() ?? (await this.#unsuitableText());
      if (unsuitable !== null) findings.push({ reason: "store-unsuitable", blocks: true, message: unsuitable });
      else if (!canCreate(dirname(this.#file))) {
        const message = `the folder of ${this.#file} cannot be written, and the file is replaced as a whole`;
        findings.push({ reason: "permission-missing", blocks: true, message });
      }
    });
    const { place } = this.#dialect;
    return { binding: place === "" ? this.objectKey : `${this.objectKey} ${place}`, findings };
  }

  async others(_ctx: Ctx): Promise<readonly string[]> {
    return atFile(this.#file, async () => {
      if (this.#unsuitableFile() !== null) return [];
      const text = (await this.#snapshot())?.text ?? "";
      return [...this.#dialect.parse(text).keys()].filter((name) => !Object.hasOwn(this.#fields, name));
    });
  }

  async current(_ctx: Ctx): Promise<Served | null> {
    return atFile(this.#file, async () => this.#served(await this.#read()));
  }

  async put(_version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    return atFile(this.#file, async () => {
      if (this.#dialect.makesFolder) await privateFolder(dirname(this.#file));
      this.#suitable();
      return withLock(`${this.#file}.keyturn-lock`, { signal: ctx.signal, sleep: this.#deps.sleep }, async () => {
        await sweepTemps(dirname(this.#file), this.#file);
        const before = await this.#read();
        const served = this.#served(before);
        if ((served?.ref ?? null) !== expected) throw this.#conflict();
        if (served !== null && !fresh && served.value.equals(this.#ours(value))) return served.ref;
        await this.#replace(before, value, ctx);
        return refOf(statSync(this.#file, { bigint: true }));
      });
    });
  }

  async #replace(before: Snapshot | null, value: SecretValue, ctx: Ctx): Promise<void> {
    const text = this.#dialect.edit(before?.text ?? "", this.#mapped(value));
    if (text === null) {
      const hint = this.#dialect.refusal;
      throw new ProviderError(
        "invalid",
        "no",
        `${this.#file}: the value cannot be written so that every reader gets it back`,
        { hint },
      );
    }
    const like =
      before === null
        ? { mode: 0o600 }
        : {
            mode: Number(before.stats.mode & 0o7777n),
            owner: { uid: Number(before.stats.uid), gid: Number(before.stats.gid) },
            modified: Math.max(Math.floor(this.#deps.now()), Number(before.stats.mtimeMs) + 1),
          };
    await replaceFile(this.#file, Buffer.from(text, "latin1"), like, () => {
      // Editors know nothing of our lock.
      const now = statSync(this.#file, { bigint: true, throwIfNoEntry: false });
      if ((now ? refOf(now) : null) !== (before?.ref ?? null)) throw this.#conflict();
      ctx.fence();
    });
  }

  /** null: the file is not there. Never a mixture of two contents. */
  async #read(): Promise<Snapshot | null> {
    this.#suitable();
    const snapshot = await this.#snapshot();
    const odd = snapshot === null ? null : (this.#dialect.unsuitable?.(snapshot.text) ?? null);
    if (odd !== null) throw new ProviderError("invalid", "no", `${this.#file}: ${odd}`);
    return snapshot;
  }

  async #snapshot(): Promise<Snapshot | null> {
    if (!statSync(this.#file, { throwIfNoEntry: false })) return null;
    const handle = await open(this.#file, "r");
    try {
      const stats = await handle.stat({ bigint: true });
      const text = await handle.readFile("latin1");
      const ref = refOf(stats);
      if (ref !== refOf(await handle.stat({ bigint: true }))) throw this.#conflict();
      return { text, ref, stats };
    } finally {
      await handle.close();
    }
  }

  #served(snapshot: Snapshot | null): Served | null {
    if (snapshot === null) return null;
    const read = this.#dialect.parse(snapshot.text);
    const ours = Object.entries(this.#fields).flatMap(([key, field]): [string, string][] => {
      const value = read.get(key);
      return value ? [[field, value]] : [];
    });
    return ours.length === 0 ? null : { ref: snapshot.ref, value: SecretValue.of(Object.fromEntries(ours)) };
  }

  #mapped(value: SecretValue): Record<string, string> {
    const fields = value.reveal();
    return Object.fromEntries(
      Object.entries(this.#fields).map(([key, field]) => {
        const part = fields[field];
        if (part === undefined) throw new ProviderError("invalid", "no", `the value has no field ${field}`);
        return [key, part];
      }),
    );
  }

  #ours(value: SecretValue): SecretValue {
    const mapped = this.#mapped(value);
    return SecretValue.of(
      Object.fromEntries(Object.entries(this.#fields).map(([key, field]) => [field, mapped[key] as string])),
    );
  }

  #suitable(): void {
    const why = this.#unsuitable();
    if (why !== null) throw new ProviderError("invalid", "no", why);
  }

  /** Why the file cannot be a delivery at all; null when it can. */
  #unsuitable(): string | null {
    const keys = Object.keys(this.#fields);
    if (keys.length === 0) return `${this.#file}: the delivery names no fields`;
    const odd = keys.find((key) => !this.#dialect.isName(key));
    if (odd !== undefined) return `${this.#file}: ${JSON.stringify(odd)} is no name that it can hold`;
    return this.#unsuitableFile();
  }

  #unsuitableFile(): string | null {
    const stats = statSync(this.#file, { throwIfNoEntry: false });
    if (!stats) {
      const there = this.#dialect.makesFolder || statSync(dirname(this.#file), { throwIfNoEntry: false });
      return there ? null : `${dirname(this.#file)} does not exist`;
    }
    if (!stats.isFile()) return `${this.#file} is no regular file`;
    if (stats.size > MAX_SIZE) return `${this.#file} is larger than 1 MiB`;
    // Replacing one name would leave the old value under the others.
    if (stats.nlink > 1) return `${this.#file} has other names (hard links), which would keep the old value`;
    return null;
  }

  async #unsuitableText(): Promise<string | null> {
    if (this.#dialect.unsuitable === undefined) return null;
    try {
      await this.#read();
      return null;
    } catch (error) {
      if (error instanceof ProviderError && error.kind === "invalid") return error.message;
      throw error;
    }
  }

  #conflict(): ProviderError {
    return new ProviderError("conflict", "no", `${this.#file} was changed by somebody else`);
  }
}

function refOf(stats: BigIntStats): Ref {
  return [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].map((part) => part.toString(36)).join("-");
}
