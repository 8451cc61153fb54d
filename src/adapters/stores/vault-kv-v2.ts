import * as z from "zod";
import { ProviderError } from "../../core/errors.ts";
import type { SecretValue } from "../../core/secret-value.ts";
import type { Ctx, Description, VaultPermission } from "../../ports/context.ts";
import type { Ref, Served, StagedStore } from "../../ports/store.ts";
import { isAbsent, isCasRefusal, read } from "../vault-answer.ts";
import { segments } from "../vault-connection.ts";
import type { Vault, VaultCall } from "../vault.ts";
import { describeKv } from "../vault-kv-check.ts";
import { named, otherNames, siblings, unnamed, type Data } from "../vault-kv-data.ts";
import type { KvPlace } from "../vault-kv-place.ts";

/** Also keeps a version id from leading out of its folder. */
const VERSION = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
/** A path is written again on top of what neighbours changed meanwhile, but not for ever. */
const REBASES = 3;
/** Versions that are looked through for what changed between two revisions. */
const STEPS = 10;

const revision = z.object({
  version: z.number(),
  created_time: z.string(),
  deletion_time: z.string(),
  destroyed: z.boolean(),
});
const held = z.object({ data: z.object({ data: z.record(z.string(), z.unknown()).nullable(), metadata: revision }) });
const written = z.object({ data: revision });

/** One version of a path. */
interface Held {
  readonly number: number;
  readonly ref: Ref;
  /** null: deleted or destroyed. */
  readonly data: Data | null;
}

/**
 * One path of a KV engine, version 2, whose consumers read its latest version.
 *
 * KV has no staging, so each version waits in an entry of its own, `<staging>/<secret>/<version id>`, which is only
 * ever created (cas=0) and holds all of the issuer's fields and nothing else. To promote is to write the path with
 * our fields merged in and `cas` set to what was read; the answer's version and time are the ref. The custom
 * metadata of the path belong to others and stay untouched, as do its settings.
 *
 * A stale `expected` is a conflict only where somebody touched our fields, or wrote the same again: where
 * neighbours changed theirs, ours goes on top of it. Vault keeps numbers as doubles, as we do: a neighbour's comes
 * back as it was.
 *
 * developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2; a soft-deleted path answers 404 with a body and refuses cas=0.
 */
export class KvV2Store implements StagedStore {
  readonly traits = { staged: true, proof: "value", timing: { propagation: 5000, settle: 5000 } } as const;
  readonly objectKey: string;
  /** The value that each staged entry is known to hold: entries never change. */
  readonly #staged = new Map<string, SecretValue>();
  #put: string | null = null;

  constructor(
    private readonly vault: Vault,
    private readonly place: KvPlace,
  ) {
    const { address, namespace } = vault.connection;
    this.objectKey = `vault:${address}:${namespace}:${place.mount}/${place.path}`;
  }

  describe(ctx: Ctx): Promise<Description> {
    return describeKv(this.vault, this.place, this.permissions(), ctx);
  }

  /** Beside these the token needs what the `default` policy grants: to look at itself and at what it may do. */
  permissions(): readonly VaultPermission[] {
    const { mount, path, staging, secret, mirror } = this.place;
    const line = this.vault.permission.bind(this.vault);
    const served = [
      line("read what is served, and promote", `${mount}/data/${path}`, ["create", "read", "update"]),
      line("see what would delete it by itself", `${mount}/metadata/${path}`, ["read"]),
    ];
    if (mirror) return served;
    return [
      ...served,
      line("hold versions that are not served yet", `${mount}/data/${staging}/${secret}/*`, ["create", "read"]),
      line("discard versions that are dead", `${mount}/metadata/${staging}/${secret}/*`, ["delete"]),
    ];
  }

  async others(ctx: Ctx): Promise<readonly string[]> {
    return otherNames((await this.#main(ctx))?.data, this.place.fields);
  }

  async current(ctx: Ctx): Promise<Served | null> {
    return this.vault.surely(async () => this.#served(await this.#main(ctx)), ctx);
  }

  async read(version: string, ctx: Ctx): Promise<SecretValue | null> {
    const path = this.#entry(version);
    const known = this.#staged.get(version);
    if (known !== undefined) return known;
    const value = await this.vault.surely(async () => this.#valueAt(path, ctx), ctx);
    if (value !== null) this.#staged.set(version, value);
    return value;
  }

  async stage(version: string, value: SecretValue, ctx: Ctx): Promise<void> {
    const path = this.#entry(version);
    if (await this.#holds(version, value, ctx)) return;
    const call = this.#call("POST", path, `staging ${version}`, ["create"], {
      body: { options: { cas: 0 }, data: value.reveal() },
      mutates: true,
    });
    const answer = await this.vault.ask(call, ctx);
    if (answer.status !== 200) {
      // Somebody was faster: what is there may be the same. Our policy need not allow to write over it.
      const taken = answer.status === 403 || isCasRefusal(answer);
      if (taken && (await this.#holds(version, value, ctx))) return;
      if (isCasRefusal(answer)) throw this.#conflict(`${this.place.mount}/${path} was deleted by somebody`);
      throw this.vault.failure(answer, call);
    }
    const { deletion_time: ends } = read(written, answer, this.vault.asked(call)).data;
    if (ends !== "") {
      await this.#remove(path, version, ctx);
      const hint = "set delete_version_after to 0s on the mount, or name a `staging:` path on another one";
      throw new ProviderError("invalid", "no", `${this.place.mount}/${path} would be deleted by itself`, { hint });
    }
    this.#staged.set(version, value);
  }

  async put(version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    this.#entry(version);
    if (!this.place.mirror) await this.#holds(version, value, ctx);
    const ours = named(value, this.place.fields);
    for (let write = 1; ; write++) {
      const main = await this.#main(ctx);
      if (!(await this.#isAsExpected(main, expected, ctx))) throw this.#changed();
      const already = !fresh && this.#served(main)?.value.equals(unnamed(ours, this.place.fields) as SecretValue);
      const ref = already ? (main as Held).ref : await this.#write(version, main, ours, ctx);
      if (ref !== null) {
        this.#put = version;
        return ref;
      }
      if (write === REBASES) throw this.#changed();
    }
  }

  async discard(version: string, ctx: Ctx): Promise<void> {
    const path = this.#entry(version);
    const staged = await this.#at(path, ctx);
    const main = staged === null && this.#put !== version ? null : this.#served(await this.#main(ctx));
    const value = staged?.data == null ? null : unnamed(staged.data, {});
    if (main !== null && (value === null ? this.#put === version : value.includes(main.value)))
      throw new ProviderError("invalid", "no", `${version} is served and cannot be discarded`);
    // Also where nothing was seen, for a copy may lag: removing what is not there is success.
    await this.#remove(path, version, ctx);
  }

  async #remove(path: string, version: string, ctx: Ctx): Promise<void> {
    this.#staged.delete(version);
    const metadata = segments(this.place.mount, "metadata", path);
    await this.vault.do(
      { method: "DELETE", path: metadata, what: `discarding ${version}`, needs: ["delete"], mutates: true },
      ctx,
    );
  }

  /** null: a neighbour was faster, and nothing was written. */
  async #write(version: string, main: Held | null, ours: Data, ctx: Ctx): Promise<Ref | null> {
    const { path } = this.place;
    const options = { cas: main?.number ?? 0 };
    const body = { options, data: { ...main?.data, ...ours } };
    const needs = main === null ? (["create"] as const) : (["update"] as const);
    const call = this.#call("POST", path, `promoting ${version}`, needs, { body, mutates: true });
    const answer = await this.vault.ask(call, ctx);
    if (isCasRefusal(answer)) return null;
    if (answer.status !== 200) throw this.vault.failure(answer, call);
    return refOf(read(written, answer, this.vault.asked(call)).data);
  }

  /** Whether nobody touched our fields since `expected`, and nobody wrote the same again. */
  async #isAsExpected(main: Held | null, expected: Ref | null, ctx: Ctx): Promise<boolean> {
    const served = this.#served(main);
    if (expected === null || main === null || served === null) return expected === null && served === null;
    if (main.ref === expected) return true;
    const from = Number(/^\d+(?=@)/.exec(expected)?.[0] ?? NaN);
    if (!(main.number - from <= STEPS)) return false;
    let later = main;
    for (let number = main.number - 1; number >= from; number--) {
      const one = await this.#at(this.place.path, ctx, number);
      const same = this.#served(one)?.value.equals(served.value);
      if (!one?.data || !later.data || !same) return false;
      if (siblings(one.data, this.place.fields) === siblings(later.data, this.place.fields)) return false;
      later = one;
    }
    return later !== main && later.ref === expected;
  }

  /** @throws ProviderError `conflict` when the entry of this version holds another value */
  async #holds(version: string, value: SecretValue, ctx: Ctx): Promise<boolean> {
    const path = this.#entry(version);
    const there = this.#staged.get(version) ?? (await this.#valueAt(path, ctx));
    if (there === null) return false;
    if (!there.equals(value)) throw this.#conflict(`${this.place.mount}/${path} holds another value`);
    this.#staged.set(version, there);
    return true;
  }

  async #valueAt(path: string, ctx: Ctx): Promise<SecretValue | null> {
    const entry = await this.#at(path, ctx);
    return entry?.data == null ? null : unnamed(entry.data, {});
  }

  #main(ctx: Ctx): Promise<Held | null> {
    return this.#at(this.place.path, ctx);
  }

  /** null: there is nothing, and never was, or its traces are gone. */
  async #at(path: string, ctx: Ctx, number?: number): Promise<Held | null> {
    const call = this.#call(
      "GET",
      path,
      `reading ${this.place.mount}/${path}`,
      ["read"],
      number === undefined ? {} : { number },
    );
    const answer = await this.vault.ask(call, ctx);
    if (isAbsent(answer)) return null;
    const deleted = answer.status === 404 && held.safeParse(answer.body).success;
    if (answer.status !== 200 && !deleted) throw this.vault.failure(answer, call);
    const { data, metadata } = read(held, answer, this.vault.asked(call)).data;
    return { number: metadata.version, ref: refOf(metadata), data };
  }

  #served(main: Held | null): Served | null {
    const value = main?.data == null ? null : unnamed(main.data, this.place.fields);
    return value === null ? null : { ref: (main as Held).ref, value };
  }

  #call(
    method: VaultCall["method"],
    path: string,
    what: string,
    needs: VaultCall["needs"],
    { number, ...more }: Pick<VaultCall, "body" | "mutates"> & { number?: number },
  ): VaultCall {
    const query = number === undefined ? "" : `?version=${number}`;
    return { method, path: segments(this.place.mount, "data", path) + query, what, needs, ...more };
  }

  /** Where a version waits, below the mount. */
  #entry(version: string): string {
    if (!VERSION.test(version))
      throw new ProviderError("invalid", "no", "a version id has a form that no path of Vault's may have");
    return `${this.place.staging}/${this.place.secret}/${version}`;
  }

  #changed(): ProviderError {
    return this.#conflict(`${this.place.mount}/${this.place.path} was changed by somebody else`);
  }

  #conflict(message: string): ProviderError {
    return new ProviderError("conflict", "no", message);
  }
}

/** A path whose traces were removed counts from 1 again: the time tells those versions apart. */
function refOf({ version, created_time: created }: z.output<typeof revision>): Ref {
  return `${version}@${created}`;
}
