import { describe, expect, test } from "vitest";
import * as z from "zod";
import { registry, type Registry } from "../../src/adapters/registry.ts";
import { loadPolicy } from "../../src/config/load.ts";
import { resolveState } from "../../src/config/state.ts";
import type { SecretPolicy } from "../../src/config/model.ts";
import { folderWith, ISSUER, load, policyWith, refusal, STORES } from "./support.ts";

const HOUR = 3_600_000;
const GOOD = `${ISSUER}\n${STORES}`;

async function payments(text: string | Record<string, string>): Promise<SecretPolicy> {
  return (await load(text)).policy.secrets.get("payments") as SecretPolicy;
}

describe("defaults", () => {
  test("are those for production", async () => {
    const { policy, warnings } = await load(policyWith(GOOD));
    expect(warnings).toEqual([]);
    expect(policy.state).toEqual({ source: { type: "sqlite", settings: {}, at: ["state"] }, lease: 15_000 });
    expect(policy.secrets.get("payments")).toMatchObject({
      usage: [{ type: "issuer", optional: false, granularity: null, lag: null }],
      consumers: [],
      tags: [],
      owner: null,
      runbook: null,
      acceptOutage: false,
      enabled: true,
      schedule: null,
      preflight: "warn",
      verify: { successes: 3, spread: 30_000, deadline: 300_000 },
      overlap: { minimum: 24 * HOUR, quiet: 26 * HOUR, maximum: 336 * HOUR, onMaximum: "block", remind: 24 * HOUR },
      soak: { for: 72 * HOUR, onFailedUse: "reenable" },
      retry: { attempts: 5, backoff: 30_000 },
    });
  });

  test("are merged key by key under a secret's own, and scalars stand for maps", async () => {
    const top =
      "defaults: { overlap: { quiet: 1h, minimum: 2h }, soak: { onFailedUse: alert }, preflight: strict, schedule: { cron: '0 3 * * *', window: '09:00-10:00' } }\n";
    const secret = await payments(
      policyWith(`${GOOD}\noverlap: { quiet: 5m }\nsoak: 0s\nschedule: 30d\nusage: none`, top),
    );
    expect(secret.overlap).toMatchObject({ quiet: 300_000, minimum: 2 * HOUR, maximum: 336 * HOUR });
    expect(secret.soak).toEqual({ for: 0, onFailedUse: "alert" });
    expect(secret).toMatchObject({ preflight: "strict", usage: "none" });
    expect(secret.schedule).toMatchObject({
      every: 720 * HOUR,
      cron: null,
      window: { text: "09:00-10:00", zone: "UTC" },
    });
  });

  test("of consumers and hooks", async () => {
    const secret = await payments(
      policyWith(
        `${GOOD}\nconsumers: [{ name: checkout }, { name: b, match: [x], required: false, cache: 1h }]\nhooks: { afterDone: ["a b", [a, b], { run: c, passValue: true, timeout: 1m }] }`,
      ),
    );
    expect(secret.consumers).toEqual([
      { name: "checkout", match: ["checkout", "checkout-*"], cadence: null, cache: null, required: true, notify: null },
      { name: "b", match: ["x"], cadence: null, cache: HOUR, required: false, notify: null },
    ]);
    expect(secret.hooks.afterDone).toEqual([
      { run: "a b", passValue: false, timeout: 600_000 },
      { run: ["a", "b"], passValue: false, timeout: 600_000 },
      { run: "c", passValue: true, timeout: 60_000 },
    ]);
    expect(secret.hooks.beforeRotate).toEqual([]);
  });
});

describe("deliveries", () => {
  const stores = "stores:\n  env: { type: dotenv, path: a.env }\n  room: { type: local, timing: { settle: 1s } }\n";

  test("the first staged store is the authority and stands first", async () => {
    const secret = await payments(
      policyWith(
        `${ISSUER}\nstores: [{ use: env, fields: { K: apiKey } }, { use: room, name: pay, timing: { propagation: 2s } }]`,
        stores,
      ),
    );
    expect(secret.deliveries.map(({ id, use, type, name, authority }) => ({ id, use, type, name, authority }))).toEqual(
      [
        { id: "room/pay", use: "room", type: "local", name: "pay", authority: true },
        { id: "env/a.env", use: "env", type: "dotenv", name: "a.env", authority: false },
      ],
    );
    expect(secret.deliveries[0]).toMatchObject({
      delivery: { name: "pay" },
      fields: null,
      timing: { settle: 1000, propagation: 2000 },
    });
    expect(secret.deliveries[1]).toMatchObject({
      settings: { path: "a.env" },
      delivery: {},
      fields: { K: "apiKey" },
      timing: null,
    });
  });

  test("mirrors only: the local store is put in front", async () => {
    const secret = await payments(policyWith(`${ISSUER}\nstores: [{ type: dotenv, path: a.env }]`));
    expect(secret.deliveries.map(({ id, authority }) => [id, authority])).toEqual([
      ["local/payments", true],
      ["dotenv/a.env", false],
    ]);
  });

  test("a type may be staged or not by its settings: KV version 1 is a mirror", async () => {
    const kv = "kv: { type: vault-kv }\n  old: { type: vault-kv, mount: old, kvVersion: 1 }";
    const deliveries = "stores: [{ use: old, path: a }, { use: kv, path: b }]";
    const both = await payments(policyWith(`${ISSUER}\n${deliveries}`, `stores:\n  ${kv}\n`));
    expect(both.deliveries.map(({ id, authority }) => [id, authority])).toEqual([
      ["kv/secret/b", true],
      ["old/old/a", false],
    ]);
    const alone = "stores: [{ type: vault-kv, kvVersion: 1, path: a }]";
    const mirrored = await payments(policyWith(`${ISSUER}\n${alone}`));
    expect(mirrored.deliveries.map(({ id }) => id)).toEqual(["local/payments", "vault-kv/secret/a"]);
  });

  test("ids stay unique where one object takes two deliveries", async () => {
    const top = policyWith(
      `${ISSUER}\nstores: [{ use: env, fields: { A: apiKey } }, { use: env, fields: { B: apiKey } }]`,
      stores,
    );
    expect((await payments(top)).deliveries.map(({ id }) => id)).toEqual([
      "local/payments",
      "env/a.env",
      "env/a.env#2",
    ]);
  });

  test("other fields of the same object are no clash", async () => {
    const other = `  orders:\n    ${ISSUER}\n    stores: [{ use: env, fields: { B: apiKey } }]\n`;
    const { policy } = await load(
      policyWith(`${ISSUER}\nstores: [{ use: env, fields: { A: apiKey } }]`, stores) + other,
    );
    expect([...policy.secrets.keys()]).toEqual(["payments", "orders"]);
  });
});

describe("where the policy is found", () => {
  test("in package.json, and in JSON", async () => {
    const json = { version: 1, secrets: {} };
    expect((await load({ "package.json": JSON.stringify({ rotation: json }) })).policy.secrets.size).toBe(0);
    expect((await load({ "rotation.config.json": JSON.stringify(json), "package.json": "{}" })).policy.file).toMatch(
      /rotation\.config\.json$/,
    );
  });

  test("under the name given", async () => {
    const { policy } = await load({ "deep/other.yml": policyWith(GOOD) }, { file: "deep/other.yml" });
    expect(policy.folder).toMatch(/deep$/);
  });

  test("not above the folder, and not in code", async () => {
    const folder = folderWith({
      "rotation.config.yaml": policyWith(GOOD),
      "below/rotation.config.js": "globalThis.wasRun = true; module.exports = {}",
      "below/.config/config.js":
        "globalThis.wasRun = true; module.exports = { cosmiconfig: { searchPlaces: ['rotation.config.js'] } }",
      "below/package.json": JSON.stringify({ cosmiconfig: { searchPlaces: ["rotation.config.js"] } }),
    });
    await expect(loadPolicy({ cwd: `${folder}/below`, env: {} })).rejects.toMatchObject({
      code: "policy-not-found",
      options: { exit: 2 },
    });
    await expect(loadPolicy({ cwd: `${folder}/below`, file: "rotation.config.js", env: {} })).rejects.toMatchObject({
      code: /^policy-/,
    });
    expect(globalThis).not.toHaveProperty("wasRun");
  });

  test("a file that is not there, a folder, an empty file", async () => {
    expect((await refusal({ a: "" }, { file: "nothing.yaml" })).message).toBe("nothing.yaml is not there");
    expect((await refusal({ "a/b": "" }, { file: "a" })).code).toBe("policy-unreadable");
    expect((await refusal({ "rotation.config.yaml": "# soon\n" })).message).toBe(
      "rotation.config.yaml: a policy is a map of keys, and this is none",
    );
  });
});

describe("include", () => {
  const main = `version: 1\ninclude: ["teams/*.yaml"]\nsecrets:\n  a: { ${ISSUER}, ${STORES} }\n`;

  test("adds secrets, stores and notifiers", async () => {
    const { policy } = await load({
      "rotation.config.yaml": main,
      "teams/b.yaml": `stores: { s: { type: local } }\nsecrets:\n  b: { ${ISSUER}, stores: [{ use: s }] }\n`,
      "teams/.hidden.yaml": "nonsense",
      "teams/c.txt": "nonsense",
    });
    expect([...policy.secrets.keys()]).toEqual(["a", "b"]);
    expect([...policy.stores.keys()]).toEqual(["s"]);
  });

  test("a clash names both files", async () => {
    const error = await refusal({
      "rotation.config.yaml": main,
      "teams/b.yaml": `secrets:\n  a: { ${ISSUER}, ${STORES} }\n`,
    });
    expect(error.message).toBe("teams/b.yaml:2:3: secrets.a: is in rotation.config.yaml already");
  });

  test("issues are placed in the included file", async () => {
    const error = await refusal({
      "rotation.config.yaml": main,
      "teams/b.yaml": `secrets:\n  b: { ${ISSUER}, ${STORES}, onwer: x }\n`,
    });
    expect(error.message).toMatch(/^teams\/b\.yaml:2:\d+: unknown key "onwer" in secrets\.b: did you mean "owner"\?$/);
  });

  test("nothing else may stand there, and a file named outright must be there", async () => {
    expect((await refusal({ "rotation.config.yaml": main, "teams/b.yaml": "defaults: {}\n" })).message).toBe(
      'teams/b.yaml:1:1: unknown key "defaults": known are stores, notifiers, secrets',
    );
    expect((await refusal('version: 1\ninclude: ["gone.yaml"]\n')).message).toBe("gone.yaml is not there");
  });
});

describe("references", () => {
  const text = policyWith(
    `issuer: { type: api-keys, url: "http://\${env:HOST}:\${file:port}", client: a, adminToken: "\${env:TOKEN}" }\n${STORES}`,
  );

  test("stay as they are until they are asked for", async () => {
    const cwd = folderWith({ "rotation.config.yaml": text, port: "80\n" });
    const adapter = await (registry.issuer["api-keys"] as Registry["issuer"][string]).load();
    const { policy } = await loadPolicy({ cwd, env: { HOST: "h", TOKEN: "t" } });
    const { issuer } = policy.secrets.get("payments") as SecretPolicy;
    expect(issuer.settings.adminToken).toBe("${env:TOKEN}");
    expect(await policy.resolve(issuer.settings, issuer.at, adapter.settings)).toMatchObject({
      url: "http://h:80",
      adminToken: "t",
    });
  });

  test("missing ones are named with their places, all at once", async () => {
    const adapter = await (registry.issuer["api-keys"] as Registry["issuer"][string]).load();
    const { policy } = await load(text, { env: { TOKEN: "" } });
    const { issuer } = policy.secrets.get("payments") as SecretPolicy;
    const error = await policy.resolve(issuer.settings, issuer.at, adapter.settings).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "credentials-missing", options: { exit: 2 } });
    expect((error as Error).message.split("\n")).toEqual([
      "rotation.config.yaml:4:36: secrets.payments.issuer.url: environment variable HOST is not set",
      "rotation.config.yaml:4:36: secrets.payments.issuer.url: file port cannot be read (ENOENT)",
      "rotation.config.yaml:4:94: secrets.payments.issuer.adminToken: environment variable TOKEN is empty",
    ]);
  });

  test("are read at once where the policy itself needs them", async () => {
    const cron = policyWith(`${GOOD}\nschedule: "\${env:EVERY}"\nowner: "\${env:WHO}"`);
    expect((await load(cron, { env: { EVERY: "2d", WHO: "me" } })).policy.secrets.get("payments")).toMatchObject({
      owner: "me",
      schedule: { every: 48 * HOUR },
    });
    expect(await refusal(cron, { env: { EVERY: "2d" } })).toMatchObject({
      code: "credentials-missing",
      message: "rotation.config.yaml:7:12: secrets.payments.owner: environment variable WHO is not set",
    });
  });

  test("what comes in is checked, and not printed", async () => {
    const schema = z.object({ size: z.enum(["small", "large"]) });
    const { policy } = await load(text, { env: { X: "swordfish" } });
    const error = await policy
      .resolve({ size: "${env:X}" }, ["secrets", "payments", "issuer"], schema)
      .catch((thrown: unknown) => thrown);
    expect((error as Error).message).toBe(
      "rotation.config.yaml:4:13: secrets.payments.issuer.size: must be small or large",
    );
  });
});

describe("usage and delays", () => {
  const silent: Registry = {
    ...registry,
    issuer: {
      silent: {
        load: async () => ({
          type: "silent",
          settings: z.object({}),
          fields: ["k"],
          reportsUsage: false,
          published: { settle: 10_000 },
          create: () => {
            throw new Error("not made");
          },
        }),
      },
    },
    usage: {
      watch: {
        load: async () => ({
          type: "watch",
          settings: z.object({ trail: z.string() }),
          published: { lag: 60_000 },
          create: () => {
            throw new Error("not made");
          },
        }),
      },
    },
  };
  const with_ = (usage: string) =>
    load(policyWith(`issuer: { type: silent, timing: { settle: 1s } }\n${STORES}${usage}`), { registry: silent });

  test("an issuer that reports none needs a monitor or none", async () => {
    await expect(with_("")).rejects.toThrow(
      "rotation.config.yaml:3:3: secrets.payments: this issuer does not report who uses its keys",
    );
    await expect(with_("\nusage: [{ type: issuer }]")).rejects.toThrow("this issuer does not report");
    await expect(with_("\nusage: none")).resolves.toBeDefined();
    const { policy } = await with_("\nusage: [{ type: watch, trail: t, lag: 2m, optional: true }]");
    expect(policy.secrets.get("payments")?.usage).toMatchObject([
      { type: "watch", settings: { trail: "t" }, lag: 120_000, optional: true },
    ]);
  });

  test("a delay below the published one is a warning", async () => {
    const { warnings } = await with_("\nusage: [{ type: watch, trail: t, lag: 1s }]");
    expect(warnings.map(({ at, message }) => `${at}: ${message}`)).toEqual([
      "rotation.config.yaml:4:47: secrets.payments.issuer.timing.settle: is less than the provider is known to need",
      "rotation.config.yaml:6:43: secrets.payments.usage[0].lag: is less than the provider is known to need",
    ]);
  });
});

test("a policy without secrets is a warning", async () => {
  const { warnings } = await load("version: 1\nsecrets: {}\n");
  expect(warnings.map(({ message }) => message)).toEqual(["secrets: there are no secrets"]);
});

describe("state", () => {
  test("comes from the command line, the policy's text or map, or is the default", async () => {
    const settings = async (text: string, url: string | null, env = {}) =>
      (await resolveState((await load(`version: 1\n${text}`, { env })).policy, url)).settings;
    expect(await settings("", null)).toEqual({ path: ".keyturn/state.db" });
    expect(await settings("state: sqlite:a.db\n", null)).toEqual({ path: "a.db" });
    expect(await settings("state: { type: sqlite, path: b.db, lease: 20s }\n", null)).toEqual({ path: "b.db" });
    expect(await settings('state: "${env:URL}"\n', null, { URL: "sqlite:c.db" })).toEqual({ path: "c.db" });
    expect(await settings("state: sqlite:a.db\n", "sqlite:d.db")).toEqual({ path: "d.db" });
    await expect(settings("", "oracle:swordfish")).rejects.toMatchObject({ code: "state-url", options: { exit: 2 } });
    await expect(settings("", "oracle:swordfish")).rejects.not.toThrow("swordfish");
  });

  test("a URL of the command line holds references as the policy's does", async () => {
    const open = async (url: string, env = {}) => resolveState((await load("version: 1\n", { env })).policy, url);
    const { settings } = await open("postgres://me:${env:DB}@h/d", { DB: "swordfish" });
    expect(settings).toMatchObject({ user: "me", password: "swordfish", host: "h" });
    const refused = async (url: string) => open(url).catch(({ code, message }) => [code, message]);
    expect(await refused("postgres://me:${env:DB}@h/d")).toEqual([
      "credentials-missing",
      "the state URL: environment variable DB is not set",
    ]);
    expect(await refused("postgres://me:${env:DB")).toEqual([
      "state-url",
      "the state URL holds a broken reference: write ${env:NAME} or ${file:PATH}",
    ]);
  });

  test("an unknown key of a URL is named, with what was probably meant", async () => {
    const refused = async (url: string) =>
      resolveState((await load("version: 1\n")).policy, url).catch(({ code, message }) => [code, message]);
    expect(await refused("postgres://h/d?sslmde=disable")).toEqual([
      "state-url",
      'the state URL has an unknown key "sslmde": did you mean "sslmode"?',
    ]);
    expect(await refused("s3://b/p?colour=red")).toEqual([
      "state-url",
      'the state URL has an unknown key "colour": known are prefix, region, endpoint, profile, kmsKey',
    ]);
    expect(await refused("vault-kv:p?sword%20fish=1")).toEqual([
      "state-url",
      "the state URL has an unknown key: known are mount, address, namespace",
    ]);
  });
});

test("of thousands of warnings the first are placed and told, the others counted", async () => {
  const secret = (index: number) =>
    `  s${index}:\n    issuer: { type: api-keys, url: "http://localhost", client: c${index}, adminToken: "\${env:T}", timing: { settle: 0s } }\n    stores: [{ type: local }]\n`;
  const many = Array.from({ length: 300 }, (_, index) => secret(index)).join("");
  const { warnings } = await load(`version: 1\nsecrets:\n${many}`);
  expect(warnings.length).toBe(21);
  expect(warnings.at(-1)?.message).toMatch(/^280 more warnings like these$/);
});
