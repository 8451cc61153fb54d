import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  startAuthority,
  type Client,
  type Key,
  type RunningAuthority,
  type UsageEvent,
} from "../../src/api-keys/index.ts";

export interface KeyUsageAnswer {
  readonly keyId: string;
  readonly status: Key["status"];
  readonly createdAt: number;
  readonly from: number;
  readonly until: number;
  readonly crowded: boolean;
  readonly events: readonly UsageEvent[];
}

/** What an answer is, whatever its status: admin answers carry `authority` and `now`, refusals `error`. */
export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown> & { readonly error?: { readonly code: string; readonly message: string } };
}

export interface TestAuthority {
  /** Changes at `restart`. */
  readonly url: string;
  readonly adminToken: string;
  readonly folder: string;
  readonly db: string;
  addClient(name: string, options?: { maxKeys?: number; scopes?: string[] }): Promise<Client>;
  addKey(
    client: string,
    options?: { label?: string; scopes?: string[]; expiresIn?: number },
  ): Promise<Key & { value: string }>;
  list(client: string): Promise<Key[]>;
  disable(client: string, key: string): Promise<void>;
  enable(client: string, key: string): Promise<void>;
  delete(client: string, key: string): Promise<void>;
  usage(client: string, since?: number): Promise<KeyUsageAnswer[]>;
  /** One use of a key, as a consumer would: status and body. */
  whoami(
    value: string,
    instance?: string,
    version?: string,
  ): Promise<{ status: number; body: Record<string, unknown> }>;
  /** Any admin call: path after `/v1/admin/`. */
  admin(method: string, path: string, body?: unknown, token?: string): Promise<Answer>;
  /** Stops and starts again on the same database, on the same port. */
  restart(): Promise<void>;
  /** Stops it and removes its folder. */
  close(): Promise<void>;
}

/** The real authority on a free port of 127.0.0.1 over a database in a temporary folder. */
export async function startTestAuthority(options: { now?: () => number } = {}): Promise<TestAuthority> {
  const folder = await mkdtemp(join(tmpdir(), "keyturn-authority-"));
  const db = join(folder, "authority.db");
  const adminToken = "test-admin-token";
  const start = (port: number): Promise<RunningAuthority> => startAuthority({ ...options, db, port, adminToken });
  let running = await start(0);

  const admin: TestAuthority["admin"] = async (method, path, body, token = adminToken) => {
    const response = await fetch(`${running.url}/v1/admin/${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, connection: "close" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Answer["body"] };
  };
  const must = async (method: string, path: string, body?: unknown): Promise<Record<string, unknown>> => {
    const answer = await admin(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.body.error?.code}`);
    return answer.body;
  };

  return {
    get url() {
      return running.url;
    },
    adminToken,
    folder,
    db,
    admin,
    addClient: async (name, options = {}) => (await must("POST", "clients", { name, ...options })).client as Client,
    addKey: async (client, options = {}) =>
      (await must("POST", `clients/${client}/keys`, options)).key as Key & { value: string },
    list: async (client) => (await must("GET", `clients/${client}/keys`)).keys as Key[],
    disable: async (client, key) => void (await must("POST", `clients/${client}/keys/${key}/disable`)),
    enable: async (client, key) => void (await must("POST", `clients/${client}/keys/${key}/enable`)),
    delete: async (client, key) => void (await must("DELETE", `clients/${client}/keys/${key}`)),
    usage: async (client, since = 0) =>
      (await must("GET", `clients/${client}/usage?since=${since}`)).usage as KeyUsageAnswer[],
    whoami: async (value, instance, version) => {
      const headers: Record<string, string> = { "x-api-key": value, connection: "close" };
      if (instance !== undefined) headers["x-keyturn-instance"] = instance;
      if (version !== undefined) headers["x-keyturn-key-version"] = version;
      const response = await fetch(`${running.url}/v1/whoami`, { headers });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    },
    restart: async () => {
      const port = Number(new URL(running.url).port);
      await running.close();
      running = await start(port);
    },
    close: async () => {
      await running.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
