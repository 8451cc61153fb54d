import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { adapter as approle } from "../../src/adapters/issuers/vault-approle.ts";
import { adapter as tokens } from "../../src/adapters/issuers/vault-token.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { VaultPermission } from "../../src/ports/context.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import { issuerContract, type IssuerUnderTest } from "../contract/issuer.ts";
import { ctx } from "../contract/store.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { depsOf, rootOf } from "./vault-support.ts";

const there = await baoProgram();
const policyOf = (lines: readonly VaultPermission[]): string =>
  lines.map(({ path, capabilities }) => `path "${path}" { capabilities = ${JSON.stringify(capabilities)} }`).join("\n");
const linesOf = (issuer: Issuer): readonly VaultPermission[] => (issuer.permissions?.() ?? []) as VaultPermission[];

describe.runIf(there)("issuers of OpenBao", () => {
  let bao: Bao;
  let made = 0;
  beforeAll(async () => {
    bao = await startBao();
    await bao.must("POST", "sys/auth/approle", { type: "approle" });
    await bao.must("POST", "sys/auth/team/roles", { type: "approle" });
  });
  afterAll(() => bao?.stop());

  interface Options {
    readonly settings?: object;
    readonly deps?: AdapterDeps;
  }
  const openRole = (role: string, { settings = {}, deps = rootOf(bao) }: Options = {}): Issuer =>
    approle.create(approle.settings.parse({ role, address: bao.address, ...settings }), "payments", deps, []);
  const openToken = (role: string, { settings = {}, deps = rootOf(bao) }: Options = {}): Issuer =>
    tokens.create(tokens.settings.parse({ role, address: bao.address, ...settings }), "payments", deps, []);
  const newRole = async (options: object = {}, mount = "approle"): Promise<string> => {
    const role = `role-${++made}`;
    await bao.must("POST", `auth/${mount}/role/${role}`, { token_ttl: "10m", ...options });
    return role;
  };
  const newTokenRole = async (options: object = {}): Promise<string> => {
    const role = `made-by-${++made}`;
    await bao.must("POST", `auth/token/roles/${role}`, { orphan: true, token_period: "1h", ...options });
    return role;
  };

  issuerContract(
    "vault-approle",
    async (): Promise<IssuerUnderTest> => {
      const role = await newRole({}, "team/roles");
      const below = `auth/team/roles/role/${role}`;
      const stranger = await bao.must("POST", `${below}/secret-id`, { metadata: '{"who":"terraform"}' });
      return {
        url: bao.address,
        open: (url = bao.address) => openRole(role, { settings: { address: url, mount: "team/roles/" } }),
        strangers: async () => {
          const { secret_id_accessor } = stranger;
          return bao.must("POST", `${below}/secret-id-accessor/lookup`, { secret_id_accessor });
        },
        junk: SecretValue.of({ roleId: "6ebaa656-9499-7bba-851b-430e1a38f76b", secretId: "no-secret-id" }),
        absent: "00000000-9499-7bba-851b-430e1a38f76b",
        dispose: async () => void (await bao.api("DELETE", below)),
      };
    },
    { canDisable: false, limits: false },
  );

  issuerContract(
    "vault-token",
    async (): Promise<IssuerUnderTest> => {
      const role = await newTokenRole();
      const stranger = await bao.must("POST", `auth/token/create/${role}`, { display_name: "theirs", ttl: "1h" });
      return {
        url: bao.address,
        open: (url = bao.address) => openToken(role, { settings: { address: url } }),
        strangers: async () => {
          const seen = await bao.must("POST", "auth/token/lookup-accessor", { accessor: stranger.accessor });
          return { ...seen, ttl: 0 };
        },
        junk: SecretValue.of({ token: "s.nosuchtokeneverwas" }),
        absent: "NoSuchAccessorEverWas",
        dispose: async () =>
          void (await bao.api("POST", "auth/token/revoke-accessor", { accessor: stranger.accessor })),
      };
    },
    { canDisable: false, limits: false },
  );

  describe("secret ids", () => {
    const login = async (value: SecretValue) => {
      const { roleId: role_id, secretId: secret_id } = value.reveal();
      return bao.api("POST", "auth/approle/login", { role_id, secret_id });
    };
    const alive = async (token: string) =>
      (await bao.api("GET", "auth/token/lookup-self", undefined, { token })).status;

    test("the version id stands in what is logged in with one, and a trial leaves no token behind", async () => {
      const role = await newRole();
      const issuer = openRole(role);
      const { value } = await issuer.issue("v7-abc", null, ctx());
      const count = async () => (await bao.must("LIST", "auth/token/accessors")).keys.length;
      const before = await count();
      expect(await issuer.verify(value, ctx())).toBe("accepted");
      expect(await count()).toBe(before);
      expect((await login(value)).body.auth.metadata).toMatchObject({ keyturn: "v7-abc", role_name: role });
    });

    test("tokens live on when their secret id is deleted, unless they are to be revoked", async () => {
      const role = await newRole();
      const plain = openRole(role);
      const thorough = openRole(role, { settings: { revokeTokens: true } });
      const one = await plain.issue("v1", null, ctx());
      const two = await plain.issue("v2", null, ctx());
      const other = await plain.issue("v3", null, ctx());
      const [first, second, third] = await Promise.all(
        [one, two, other].map(async ({ value }) => (await login(value)).body.auth.client_token as string),
      );
      await plain.delete(one.keyId, ctx());
      expect(await plain.verify(one.value, ctx())).toBe("rejected");
      expect(await alive(first ?? "")).toBe(200);
      await thorough.delete(two.keyId, ctx());
      await thorough.delete(two.keyId, ctx());
      expect([await alive(second ?? ""), await alive(third ?? "")]).toEqual([403, 200]);
      expect(await plain.verify(other.value, ctx())).toBe("accepted");
    });

    test("limits of addresses and time", async () => {
      const role = await newRole();
      const far = openRole(role, { settings: { cidrs: ["10.0.0.0/8"] } });
      const { value } = await far.issue("v1", null, ctx());
      await expect(far.verify(value, ctx())).rejects.toMatchObject({
        kind: "invalid",
        message: expect.stringContaining("this machine's address"),
        detail: { hint: expect.stringContaining("cidrs") },
      });
      const short = openRole(role, { settings: { cidrs: ["127.0.0.0/8"], ttl: "1s" } });
      const { keyId, value: brief, createdAt, expiresAt = 0 } = await short.issue("v2", null, ctx());
      expect(Math.abs(expiresAt - createdAt - 1000)).toBeLessThanOrEqual(1000);
      expect(await short.verify(brief, ctx())).toBe("accepted");
      const listed = async () => (await short.list(ctx())).keys.some((key) => key.keyId === keyId);
      await expect.poll(listed, { timeout: 5000 }).toBe(false);
      expect(await short.verify(brief, ctx())).toBe("rejected");
    });

    test.each([
      [
        "bind_secret_id",
        { bind_secret_id: false, secret_id_bound_cidrs: [], token_bound_cidrs: ["127.0.0.0/8"] },
        true,
      ],
      ["secret_id_num_uses", { secret_id_num_uses: 5 }, true],
      ["secret_id_ttl", { secret_id_ttl: "48h" }, false],
    ])("a role's %s is found", async (name, options, blocks) => {
      const { findings } = await openRole(await newRole(options)).describe(ctx());
      expect(findings).toEqual([
        { reason: "store-unsuitable", blocks, message: expect.any(String), hint: expect.stringContaining(name) },
      ]);
    });

    test("another role's secret id is none of ours", async () => {
      const { value } = await openRole(await newRole()).issue("v1", null, ctx());
      const issuer = openRole(await newRole());
      await expect(issuer.verify(value, ctx())).rejects.toMatchObject({ kind: "invalid" });
      expect(await issuer.identify?.(value, ctx())).toBeNull();
    });
  });

  describe("tokens", () => {
    test("are orphans of the role, periodic, and say what they are for", async () => {
      const role = await newTokenRole({ allowed_policies: ["app"] });
      const issuer = openToken(role, { settings: { policies: ["app"] } });
      const { keyId } = await issuer.issue("v7-abc", null, ctx());
      const seen = await bao.must("POST", "auth/token/lookup-accessor", { accessor: keyId });
      expect(seen).toMatchObject({
        orphan: true,
        policies: ["app", "default"],
        display_name: "token-payments",
        meta: { keyturn: "v7-abc", secret: "payments" },
      });
    });

    test("that may not even look at themselves are tried all the same", async () => {
      const role = await newTokenRole({ token_no_default_policy: true, allowed_policies: ["nothing"] });
      const issuer = openToken(role, { settings: { policies: ["nothing"] } });
      const { keyId, value } = await issuer.issue("v1", null, ctx());
      expect(await issuer.verify(value, ctx())).toBe("accepted");
      await issuer.delete(keyId, ctx());
      expect(await issuer.verify(value, ctx())).toBe("rejected");
    });

    test("of other roles are none of ours", async () => {
      const { keyId, value } = await openToken(await newTokenRole()).issue("v1", null, ctx());
      const issuer = openToken(await newTokenRole());
      expect((await issuer.list(ctx())).keys.map((key) => key.keyId)).not.toContain(keyId);
      expect(await issuer.identify?.(value, ctx())).toBeNull();
      await expect(issuer.verify(value, ctx())).rejects.toMatchObject({ kind: "invalid" });
    });

    test.each([
      ["orphan", { orphan: false }, true],
      ["token_type", { token_type: "batch", token_period: "0s", renewable: false, orphan: true }, true],
      ["token_period", { token_period: "0s" }, false],
    ])("a role's %s is found", async (name, options, blocks) => {
      const { findings } = await openToken(await newTokenRole(options)).describe(ctx());
      expect(findings).toContainEqual({
        reason: "store-unsuitable",
        blocks,
        message: expect.any(String),
        hint: expect.stringContaining(name),
      });
    });
  });

  describe.each([
    ["vault-approle", openRole, newRole, {}],
    ["vault-approle with revokeTokens", openRole, newRole, { revokeTokens: true }],
    ["vault-token", openToken, newTokenRole, {}],
  ] as const)("%s before anything is minted", (_, open, newOne, settings) => {
    test("its permissions are enough for all of it", async () => {
      const role = await newOne();
      const token = await bao.tokenFor(policyOf(linesOf(open(role, { settings }))));
      // The role may give no more than its maker has.
      const issuer = open(role, { settings, deps: depsOf({ VAULT_TOKEN: token }) });
      expect((await issuer.describe(ctx())).findings).toEqual([]);
      const { keyId, value } = await issuer.issue("v1", null, ctx());
      expect((await issuer.list(ctx())).keys).toEqual([expect.objectContaining({ keyId, label: "v1" })]);
      expect(await issuer.verify(value, ctx())).toBe("accepted");
      expect(await issuer.identify?.(value, ctx())).toBe(keyId);
      await issuer.delete(keyId, ctx());
      expect(await issuer.verify(value, ctx())).toBe("rejected");
    });

    test("with any one line or word of them removed, the check names it", async () => {
      const role = await newOne();
      const whole = linesOf(open(role, { settings }));
      for (const [index, line] of whole.entries()) {
        for (const gone of line.capabilities) {
          const left = { ...line, capabilities: line.capabilities.filter((one) => one !== gone) };
          const deps = depsOf({ VAULT_TOKEN: await bao.tokenFor(policyOf(whole.with(index, left))) });
          expect((await open(role, { settings, deps }).describe(ctx())).findings).toEqual([
            expect.objectContaining({
              reason: "permission-missing",
              blocks: true,
              message: expect.stringContaining(`may not ${gone} ${line.path} `),
            }),
          ]);
        }
      }
    });

    test("a role that is not there", async () => {
      const { findings } = await open("nonsuch", { settings }).describe(ctx());
      expect(findings).toEqual([expect.objectContaining({ reason: "identity-mismatch", blocks: true })]);
    });

    test("another cluster than the expected one", async () => {
      const expected = { ...settings, expect: { cluster: "prod" } };
      const { findings } = await open(await newOne(), { settings: expected }).describe(ctx());
      expect(findings).toEqual([expect.objectContaining({ reason: "identity-mismatch", blocks: true })]);
    });
  });
});
