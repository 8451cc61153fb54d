import { statSync, type BigIntStats } from "node:fs";
import { open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import * as z from "zod";
import { ProviderError } from "../../core/errors.ts";
import { SecretValue } from "../../core/secret-value.ts";
import { path, type AdapterDeps, type StoreAdapter } from "../../ports/adapter.ts";
import type { Ctx, Description, Finding } from "../../ports/context.ts";
import type { Ref, Served, Store } from "../../ports/store.ts";
import { atFile, canCreate, realPath, replaceFile, sweepTemps, withLock } from "../files.ts";
import { KEY, edit, parse } from "./dotenv-text.ts";

const MAX_SIZE = 1024 * 1024;

interface Snapshot {
  /** One character a byte. */
  readonly text: string;
  readonly ref: Ref;
  readonly stats: BigIntStats;
}

/**
 * Some keys of a `.env` file; every other byte of it stays.
 *
 * The ref is the file's identity (device, inode, size, times of change), for it must be the same for the next
 * process and tell nothing of a value, which rules out every digest that our values go into. A replacement is a
 * new inode whose time of modification is later than the last one's by at least 1 ms, so no two of our writes ever
 * share a ref, not even writes of the same text; an edit in place moves the time of change, which nobody can set.
 * It moves with every write to the file, a neighbour's too: that is a `conflict` with applied `no`, answered by looking again.
 */
export class DotenvStore implements Store {
  readonly traits = { staged: false, proof: "value", timing: { propagation: 0, settle: 0 } } as const;
  readonly #path: string;
  #real: string | null = null;
  readonly #fields: Readonly<Record<string, string>>;
  readonly #deps: AdapterDeps;

  /** @param fields key in the file → field of the issuer */
  constructor(file: string, fields: Readonly<Record<string, string>>, deps: AdapterDeps) {
    this.#path = resolve(deps.folder, file);
    this.#fields = fields;
    this.#deps = deps;
  }

  /** The file behind every link, looked up at first use: what only tells of a secret needs no file system. */
  get #file(): string {
    return (this.#real ??= realPath(this.#path));
  }

  get objectKey(): string {
    return `dotenv:${this.#file}`;
  }

  async describe(_ctx: Ctx): Promise<Description> {
    const findings: Finding[] = [];
    await atFile(this.#file, async () => {
      const unsuitable = this.#unsuitable();
      if (unsuitable !== null) findings.push({ reason: "store-unsuitable", blocks: true, message: unsuitable });
      else if (!canCreate(dirname(this.#file))) {
        const message = `the folder of ${this.#file} cannot be written, and the file is replaced as a whole`;
        findings.push({ reason: "permission-missing", blocks: true, message });
      }
    });
    return { binding: this.objectKey, findings };
  }

  async current(_ctx: Ctx): Promise<Served | null> {
    return atFile(this.#file, async () => this.#served(await this.#read()));
  }

  async put(_version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    return atFile(this.#file, async () => {
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
    const text = edit(before?.text ?? "", this.#mapped(value));
    if (text === null) {
      const hint =
        "some combinations of quotes, backslashes, $ and line ends are read differently by different programs";
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
    const read = parse(snapshot.text);
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
    const odd = keys.find((key) => !KEY.test(key));
    if (odd !== undefined) return `${this.#file}: ${JSON.stringify(odd)} is no name of a variable`;
    const stats = statSync(this.#file, { throwIfNoEntry: false });
    if (!stats)
      return statSync(dirname(this.#file), { throwIfNoEntry: false }) ? null : `${dirname(this.#file)} does not exist`;
    if (!stats.isFile()) return `${this.#file} is no regular file`;
    if (stats.size > MAX_SIZE) return `${this.#file} is larger than 1 MiB`;
    // Replacing one name would leave the old value under the others.
    if (stats.nlink > 1) return `${this.#file} has other names (hard links), which would keep the old value`;
    return null;
  }

  #conflict(): ProviderError {
    return new ProviderError("conflict", "no", `${this.#file} was changed by somebody else`);
  }
}

function refOf(stats: BigIntStats): Ref {
  return [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].map((part) => part.toString(36)).join("-");
}

const settings = z.strictObject({
  path: path().describe("The file, relative to the policy's folder; a link is followed"),
});

const delivery = z.strictObject({});

export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "dotenv",
  settings,
  delivery,
  nameOf: (options) => options.path,
  create: (options, _delivery, target, deps) => new DotenvStore(options.path, target.fields, deps),
};
