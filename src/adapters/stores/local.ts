import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as z from "zod";
import { ProviderError } from "../../core/errors.ts";
import { SecretValue } from "../../core/secret-value.ts";
import { path, type AdapterDeps, type DeliveryTarget, type StoreAdapter } from "../../ports/adapter.ts";
import type { Ctx, Description, Finding } from "../../ports/context.ts";
import type { Ref, Served, StagedStore } from "../../ports/store.ts";
import {
  atFile,
  canCreate,
  createFile,
  errno,
  privateFolder,
  realPath,
  removeFile,
  replaceFile,
  sweepTemps,
  withLock,
} from "../files.ts";
import { Identity } from "./local-identity.ts";

/** Also keeps a name or a version id from leading out of its folder. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** The file `current`: the version id alone on its first line, which is all that readers need; then a token of the write. */
interface Pointer {
  readonly version: string;
  readonly ref: Ref;
}

interface Place {
  /** Absolute folder of all secrets. */
  readonly root: string;
  readonly name: string;
  /** Absolute path of the age identity. */
  readonly identity: string;
  /** Name in the file → field of the issuer; empty: the issuer's names. */
  readonly fields: Readonly<Record<string, string>>;
}

/**
 * Versions as age files `<root>/<name>/<version id>.age`, and `current`, which says which of them is served.
 *
 * `stage` never replaces a file; `put` replaces `current` under an exclusive lock, where the token on its second
 * line makes two writes of the same version tell apart.
 */
export class LocalStore implements StagedStore {
  readonly traits = { staged: true, proof: "value", timing: { propagation: 0, settle: 0 } } as const;
  #objectKey: string | null = null;
  readonly #folder: string;
  readonly #pointer: string;
  readonly #place: Place;
  readonly #deps: AdapterDeps;

  constructor(place: Place, deps: AdapterDeps) {
    if (!NAME.test(place.name))
      throw new ProviderError("invalid", "no", `${place.name} has a form that no folder may have`);
    this.#place = place;
    this.#deps = deps;
    this.#folder = join(place.root, place.name);
    this.#pointer = join(this.#folder, "current");
  }

  /** Looked up at first use: what only tells of a secret needs no file system. */
  get objectKey(): string {
    return (this.#objectKey ??= `local:${realPath(this.#folder)}`);
  }

  async describe(_ctx: Ctx): Promise<Description> {
    const findings: Finding[] = [];
    try {
      await Identity.preview(this.#place.identity, this.#place.root);
    } catch (error) {
      const { message, detail } = ProviderError.from(error);
      findings.push({
        reason: "credentials-missing",
        blocks: true,
        message,
        ...(detail.hint === undefined ? {} : { hint: detail.hint }),
      });
    }
    if (!canCreate(this.#folder)) {
      findings.push({ reason: "permission-missing", blocks: true, message: `${this.#folder} cannot be written` });
    }
    return { binding: this.objectKey, findings };
  }

  async current(_ctx: Ctx): Promise<Served | null> {
    return atFile(this.#folder, async () => {
      let pointer = await this.#current();
      while (pointer !== null) {
        const value = await this.#read(pointer.version);
        if (value) return { ref: pointer.ref, value };
        // Promoted away and discarded while we looked, or really gone.
        const again = await this.#current();
        if (again?.ref === pointer.ref) {
          const hint = `put ${this.#file(pointer.version)} back from a backup`;
          throw new ProviderError(
            "not-found",
            "no",
            `${this.#pointer} names ${pointer.version}, whose file is missing`,
            { hint },
          );
        }
        pointer = again;
      }
      return null;
    });
  }

  async read(version: string, _ctx: Ctx): Promise<SecretValue | null> {
    return atFile(this.#file(version), () => this.#read(version));
  }

  async stage(version: string, value: SecretValue, ctx: Ctx): Promise<void> {
    await this.#exclusively(version, ctx, () => this.#stage(version, value, ctx));
  }

  async put(version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    return this.#exclusively(version, ctx, async () => {
      const before = await this.#current();
      if ((before?.ref ?? null) !== expected) {
        throw new ProviderError("conflict", "no", `${this.#pointer} was changed by somebody else`);
      }
      await this.#stage(version, value, ctx);
      if (before?.version === version && !fresh) return before.ref;
      const token = randomBytes(8).toString("hex");
      await replaceFile(this.#pointer, `${version}\n${token}\n`, { mode: 0o600 }, ctx.fence);
      return refOf(version, token);
    });
  }

  async discard(version: string, ctx: Ctx): Promise<void> {
    if (!existsSync(this.#folder)) return;
    await this.#exclusively(version, ctx, async () => {
      if ((await this.#current())?.version === version) {
        throw new ProviderError("invalid", "no", `${version} is served and cannot be discarded`);
      }
      await removeFile(this.#file(version), ctx.fence);
    });
  }

  async #stage(version: string, value: SecretValue, ctx: Ctx): Promise<void> {
    const fields = named(value, this.#place.fields);
    const file = this.#file(version);
    const there = await this.#read(version);
    if (there === null) {
      const identity = await Identity.readOrMake(this.#place.identity, this.#place.root, {
        announce: this.#deps.announce,
        commit: ctx.fence,
      });
      const data = await identity.encrypt(JSON.stringify(fields));
      if (await createFile(file, data, 0o600, ctx.fence)) return;
    }
    const held = there ?? (await this.#read(version));
    if (!held?.equals(unnamed(fields, this.#place.fields))) {
      throw new ProviderError("conflict", "no", `${file} holds another value`);
    }
  }

  async #read(version: string): Promise<SecretValue | null> {
    const file = this.#file(version);
    const data = await optional(readFile(file));
    if (data === null) return null;
    const identity = await Identity.read(this.#place.identity);
    if (identity === null) {
      const hint = `put ${this.#place.identity} back from a backup, or name it with KEYTURN_IDENTITY`;
      throw new ProviderError(
        "unauthenticated",
        "no",
        `the identity ${this.#place.identity} is missing, which ${file} needs`,
        { hint },
      );
    }
    const text = await identity.decrypt(data, file);
    try {
      return unnamed(JSON.parse(text) as Record<string, string>, this.#place.fields);
    } catch {
      throw new ProviderError("invalid", "no", `${file} holds no object of named, non-empty strings`);
    }
  }

  async #current(): Promise<Pointer | null> {
    const text = await optional(readFile(this.#pointer, "utf8"));
    if (text === null) return null;
    const [version = "", token = ""] = text.split(/\r?\n/).map((line) => line.trim());
    if (!NAME.test(version)) throw new ProviderError("invalid", "no", `${this.#pointer} names no version`);
    return { version, ref: refOf(version, token) };
  }

  async #exclusively<T>(version: string, ctx: Ctx, body: () => Promise<T>): Promise<T> {
    this.#file(version);
    return atFile(this.#folder, async () => {
      await privateFolder(this.#place.root);
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      return withLock(join(this.#folder, ".lock"), { signal: ctx.signal, sleep: this.#deps.sleep }, async () => {
        await sweepTemps(this.#folder);
        return body();
      });
    });
  }

  #file(version: string): string {
    if (!NAME.test(version))
      throw new ProviderError("invalid", "no", "a version id has a form that no file name may have");
    return join(this.#folder, `${version}.age`);
  }
}

function refOf(version: string, token: string): Ref {
  return `${version}/${token}`;
}

async function optional<T>(reading: Promise<T>): Promise<T | null> {
  return reading.catch((error: unknown) => {
    if (errno(error) === "ENOENT") return null;
    throw error;
  });
}

function named(value: SecretValue, names: Readonly<Record<string, string>>): Record<string, string> {
  const fields = value.reveal();
  if (Object.keys(names).length === 0) return fields;
  return Object.fromEntries(
    Object.entries(names).map(([name, field]) => {
      const part = fields[field];
      if (part === undefined) throw new ProviderError("invalid", "no", `the value has no field ${field}`);
      return [name, part];
    }),
  );
}

function unnamed(fields: Readonly<Record<string, string>>, names: Readonly<Record<string, string>>): SecretValue {
  if (Object.keys(names).length === 0) return SecretValue.of(fields);
  const ours = Object.entries(names).filter(([name]) => fields[name] !== undefined);
  return SecretValue.of(Object.fromEntries(ours.map(([name, field]) => [field, fields[name] as string])));
}

const settings = z.strictObject({
  path: path()
    .default(".keyturn/secrets")
    .describe("Folder of the encrypted versions, relative to the policy's folder"),
  identity: path().optional().describe("The age identity file; otherwise KEYTURN_IDENTITY or .keyturn/identity"),
});

const delivery = z.strictObject({
  name: z.string().regex(NAME).optional().describe("Folder of the secret below the path; otherwise the secret's name"),
});

function place(
  options: z.output<typeof settings>,
  to: z.output<typeof delivery>,
  target: DeliveryTarget,
  deps: AdapterDeps,
): Place {
  return {
    root: resolve(deps.folder, options.path),
    name: to.name ?? target.secret,
    identity: resolve(deps.folder, options.identity ?? deps.env["KEYTURN_IDENTITY"] ?? ".keyturn/identity"),
    fields: target.fields,
  };
}

export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "local",
  settings,
  delivery,
  ownObject: true,
  nameOf: (_settings, to, target) => to.name ?? target.secret,
  create: (options, to, target, deps) => new LocalStore(place(options, to, target, deps), deps),
};
