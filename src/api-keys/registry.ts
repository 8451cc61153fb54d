import { randomUUID } from "node:crypto";
import type { Db } from "./database.ts";
import { Refusal } from "./refusal.ts";
import { hashOf, mintKeyId, mintValue } from "./value.ts";

/** Whom keys are issued to. Instants and durations are ms, here and in every answer. */
export interface Client {
  readonly name: string;
  /** How many keys may live at a time, disabled and expired ones included. */
  readonly maxKeys: number;
  readonly scopes: readonly string[];
  readonly createdAt: number;
}

export interface Key {
  readonly id: string;
  readonly client: string;
  /** A deleted key is kept so that attempts to use it are still seen; nothing brings it back. */
  readonly status: "enabled" | "disabled" | "deleted";
  readonly prefix: string;
  readonly label: string;
  readonly scopes: readonly string[];
  readonly createdAt: number;
  readonly expiresAt: number | null;
}

export interface NewKey {
  readonly label?: string | undefined;
  /** Part of the client's scopes; left out: all of them. */
  readonly scopes?: readonly string[] | undefined;
  readonly expiresIn?: number | undefined;
}

type Row = Omit<Client & Key, "scopes"> & { scopes: string; hash: string };

/**
 * Clients and keys: a table in the database and its mirror in memory. A change is committed to disk before the
 * mirror shows it, and before the caller gets its answer.
 */
export class Registry {
  /** Made at first start: tells one authority from another behind the same address. */
  readonly authority: string;
  readonly #clients = new Map<string, Client>();
  readonly #keys = new Map<string, Key>();
  readonly #idByHash = new Map<string, string>();

  constructor(
    private readonly db: Db,
    private readonly now: () => number,
  ) {
    db.prepare("INSERT INTO meta VALUES ('authority', ?) ON CONFLICT DO NOTHING").run(randomUUID());
    const [row] = db.prepare("SELECT value FROM meta WHERE name = 'authority'").all() as [{ value: string }];
    this.authority = row.value;
    const clients = "SELECT name, max_keys maxKeys, scopes, created_at createdAt FROM clients ORDER BY name";
    for (const { name, maxKeys, scopes, createdAt } of db.prepare(clients).all() as Row[]) {
      this.#clients.set(name, { name, maxKeys, scopes: JSON.parse(scopes), createdAt });
    }
    const keys = `SELECT id, client, hash, prefix, status, label, scopes, created_at createdAt, expires_at expiresAt
      FROM keys ORDER BY created_at, id`;
    for (const row of db.prepare(keys).all() as Row[]) {
      const { id, client, status, prefix, label, createdAt, expiresAt } = row;
      this.#keys.set(id, { id, client, status, prefix, label, scopes: JSON.parse(row.scopes), createdAt, expiresAt });
      this.#idByHash.set(row.hash, id);
    }
  }

  clients(): Client[] {
    return [...this.#clients.values()];
  }

  /** @throws Refusal `unknown-client` */
  client(name: string): Client {
    const client = this.#clients.get(name);
    if (!client) throw new Refusal(404, "unknown-client", "no such client");
    return client;
  }

  /** @throws Refusal `exists` */
  addClient(name: string, maxKeys: number, scopes: readonly string[]): Client {
    if (this.#clients.has(name)) throw new Refusal(409, "exists", "a client of this name exists");
    const client = { name, maxKeys, scopes, createdAt: this.now() };
    this.db
      .prepare("INSERT INTO clients VALUES (?, ?, ?, ?)")
      .run(name, maxKeys, JSON.stringify(scopes), client.createdAt);
    this.#clients.set(name, client);
    return client;
  }

  /** The client's keys, oldest first, without the deleted ones. */
  keys(client: string): Key[] {
    this.client(client);
    return [...this.#keys.values()].filter((key) => key.client === client && key.status !== "deleted");
  }

  /** Every key the client ever had. */
  history(client: string): Key[] {
    this.client(client);
    return [...this.#keys.values()].filter((key) => key.client === client);
  }

  /** @throws Refusal `unknown-key`, for another client's and for a deleted key as well. */
  key(client: string, id: string): Key {
    this.client(client);
    const key = this.#keys.get(id);
    if (key?.client !== client || key.status === "deleted") {
      throw new Refusal(404, "unknown-key", "the client has no such key");
    }
    return key;
  }

  /** The key behind the hash of a value, deleted ones included. */
  byHash(hash: string): Key | undefined {
    const id = this.#idByHash.get(hash);
    return id === undefined ? undefined : this.#keys.get(id);
  }

  /**
   * A new enabled key, each time: the same label again is another key. The value is in this answer only.
   * @throws Refusal `unknown-client`, `quota`, `scope`
   */
  addKey(client: string, wanted: NewKey): { key: Key; value: string } {
    const owner = this.client(client);
    if (this.keys(client).length >= owner.maxKeys) {
      throw new Refusal(409, "quota", `the client has its ${owner.maxKeys} keys already`);
    }
    const scopes = wanted.scopes ?? owner.scopes;
    if (scopes.some((scope) => !owner.scopes.includes(scope))) {
      throw new Refusal(400, "scope", "the client itself does not have all of these scopes");
    }
    const { value, prefix } = mintValue();
    const createdAt = this.now();
    const expiresAt = wanted.expiresIn === undefined ? null : createdAt + wanted.expiresIn;
    const key: Key = {
      id: mintKeyId(),
      client,
      status: "enabled",
      prefix,
      label: wanted.label ?? "",
      scopes,
      createdAt,
      expiresAt,
    };
    const hash = hashOf(value);
    this.db
      .prepare("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .run(key.id, client, hash, prefix, key.status, key.label, JSON.stringify(scopes), createdAt, expiresAt);
    this.#keys.set(key.id, key);
    this.#idByHash.set(hash, key.id);
    return { key, value };
  }

  /** Already so is success. @throws Refusal `unknown-client`, `unknown-key` */
  setStatus(client: string, id: string, status: Key["status"]): Key {
    const key = this.key(client, id);
    if (key.status === status) return key;
    const changed = { ...key, status };
    this.db.prepare("UPDATE keys SET status = ? WHERE id = ?").run(status, id);
    this.#keys.set(id, changed);
    return changed;
  }
}
