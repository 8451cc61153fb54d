import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bench, build, policyOf, type Bench } from "./harness.ts";
import { CTRL_C, CTRL_D, ENTER, openPty, visible, type Pty } from "./pty.ts";

let b: Bench;
beforeAll(build);
let key: string;
beforeEach(async () => {
  await b?.close();
  b = await bench();
  Object.assign(b.env, {
    AWS_EC2_METADATA_DISABLED: "true",
    KEYTURN_API_KEYS_URL: b.authority.url,
    KEYTURN_API_KEYS_ADMIN_TOKEN: b.authority.adminToken,
  });
  key = (await b.json("api-keys", "key", "add", "--client", "one")).document.key.value;
  writeFileSync(join(b.folder, ".env"), `# shop\nPORT=80\nSHOP_API_KEY=${key}\n`);
});
afterAll(() => b.close());

const POLICY = "rotation.config.yaml";
const written = (name = POLICY) => readFileSync(join(b.folder, name), "utf8");
const files = () => readdirSync(b.folder).toSorted();
const wizard = (...args: string[]): Pty => openPty(["init", ...args], { cwd: b.folder, env: b.env });
const issuer = () => `api-keys,url=${b.authority.url},client=one,adminToken=\${env:KEYTURN_API_KEYS_ADMIN_TOKEN}`;
const flags = () => [
  "--yes",
  "--name",
  "shop",
  "--issuer",
  issuer(),
  "--store",
  "dotenv,path=.env,fields.SHOP_API_KEY=apiKey",
];

/** Up to the question whether to write. */
async function answered(pty: Pty): Promise<void> {
  await pty.answer(/Whose key is to be rotated\?[^]*API client one/, ENTER);
  await pty.answer(/What is it called in the policy\?.*one/, ENTER);
  await pty.answer(/Where do its consumers read it\?[^]*\.env \(dotenv\)/, ENTER);
  await pty.answer(/Under which name do they read apiKey there\?.*SHOP_API_KEY/, ENTER);
  await pty.answer(/And where else\?[^]*nowhere else/, ENTER);
  await pty.answer(/When is a key to be replaced\?[^]*every 90 days/, ENTER);
  await pty.until(/Write this to rotation\.config\.yaml\?/);
}

describe("at a terminal", () => {
  test("finds what is here, asks, writes a policy that explains itself, checks it, and says how to go on", async () => {
    const pty = wizard();
    await answered(pty);
    expect(files()).toEqual([".env"]);
    await pty.answer(/Write this/, ENTER);
    expect(await pty.code).toBe(0);
    const screen = pty.screen();
    expect(screen).toMatch(/^api-keys: http:\S+: API client one, API client two$/m);
    expect(screen).toMatch(/^dotenv: this folder: \.env$/m);
    expect(screen).toMatch(/^aws-iam, aws-secrets-manager: AWS: no usable credentials$/m);
    expect(screen).toMatch(/^vault-approle, vault-kv: VAULT_ADDR is not set$/m);
    expect(screen).toMatch(/ok +issuer api-keys/);
    expect(screen).toMatch(/^next: keyturn adopt one$/m);
    expect(pty.tooLong()).toEqual([]);

    const text = written();
    expect(text).toContain('# The authority\'s admin token.\n      adminToken: "${env:KEYTURN_API_KEYS_ADMIN_TOKEN}"');
    expect(text).not.toContain(b.authority.adminToken);
    expect((await b.json("validate")).document.validate).toMatchObject({ secrets: ["one"], warnings: [] });
    expect((await b.run("adopt", "one")).code).toBe(0);
    expect((await b.run("rotate", "one")).code).toBe(0);
    expect(written(".env")).toMatch(/^# shop\nPORT=80\nSHOP_API_KEY=kt_\w+\n$/);
    expect(written(".env")).not.toContain(key);
  });

  test.each([
    ["the first question", /Whose key/, CTRL_C, 130, "stopped by SIGINT: nothing was done"],
    ["the first question, by an end of input", /Whose key/, CTRL_D, 1, "nothing was done: there was no answer"],
    ["a text", /What is it called/, CTRL_C, 130, "stopped by SIGINT: nothing was done"],
    ["the last one", /Write this/, CTRL_C, 130, "stopped by SIGINT: nothing was done"],
    ["the last one, by a no", /Write this/, `n${ENTER}`, 1, "nothing was written: the answer was no"],
  ])("left at %s, nothing is there", async (_, question, keys, code, told) => {
    const pty = wizard();
    if (/Write/.test(question.source)) await answered(pty);
    else if (/called/.test(question.source)) await pty.answer(/Whose key[^]*API client one/, ENTER);
    await pty.answer(question, keys);
    expect(await pty.code).toBe(code);
    expect(pty.screen()).toMatch(new RegExp(`^keyturn: ${told}$`, "m"));
    expect(pty.screen().match(/^keyturn: /gm)).toHaveLength(1);
    expect(files()).toEqual([".env"]);
  });

  test("asks only for what the flags leave open", async () => {
    const pty = wizard(...flags().slice(1));
    await pty.answer(/When is a key to be replaced\?[^]*by hand only/, "hand");
    await pty.answer(/❯ by hand only/, ENTER);
    await pty.answer(/Write this/, ENTER);
    expect(await pty.code).toBe(0);
    expect(pty.screen()).not.toContain("Whose key");
    expect(written()).not.toContain("schedule");
  });

  test("takes a variable's name for a credential, and no colours where none are wanted", async () => {
    const pty = wizard("--no-color", "--every", "30d");
    await pty.answer(/Whose key/, "api-keys: one");
    await pty.answer(/❯ api-keys: one that is not listed/, ENTER);
    await pty.answer(/url: /, `${b.authority.url}${ENTER}`);
    await pty.answer(/client: /, `two${ENTER}`);
    await pty.answer(/which environment variable/, `${b.authority.adminToken}-${ENTER}`);
    await pty.answer(/the name of a variable, not its value/, `\u0015KEYTURN_API_KEYS_ADMIN_TOKEN${ENTER}`);
    await pty.answer(/What is it called/, `bad name${ENTER}`);
    await pty.answer(/letters, digits/, `\u0015two${ENTER}`);
    await pty.answer(/Where do its/, "local");
    await pty.answer(/❯ local: one/, ENTER);
    await pty.answer(/do they read apiKey/, ENTER);
    await pty.answer(/And where else/, ENTER);
    await pty.answer(/Write this/, ENTER);
    expect(await pty.code).toBe(0);
    // oxlint-disable-next-line no-control-regex
    expect(pty.raw()).not.toMatch(/\u001b\[[\d;]*m/);
    expect(written()).toContain("schedule: 30d");
  });
});

describe("with flags alone", () => {
  test("writes the same, without a question", async () => {
    const { code, document } = await b.json("init", ...flags());
    expect([code, document.outcome, document.error]).toEqual([0, "done", null]);
    expect(document.init).toEqual({ file: POLICY, created: true, secret: "shop", next: "keyturn adopt shop" });
    expect(document.doctor.filter(({ verdict }: { verdict: string }) => verdict === "blocks")).toMatchObject([
      { part: "rotation", reason: "unmanaged" },
    ]);
    expect(written()).toContain("- type: dotenv");
    expect(written()).toContain("fields: { SHOP_API_KEY: apiKey }");
    expect(written()).toContain("schedule: 90d");
  });

  test("adds to a policy and keeps its comments; stores are shared", async () => {
    b.policy(`${policyOf(b.authority.url)}# the end of it\n`);
    const before = written();
    const kv = "vault-kv,address=http://127.0.0.1:1,path=shop/key";
    expect((await b.run("init", ...flags(), "--store", kv, "--every", "never")).code).toBe(0);
    const after = written();
    expect(after.startsWith(before.replace("# the end of it\n", ""))).toBe(true);
    expect(after).toContain("\n# the end of it\n");
    expect(after).toContain("stores:\n  vault-kv:\n    type: vault-kv\n");
    const another = (name: string) => flags().with(2, name).with(6, `dotenv,path=${name}.env`);
    expect((await b.run("init", ...another("second"), "--store", "vault-kv,path=second")).code).toBe(0);
    expect(written().match(/^ +- use: vault-kv$/gm)).toHaveLength(2);
    expect(written().match(/type: vault-kv/g)).toHaveLength(1);
    expect((await b.json("validate")).document.validate.secrets).toEqual(["one", "two", "shop", "second"]);
    // What the doctor finds fault with is told, and the policy is there.
    const third = await b.run("init", ...another("third"), "--store", "vault-kv,path=third");
    expect([third.code, /^next: keyturn doctor third$/m.test(third.stdout)]).toEqual([0, true]);
  });

  test.each([
    ["nothing", () => ["--yes"], "init --yes needs --name, --issuer, --store"],
    ["nobody to ask", () => flags().slice(1), "init asks questions, and nobody can be asked here"],
    [
      "no such type",
      () => flags().with(4, "aws-iams,user=a"),
      '--issuer: unknown type aws-iams: did you mean "aws-iam"?',
    ],
    ["a setting missing", () => flags().with(4, "aws-iam"), "--issuer aws-iam: user missing"],
    ["a bad name", () => flags().with(2, "a b"), "--name: letters, digits"],
    ["a bad age", () => [...flags(), "--every", "soon"], '--every: "soon" is no duration'],
    ["a setting that there is not", () => flags().with(4, `${issuer()},color=red`), "color"],
    [
      "a credential in clear",
      () => flags().with(4, issuer().replace(/\$.*/, "hunter2")),
      "a credential stands here in clear",
    ],
  ])("%s: exit 2, and nothing is there", async (_, args, told) => {
    const { code, stdout, stderr } = await b.run("init", ...args());
    expect(code).toBe(2);
    expect(stderr).toContain(told);
    expect(stdout).toBe("");
    expect(stdout + stderr.replaceAll(/^ .*/gm, "")).not.toContain("hunter2");
    expect(files()).toEqual([".env"]);
  });

  test("a name that is taken, and a policy that is broken, stay as they are", async () => {
    b.policy(policyOf(b.authority.url));
    const taken = await b.run("init", ...flags().with(2, "one"));
    expect([taken.code, taken.stderr.includes("--name: the policy has a secret of that name")]).toEqual([2, true]);
    b.policy("version: 2\n");
    expect((await b.run("init", ...flags())).code).toBe(2);
    expect(written()).toBe("version: 2\n");
  });

  test("package.json and JSON are extended, a place under another name is begun", async () => {
    writeFileSync(join(b.folder, "package.json"), '{\n  "name": "shop",\n  "rotation": { "version": 1 }\n}\n');
    expect((await b.run("init", ...flags())).code).toBe(0);
    expect(JSON.parse(written("package.json"))).toMatchObject({ name: "shop", rotation: { secrets: { shop: {} } } });
    expect((await b.run("-c", "team.yaml", "init", ...flags())).stdout).toContain("team.yaml: written");
    expect((await b.run("-c", "team.json", "init", ...flags())).code).toBe(2);
    expect(existsSync(join(b.folder, "team.json"))).toBe(false);
  });
});

test("the look round says what is not there, and never a value", async () => {
  delete b.env["KEYTURN_API_KEYS_ADMIN_TOKEN"];
  writeFileSync(join(b.folder, ".env"), "SHOP_API_KEY=canary-of-this-test\n");
  Object.assign(b.env, { VAULT_ADDR: "http://127.0.0.1:1", VAULT_TOKEN: "canary-of-this-test" });
  const pty = wizard("--verbose");
  await pty.answer(/Whose key/, CTRL_C);
  expect(await pty.code).toBe(130);
  expect(visible(pty.raw())).toContain("api-keys: KEYTURN_API_KEYS_ADMIN_TOKEN is not set");
  expect(pty.raw()).not.toContain("canary");
});
