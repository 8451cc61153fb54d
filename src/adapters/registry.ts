import type { IssuerAdapter, NotifierAdapter, StateAdapter, StoreAdapter, UsageAdapter } from "../ports/adapter.ts";

/** What can be named by `type:` in one place of the policy. */
export type Kind = "issuer" | "store" | "usage" | "notifier" | "state";

export interface Entry<A> {
  readonly load: () => Promise<A>;
}

export interface StoreEntry extends Entry<StoreAdapter> {
  /** The `staged` trait, known before the store is made, from its settings at most: only a staged store can be the authority. */
  readonly staged: boolean | ((settings: Readonly<Record<string, unknown>>) => boolean);
  /** It writes files on this machine. */
  readonly onDisk?: true;
}

export interface StateEntry extends Entry<StateAdapter> {
  /** What `--state URL` may begin with, before the colon. */
  readonly schemes: readonly string[];
  /** It is a file on this machine: no other machine goes by it. */
  readonly onDisk?: true;
}

/** Every adapter by its type. Names are free; code is loaded only for the types that a policy uses. */
export interface Registry {
  readonly issuer: Readonly<Record<string, Entry<IssuerAdapter>>>;
  readonly store: Readonly<Record<string, StoreEntry>>;
  readonly usage: Readonly<Record<string, Entry<UsageAdapter>>>;
  readonly notifier: Readonly<Record<string, Entry<NotifierAdapter>>>;
  readonly state: Readonly<Record<string, StateEntry>>;
  /** Types of the policy format that this version does not bring yet, so that they are not taken for typing errors. */
  readonly planned: Readonly<Record<Kind, readonly string[]>>;
}

/** A new provider is one line here. */
export const registry: Registry = {
  issuer: {
    "vault-approle": { load: async () => (await import("./issuers/vault-approle.ts")).adapter },
    "vault-token": { load: async () => (await import("./issuers/vault-token.ts")).adapter },
    "api-keys": { load: async () => (await import("./issuers/api-keys.ts")).adapter },
    "aws-iam": { load: async () => (await import("./issuers/aws-iam.ts")).adapter },
    exec: { load: async () => (await import("./issuers/exec.ts")).adapter },
  },
  store: {
    "vault-kv": {
      staged: ({ kvVersion }) => kvVersion !== 1,
      load: async () => (await import("./stores/vault-kv.ts")).adapter,
    },
    local: { staged: true, onDisk: true, load: async () => (await import("./stores/local.ts")).adapter },
    dotenv: { staged: false, onDisk: true, load: async () => (await import("./stores/dotenv.ts")).adapter },
    "aws-secrets-manager": {
      staged: true,
      load: async () => (await import("./stores/aws-secrets-manager.ts")).adapter,
    },
    "aws-ssm": { staged: false, load: async () => (await import("./stores/aws-ssm.ts")).adapter },
    "aws-credentials-file": {
      staged: false,
      onDisk: true,
      load: async () => (await import("./stores/aws-credentials-file.ts")).adapter,
    },
    exec: {
      staged: ({ traits }) => (traits as { readonly staged?: boolean } | undefined)?.staged === true,
      load: async () => (await import("./stores/exec.ts")).adapter,
    },
  },
  usage: {
    cloudtrail: { load: async () => (await import("./usage/cloudtrail.ts")).adapter },
    "access-log": { load: async () => (await import("./usage/access-log.ts")).adapter },
    "http-json": { load: async () => (await import("./usage/http-json.ts")).adapter },
    prometheus: { load: async () => (await import("./usage/prometheus.ts")).adapter },
    exec: { load: async () => (await import("./usage/exec.ts")).adapter },
  },
  notifier: {
    heartbeat: { load: async () => (await import("./notifiers/heartbeat.ts")).adapter },
    webhook: { load: async () => (await import("./notifiers/webhook.ts")).adapter },
    exec: { load: async () => (await import("./notifiers/exec.ts")).adapter },
  },
  state: {
    postgres: { schemes: ["postgres", "postgresql"], load: async () => (await import("./state/postgres.ts")).adapter },
    s3: { schemes: ["s3"], load: async () => (await import("./state/s3.ts")).adapter },
    sqlite: {
      schemes: ["sqlite"],
      onDisk: true,
      load: async () => (await import("./state/sqlite.ts")).adapter,
    },
    "vault-kv": { schemes: ["vault-kv"], load: async () => (await import("./state/vault-kv.ts")).adapter },
  },
  planned: {
    issuer: ["random"],
    store: [],
    usage: [],
    notifier: [],
    state: [],
  },
};
