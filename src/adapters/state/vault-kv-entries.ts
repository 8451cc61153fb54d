import * as z from "zod";
import type { Duration } from "../../core/duration.ts";
import { ProviderError, UserError } from "../../core/errors.ts";
import { outside } from "../../ports/context.ts";
import type { StatePlace } from "../state-place.ts";
import { isAbsent, isCasRefusal, read } from "../vault-answer.ts";
import { mountAt } from "../vault-checks.ts";
import { segments, type Received } from "../vault-connection.ts";
import type { Vault, VaultCall } from "../vault.ts";

const revision = z.object({ version: z.number(), created_time: z.string(), deletion_time: z.string() });
const held = z.object({ data: z.object({ data: z.record(z.string(), z.unknown()).nullable(), metadata: revision }) });
const written = z.object({ data: revision });
const keys = z.object({ data: z.object({ keys: z.array(z.string()) }) });

export interface Held {
  readonly data: Readonly<Record<string, unknown>>;
  readonly version: number;
  readonly createdTime: string;
  readonly age: Duration;
}

export interface Written {
  readonly version: number;
  readonly createdTime: string;
  /** Whether it told an index, so that every later look of ours sees what was there when it was written. */
  readonly isFollowed: boolean;
}

/** Entries of one KV engine, version 2, each written only over the version that is expected. */
export class VaultEntries {
  #checked: Promise<void> | null = null;

  constructor(
    private readonly vault: Vault,
    private readonly mount: string,
    private readonly place: StatePlace,
  ) {}

  /**
   * null: there is none, and no trace of one.
   * @throws UserError `state-damaged` where its newest version is deleted, or will be by itself
   */
  async get(path: string): Promise<Held | null> {
    const call = this.#call("GET", ["data", path], `reading ${path}`, ["read"]);
    const answer = await this.#told(this.vault.ask(call, CTX));
    if (isAbsent(answer)) return null;
    const isDeleted = answer.status === 404 && held.safeParse(answer.body).success;
    if (answer.status !== 200 && !isDeleted) throw this.#failure(answer, call);
    const { data, metadata } = read(held, answer, this.vault.asked(call)).data;
    const { version, created_time: createdTime, deletion_time: ends } = metadata;
    if (data === null) throw this.#deleted(path, version);
    if (ends !== "") throw this.endsByItself(path);
    // Whole seconds, rounded down. Where the server tells no time, nothing is known to have passed.
    const now = Date.parse(answer.headers.date ?? "");
    const age = Math.max(0, Math.floor(now - Date.parse(createdTime)));
    return { data, version, createdTime, age: Number.isNaN(age) ? 0 : age };
  }

  /**
   * @param over the version that it replaces; 0: there must be none
   * @returns null: another one is there
   */
  async put(path: string, data: object, over: number): Promise<Written | null> {
    await this.#check();
    const call = {
      ...this.#call("POST", ["data", path], `writing ${path}`, [over === 0 ? "create" : "update"]),
      body: { options: { cas: over }, data },
      mutates: true,
    };
    const answer = await this.#told(this.vault.ask(call, CTX));
    if (isCasRefusal(answer)) return null;
    if (answer.status !== 200) throw this.#failure(answer, call);
    const {
      version,
      created_time: createdTime,
      deletion_time: ends,
    } = read(written, answer, this.vault.asked(call)).data;
    if (ends !== "") throw this.endsByItself(path);
    return { version, createdTime, isFollowed: answer.headers["x-vault-index"] !== undefined };
  }

  /** Keeps so many of its versions, and lets nobody write without `cas`. */
  async keep(path: string, versions: number): Promise<void> {
    await this.#check();
    const call = this.#call("POST", ["metadata", path], `setting up ${path}`, ["create", "update"]);
    const body = { max_versions: versions, cas_required: true };
    await this.#told(this.vault.do({ ...call, body, mutates: true }, CTX));
  }

  /** Names below a path, folders with a slash at their end; none where there is no such path. */
  async names(path: string): Promise<readonly string[]> {
    const list = this.#call("GET", ["metadata", path], `listing ${path}`, ["list"]);
    // LIST is no method that every proxy lets through.
    const call = { ...list, path: `${list.path}?list=true` };
    const answer = await this.#told(this.vault.ask(call, CTX));
    if (isAbsent(answer)) return [];
    if (answer.status !== 200) throw this.#failure(answer, call);
    return read(keys, answer, this.vault.asked(call)).data.keys.toSorted();
  }

  endsByItself(path: string): UserError {
    return this.place.damaged(
      `Vault deletes ${this.mount}/${path} by itself`,
      `set delete_version_after to 0s on the mount (vault write ${this.mount}/config delete_version_after=0s) and the path`,
    );
  }

  #deleted(path: string, version: number): UserError {
    return this.place.damaged(
      `${this.mount}/${path} was deleted`,
      `vault kv undelete -mount=${this.mount} -versions=${version} ${path}`,
    );
  }

  /** An engine of version 1 takes what is written and knows no `cas`. */
  #check(): Promise<void> {
    return (this.#checked ??= this.#mustHaveVersions().catch((error: unknown) => {
      this.#checked = null;
      throw error;
    }));
  }

  async #mustHaveVersions(): Promise<void> {
    const mount = await this.#told(mountAt(this.vault, this.mount, CTX));
    if (mount === null) {
      const why = `there is no mount ${this.mount}/ that the token may use`;
      throw new ProviderError("not-found", "no", `the state in ${this.place.location}: ${why}`, {
        hint: "vault secrets list",
      });
    }
    if (mount.type === "kv" && mount.version === "2") return;
    const message = `the state in ${this.place.location}: ${this.mount}/ is no KV engine of version 2`;
    throw new UserError("state-without-cas", message, {
      exit: 3,
      hints: [`name another mount, or: vault kv enable-versioning ${this.mount}`],
    });
  }

  async #told<T>(asked: Promise<T>): Promise<T> {
    try {
      return await asked;
    } catch (error) {
      throw this.place.told(error, REACH);
    }
  }

  #failure(answer: Received, call: VaultCall): unknown {
    return this.place.told(this.vault.failure(answer, call), REACH);
  }

  #call(
    method: VaultCall["method"],
    [kind, path]: readonly [string, string],
    what: string,
    needs: VaultCall["needs"],
  ): VaultCall {
    return { method, path: segments(this.mount, kind, path), what, needs };
  }
}

const REACH = "check VAULT_ADDR or `address`, that Vault can be reached from here, and that it is up: vault status";

/** Each write has its condition. */
const CTX = outside();
