import * as z from "zod";
import { ProviderError } from "../../core/errors.ts";
import type { SecretState } from "../../core/model.ts";
import type { AdapterDeps, StateAdapter } from "../../ports/adapter.ts";
import { outside, type VaultPermission } from "../../ports/context.ts";
import type { AuditEntry, AuditLog, Loaded, Revision, StateBackend } from "../../ports/state.ts";
import { inOrder, readable } from "../in-order.ts";
import { StatePlace } from "../state-place.ts";
import { trimmed } from "../vault-connection.ts";
import { Vault, vaultPath, vaultSettings } from "../vault.ts";
import { VaultEntries, type Held, type Written } from "./vault-kv-entries.ts";

/** What is inside of an entry, beside its content. */
const FORMAT = 1;
const VERSIONS_KEPT = 5;
const AT_ONCE = 8;
const DIGITS = 12;

/**
 * State in a path of Vault's, or OpenBao's, key-value engine, version 2: `<path>/secrets/<name>` for each document,
 * `<path>/audit/<name>/<sequence>` for each entry of the audit log, which is only ever created.
 *
 * A save names the version that it replaces (`cas`). Contents are kept as text, so numbers come back as they were.
 * Nothing is ever deleted: a forgotten secret's entry says so, and its versions go on counting. A document that is
 * deleted, or that the engine will delete by itself, is damage, never a new secret.
 *
 * On a cluster an absence that is sure takes 10 s (`Vault.surely`). A document that was surely absent once in this
 * process is told as absent by one look from then on, which may miss what others made in the last 10 s, as any look at
 * a document that is there may. Nothing rests on it: whoever saves a document of that name is refused, and from then
 * on his looks are sure again. And whoever made a document sees all that was there before it: the index of his save
 * goes with each look; where the save told none, looks are sure again, too.
 *
 * developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
 */
class VaultKvState implements StateBackend {
  readonly location: string;
  readonly audit: AuditLog;
  readonly #place: StatePlace;
  readonly #vault: Vault;
  readonly #entries: VaultEntries;
  readonly #mount: string;
  readonly #path: string;
  /** Names of documents that were surely absent. */
  readonly #absent = new Set<string>();
  /** Names that we tried to save: whether they are absent is what the one who asks has to know for sure. */
  readonly #tried = new Set<string>();

  constructor({ mount, path, ...where }: Settings, deps: AdapterDeps) {
    this.#vault = new Vault(where, deps);
    const { address, namespace } = this.#vault.connection;
    this.#mount = trimmed(mount);
    this.#path = trimmed(path);
    const query = namespace === "" ? "" : `&namespace=${namespace}`;
    this.location = `vault-kv:${this.#path}?mount=${this.#mount}&address=${address}${query}`;
    this.#place = new StatePlace(this.location);
    this.#entries = new VaultEntries(this.#vault, this.#mount, this.#place);
    this.audit = {
      append: (entries) => this.#append(entries),
      read: (secret, limit) => (secret === null ? this.#newest(limit) : this.#readAudit(secret, limit)),
    };
  }

  async load(name: string): Promise<Loaded | null> {
    const held = await this.#held(name);
    const state = held === null ? null : this.#stateIn(held, name);
    return held === null || state === null ? null : { revision: revisionOf(held), state, age: held.age };
  }

  async *loadAll(): AsyncIterable<Loaded> {
    const names = await this.#entries.names(`${this.#path}/secrets`);
    yield* readable(names, AT_ONCE, (name) => this.load(name));
  }

  async save(name: string, next: SecretState, expected: Revision | null): ReturnType<StateBackend["save"]> {
    const path = this.#document(name);
    const data = wrapped("document", JSON.stringify(next));
    this.#tried.add(name);
    if (expected === null) await this.#entries.keep(path, VERSIONS_KEPT);
    try {
      const written = await this.#write(name, data, expected);
      if (written === null) return { result: "stale" };
      if (expected === null && !written.isFollowed) this.#absent.clear();
      return { result: "saved", revision: revisionOf(written) };
    } catch (error) {
      if (!(error instanceof ProviderError && error.applied === "maybe")) throw error;
      if (expected === null) this.#absent.clear();
      return { result: "unknown" };
    }
  }

  async remove(name: string, expected: Revision): Promise<"removed" | "stale"> {
    const version = versionOf(expected);
    if (version === null) return "stale";
    const written = await this.#entries.put(this.#document(name), wrapped("document", null), version);
    return written === null ? "stale" : "removed";
  }

  permissions(): readonly VaultPermission[] {
    const { address, namespace } = this.#vault.connection;
    const line = (why: string, path: string, capabilities: VaultPermission["capabilities"]): VaultPermission => ({
      for: "vault",
      why,
      address,
      namespace,
      path,
      capabilities,
    });
    const data = `${this.#mount}/data/${this.#path}`;
    const metadata = `${this.#mount}/metadata/${this.#path}`;
    return [
      line("read and keep the state", `${data}/*`, ["create", "read", "update"]),
      line("keep few versions of each document", `${metadata}/secrets/*`, ["create", "update"]),
      line("find the documents", `${metadata}/secrets`, ["list"]),
      line("find entries of the audit log", `${metadata}/*`, ["list"]),
    ];
  }

  async close(): Promise<void> {}

  async #write(name: string, data: object, expected: Revision | null): Promise<Written | null> {
    const path = this.#document(name);
    const over = expected === null ? 0 : versionOf(expected);
    const written = over === null ? null : await this.#entries.put(path, data, over);
    if (written !== null || expected !== null) return written;
    // In its place may be a forgotten one's, which gives way.
    const there = await this.#entries.get(path);
    if (there === null || this.#stateIn(there, name) !== null) return null;
    return this.#entries.put(path, data, there.version);
  }

  /** @throws UserError `state-damaged` for a document that was there and is gone */
  async #held(name: string): Promise<Held | null> {
    const look = () => this.#entries.get(this.#document(name));
    const isKnown = this.#absent.has(name) && !this.#tried.has(name);
    let held = await (isKnown ? look() : this.#vault.surely(look, CTX));
    if (held === null && (await this.#entries.names(`${this.#path}/audit/${name}`)).length > 0) {
      // An entry comes after its document: one that somebody made meanwhile is there by now.
      held = await this.#vault.surely(look, CTX);
      if (held === null) throw this.#place.damaged(`the document of "${name}" was deleted, versions and all`);
    }
    if (held === null) this.#absent.add(name);
    else this.#absent.delete(name);
    return held;
  }

  /** In the order of their sequences, so that one that is refused leaves nothing behind it. */
  async #append(entries: readonly AuditEntry[]): Promise<void> {
    for (const entry of entries.toSorted((a, b) => a.seq - b.seq)) {
      const path = `${this.#path}/audit/${entry.secret}/${String(entry.seq).padStart(DIGITS, "0")}`;
      if ((await this.#entries.put(path, wrapped("entry", JSON.stringify(entry)), 0)) !== null) continue;
      if ((await this.#entry(path))?.hash !== entry.hash) throw this.#place.forged(entry);
    }
  }

  async #readAudit(secret: string, limit: number): Promise<readonly AuditEntry[]> {
    const folder = `${this.#path}/audit/${secret}`;
    const names = (await this.#entries.names(folder)).slice(-limit);
    const entries: AuditEntry[] = [];
    for await (const entry of inOrder(names, AT_ONCE, (name) => this.#entry(`${folder}/${name}`)))
      if (entry !== null) entries.push(entry);
    return entries;
  }

  /** Of all secrets by their time: one look for each secret, and one for each entry. */
  async #newest(limit: number): Promise<readonly AuditEntry[]> {
    const left: { readonly entry: AuditEntry; readonly paths: string[] }[] = [];
    const next = async (paths: string[]): Promise<void> => {
      const path = paths.pop();
      const entry = path === undefined ? null : await this.#entry(path);
      if (entry !== null) left.push({ entry, paths });
    };
    for (const folder of await this.#entries.names(`${this.#path}/audit`)) {
      const at = `${this.#path}/audit/${trimmed(folder)}`;
      await next((await this.#entries.names(at)).map((name) => `${at}/${name}`));
    }
    const found: AuditEntry[] = [];
    while (found.length < limit && left.length > 0) {
      left.sort((a, b) => a.entry.at - b.entry.at || (a.entry.secret < b.entry.secret ? -1 : 1));
      const newest = left.pop() as (typeof left)[number];
      found.unshift(newest.entry);
      await next(newest.paths);
    }
    return found;
  }

  async #entry(path: string): Promise<AuditEntry | null> {
    const held = await this.#entries.get(path);
    if (held === null) return null;
    const text = this.#unwrapped(held, path)["entry"];
    if (typeof text !== "string") throw this.#place.damaged(`${path} is no entry of the audit log`);
    return this.#place.json(text, path) as AuditEntry;
  }

  #stateIn(held: Held, name: string): SecretState | null {
    const text = this.#unwrapped(held, this.#document(name))["document"];
    if (text === null) return null;
    if (typeof text !== "string") throw this.#place.foreign(name);
    return this.#place.document(name, text);
  }

  #unwrapped({ data }: Held, path: string): Held["data"] {
    const format = data["keyturn"];
    if (typeof format === "number" && format > FORMAT) throw this.#place.newer();
    if (format !== FORMAT) throw this.#place.damaged(`${path} is no entry of keyturn's`);
    return data;
  }

  #document(name: string): string {
    return `${this.#path}/secrets/${name}`;
  }
}

function wrapped(name: "document" | "entry", text: string | null): object {
  return { keyturn: FORMAT, [name]: text };
}

/** The time tells versions apart that were counted from 1 again. */
function revisionOf({ version, createdTime }: Pick<Written, "version" | "createdTime">): Revision {
  return `${version}@${createdTime}`;
}

/** null: it fits none. */
function versionOf(revision: Revision): number | null {
  const [, version] = /^([1-9]\d{0,14})@/.exec(revision) ?? [];
  return version === undefined ? null : Number(version);
}

const CTX = outside();

const settings = z.strictObject({
  ...vaultSettings,
  mount: vaultPath().default("secret").describe("Where the KV engine, version 2, is mounted. Default: secret."),
  path: vaultPath()
    .default("keyturn-state")
    .describe("The path below the mount that the state has for itself. Default: keyturn-state."),
});
type Settings = z.output<typeof settings>;

/** `vault-kv:PATH?mount=…&address=…&namespace=…` */
function fromUrl(url: string): z.input<typeof settings> | null {
  const [, path, query] = /^vault-kv:(?!\/\/)([^?#]*)(?:\?([^#]*))?$/.exec(url) ?? [];
  if (path === undefined) return null;
  const found = { ...(path !== "" && { path }), ...Object.fromEntries(new URLSearchParams(query)) };
  return settings.safeParse(found).success ? found : null;
}

export const adapter: StateAdapter<typeof settings> = {
  type: "vault-kv",
  settings,
  fromUrl,
  urlKeys: ["mount", "address", "namespace"],
  create: async (options, deps) => new VaultKvState(options, deps),
};
