import * as z from "zod";
import type { StoreAdapter } from "../../ports/adapter.ts";
import { expectation } from "../vault-checks.ts";
import { trimmed } from "../vault-connection.ts";
import { mountsOf } from "../vault-mounts.ts";
import { Vault, vaultPath, vaultSettings } from "../vault.ts";
import { KvV1Store } from "./vault-kv-v1.ts";
import { KvV2Store } from "./vault-kv-v2.ts";

const settings = z.strictObject({
  ...vaultSettings,
  mount: vaultPath().default("secret").describe("Where the KV engine is mounted. Default: secret."),
  kvVersion: z
    .union([z.literal(1), z.literal(2)])
    .default(2)
    .describe("Version of the KV engine. 1 has no versions, so it can only mirror another store. Default: 2."),
  staging: vaultPath()
    .default("keyturn")
    .describe(
      "Path below the mount where versions wait that are not served yet; keep consumers out. Default: keyturn.",
    ),
  expect: z
    .strictObject({
      ...expectation,
      mount: z
        .string()
        .min(1)
        .optional()
        .describe("Accessor or uuid of the mount, as `vault secrets list -detailed` shows it."),
    })
    .default({})
    .describe("What must turn out to be so before anything is minted."),
});

const delivery = z.strictObject({
  path: vaultPath().describe("The secret's path below the mount: payments/aws."),
});

/** A path of Vault's, or OpenBao's, key-value engine. */
export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "vault-kv",
  settings,
  delivery,
  published: { propagation: 5000, settle: 5000 },
  nameOf: ({ mount = "secret" }, { path }) => `${trimmed(mount)}/${trimmed(path)}`,
  discover: async (deps, ctx) => {
    const { where, mounts } = await mountsOf(new Vault({}, deps), "secret", "kv", ctx);
    const found = mounts.map(({ path: mount, version }) => {
      return { label: `KV mount ${mount}`, name: mount, settings: { mount, ...(version === 1 && { kvVersion: 1 }) } };
    });
    return { where, found };
  },
  create: ({ mount, kvVersion, staging, expect, ...where }, { path }, { secret, fields, mirror = false }, deps) => {
    const place = {
      mount: trimmed(mount),
      path: trimmed(path),
      kvVersion,
      staging: trimmed(staging),
      secret,
      fields,
      mirror,
      expect,
    };
    const vault = new Vault(where, deps);
    return kvVersion === 1 ? new KvV1Store(vault, place) : new KvV2Store(vault, place);
  },
};
