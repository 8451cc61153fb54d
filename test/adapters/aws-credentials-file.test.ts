import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { edit, parse, unsuitable } from "../../src/adapters/stores/aws-credentials-file-text.ts";
import { adapter } from "../../src/adapters/stores/aws-credentials-file.ts";
import type { ProviderError } from "../../src/core/errors.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Store } from "../../src/ports/store.ts";
import { ctx, storeContract } from "../contract/store.ts";
import { motoPython } from "../support/moto.ts";
import { depsIn, tempFolders } from "./file-support.ts";

const python = await motoPython();
const folderOf = tempFolders();

const FIELDS = { accessKeyId: "accessKeyId", secretAccessKey: "secretAccessKey" };
const store = (
  folder: string,
  { path = "credentials", profile = "default", env = {}, fields = FIELDS as Record<string, string> } = {},
): Store => {
  const settings = adapter.settings.parse(path === "" ? {} : { path });
  return adapter.create(
    settings,
    adapter.delivery.parse({ profile }),
    { secret: "payments", fields },
    depsIn(folder, { env }),
  );
};
const key = (accessKeyId: string, secretAccessKey = `s/${accessKeyId}+=`): SecretValue =>
  SecretValue.of({ accessKeyId, secretAccessKey });

const OTHERS = `# keys of the team
[default]
aws_access_key_id=AKIADEFAULT
aws_secret_access_key=default/secret

; another
[ci]  # the runner
region = eu-west-1
s3 =
  max_concurrent_requests = 20
[last]
aws_access_key_id = AKIALAST
aws_secret_access_key = last/secret`;

storeContract("aws-credentials-file", { fields: ["accessKeyId", "secretAccessKey"] }, async () => {
  const folder = folderOf();
  const file = join(folder, "credentials");
  writeFileSync(file, OTHERS, { mode: 0o640 });
  const ours = /\n?\n(\[mine\]|aws_(access_key_id|secret_access_key) = (accessKeyId|secretAccessKey)-\d)(?=\n|$)/g;
  return {
    open: () => store(folder, { profile: "mine" }),
    siblings: async () => [
      readFileSync(file, "utf8").replace(ours, "").trimEnd(),
      statSync(file).mode,
      readdirSync(folder),
    ],
    dispose: async () => {},
  };
});

describe("the text of a credentials file", () => {
  const both = { aws_access_key_id: "AKIANEW", aws_secret_access_key: "new/s+" };
  const lines = "aws_access_key_id = AKIANEW\naws_secret_access_key = new/s+";
  it.each([
    ["into nothing", "", `[p]\n${lines}\n`],
    ["behind other profiles", "[a]\nx=1\n", `[a]\nx=1\n\n[p]\n${lines}\n`],
    ["behind a missing final newline", "[a]\nx=1", `[a]\nx=1\n\n[p]\n${lines}\n`],
    ["into an empty profile", "[p]\n\n[b]\n", `[p]\n${lines}\n\n[b]\n`],
    ["behind what the profile has", "[p]\nregion=x\n# why\n\n[b]\n", `[p]\nregion=x\n# why\n${lines}\n\n[b]\n`],
    [
      "where they stand, spaces and all",
      "[p]\naws_secret_access_key=old  \n; note\naws_access_key_id   =   AKIAOLD\n[b]\naws_access_key_id=AKIAB\n",
      "[p]\naws_secret_access_key=new/s+  \n; note\naws_access_key_id   =   AKIANEW\n[b]\naws_access_key_id=AKIAB\n",
    ],
    [
      "over empty ones",
      "[p]\naws_access_key_id =\naws_secret_access_key=\n",
      "[p]\naws_access_key_id =AKIANEW\naws_secret_access_key=new/s+\n",
    ],
    ["with the file's line ends", "[p]\r\nregion=x\r\n", `[p]\r\nregion=x\r\n${lines.replace("\n", "\r\n")}\r\n`],
    ["but not in a profile whose name begins alike", "[pp]\nx=1\n", `[pp]\nx=1\n\n[p]\n${lines}\n`],
    ["but not in a comment", "# [p]\n", `# [p]\n\n[p]\n${lines}\n`],
  ])("takes keys %s", (_where, before, after) => {
    expect(unsuitable(before, "p", Object.keys(both))).toBeNull();
    expect(edit(before, "p", both)).toBe(after);
    expect(edit(after, "p", both)).toBe(after);
    expect(parse(after, "p").get("aws_access_key_id")).toBe("AKIANEW");
  });

  it.each([
    ["a profile that stands twice", "[p]\n[p]\n", /p stands there twice/],
    ["a name that stands twice", "[p]\naws_access_key_id=1\naws_access_key_id=2\n", /aws_access_key_id stands twice/],
    ["temporary keys", "[p]\naws_session_token=x\n", /temporary/],
    ["an indented name", "[p]\nregion=x\n  aws_access_key_id=1\n", /indented/],
    ["a line that goes on", "[p]\naws_access_key_id=1\n  more\n", /indented line/],
    ["a colon", "[p]\naws_access_key_id: 1\n", /colon/],
    ["capitals", "[p]\nAWS_ACCESS_KEY_ID=1\n", /capitals/],
    ["a comment behind a value", "[p]\naws_access_key_id=1 # old\n", /comment/],
    ["a byte order mark", "\xef\xbb\xbf[p]\n", /byte order mark/],
  ])("refuses %s", (_what, text, why) => {
    expect(unsuitable(text, "p", Object.keys(both))).toMatch(why);
    expect(unsuitable(text.replace("[p]\n", "[p]\nregion = x\n[q]\n"), "other", Object.keys(both))).toBe(
      text.startsWith("[") ? null : "it begins with a byte order mark",
    );
  });

  it("refuses values that are not read alike", () => {
    for (const value of ["", " ", "a b", "a#b", "a;b", "a\nb", "é", '"a"', "[a]"])
      expect(edit("", "p", { aws_access_key_id: value })).toBeNull();
  });

  it("leaves every other line where and as it was", () => {
    const line = fc.constantFrom(
      "[a]",
      "[b]",
      "region = x",
      "aws_access_key_id = X",
      "# c",
      "",
      "s3 =",
      "  n = 1",
      "junk",
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), fc.constantFrom("\n", "\r\n"), (all, newline) => {
        const before = all.join(newline);
        const names = Object.keys(both);
        fc.pre(unsuitable(before, "b", names) === null);
        const after = edit(before, "b", both) ?? "";
        expect(parse(after, "b")).toEqual(new Map([...parse(before, "b"), ...Object.entries(both)]));
        expect(parse(after, "a")).toEqual(parse(before, "a"));
        const rest = after.split(/\r?\n/).filter((text) => !/AKIANEW|new\/s/.test(text));
        const was = before.split(newline).filter((text, index) => {
          const inB = all.slice(0, index).findLast((head) => head.startsWith("[")) === "[b]";
          return !(inB && text.startsWith("aws_access_key_id"));
        });
        const made = all.includes("[b]") ? was : [...was, "[b]"];
        const said = (texts: string[]) => texts.filter((text) => text !== "");
        expect(said(rest)).toEqual(said(made));
      }),
    );
  });
});

describe("the file", () => {
  it("is found as the SDKs find it", async () => {
    const home = folderOf();
    const given = join(home, "elsewhere");
    const file = join(home, ".aws", "credentials");
    expect(store(home, { path: "", env: { HOME: home } }).objectKey).toBe(`aws-credentials-file:${file}`);
    expect(store(home, { path: "~/x", env: { HOME: home } }).objectKey).toBe(`aws-credentials-file:${home}/x`);
    const env = { HOME: home, AWS_SHARED_CREDENTIALS_FILE: given };
    expect(store(home, { path: "", env }).objectKey).toBe(`aws-credentials-file:${given}`);
    const mine = store(home, { path: "", profile: "ci", env: { HOME: home } });
    expect((await mine.describe(ctx())).binding).toBe(`aws-credentials-file:${file} [ci]`);
  });

  it("is made for its owner alone, with its folder", async () => {
    const home = folderOf();
    const mine = store(home, { path: "", env: { HOME: home } });
    expect((await mine.describe(ctx())).findings).toEqual([]);
    await mine.put("v1", key("AKIA1"), null, ctx());
    expect(statSync(join(home, ".aws")).mode & 0o777).toBe(0o700);
    expect(statSync(join(home, ".aws", "credentials")).mode & 0o777).toBe(0o600);
    expect((await mine.current(ctx()))?.value.equals(key("AKIA1"))).toBe(true);
  });

  it("keeps its mode, and the place that a link leads to", async () => {
    const folder = folderOf();
    mkdirSync(join(folder, "real"));
    writeFileSync(join(folder, "real/creds"), OTHERS);
    chmodSync(join(folder, "real/creds"), 0o640);
    symlinkSync("real/creds", join(folder, "credentials"));
    const now = await store(folder).current(ctx());
    expect(now?.value.equals(key("AKIADEFAULT", "default/secret"))).toBe(true);
    await store(folder).put("v2", key("AKIA2"), now?.ref ?? null, ctx());
    expect(statSync(join(folder, "real/creds")).mode & 0o777).toBe(0o640);
    expect(readFileSync(join(folder, "credentials"), "utf8")).toBe(
      OTHERS.replace("AKIADEFAULT", "AKIA2").replace("default/secret", "s/AKIA2+="),
    );
  });

  it("says beforehand what it cannot hold, and holds what it can", async () => {
    const folder = folderOf();
    writeFileSync(join(folder, "credentials"), "[default]\naws_session_token=t\n");
    const mine = store(folder);
    const { findings } = await mine.describe(ctx());
    expect(findings).toEqual([
      { reason: "store-unsuitable", blocks: true, message: expect.stringContaining("temporary") },
    ]);
    for (const refused of [mine.current(ctx()), mine.put("v1", key("AKIA1"), null, ctx())])
      await expect(refused).rejects.toMatchObject({ kind: "invalid", applied: "no" });
    const other = store(folder, { profile: "other", fields: { aws_access_key_id: "accessKeyId" } });
    expect((await other.describe(ctx())).findings).toEqual([]);
    const error = (await other.put("v1", key("a b"), null, ctx()).catch((thrown: unknown) => thrown)) as ProviderError;
    expect(error).toMatchObject({ kind: "invalid", applied: "no" });
    expect(JSON.stringify([error.message, error.detail])).not.toContain("a b");
    const odd = store(folder, { profile: "other", fields: { "Not A Name": "accessKeyId" } });
    expect((await odd.describe(ctx())).findings).toMatchObject([{ reason: "store-unsuitable", blocks: true }]);
  });

  it.runIf(python !== null)("gives the AWS SDKs for Python and JavaScript the same keys", async () => {
    const folder = folderOf();
    const file = join(folder, "credentials");
    writeFileSync(file, OTHERS);
    for (const profile of ["default", "ci", "last", "new"]) {
      const mine = store(folder, { profile });
      await mine.put("v1", key(`AKIA${profile.toUpperCase()}2`), (await mine.current(ctx()))?.ref ?? null, ctx());
    }
    const env = { PATH: process.env["PATH"], AWS_SHARED_CREDENTIALS_FILE: file, AWS_CONFIG_FILE: "/dev/null" };
    const boto = `
import boto3, json
for p in ("default", "ci", "last", "new"):
    c = boto3.Session(profile_name=p).get_credentials()
    print(json.dumps([p, c.access_key, c.secret_key, c.token]))
`;
    const js = `
import { STSClient } from "@aws-sdk/client-sts";
for (const profile of ["default", "ci", "last", "new"]) {
  const c = await new STSClient({ profile, region: "eu-west-1" }).config.credentials();
  console.log(JSON.stringify([profile, c.accessKeyId, c.secretAccessKey, c.sessionToken ?? null]));
}`;
    const expected = ["default", "ci", "last", "new"].map((p) => {
      const id = `AKIA${p.toUpperCase()}2`;
      return [p, id, `s/${id}+=`, null];
    });
    const rows = (text: string) =>
      text
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown);
    expect(rows(execFileSync(`${python}/python`, ["-c", boto], { env, encoding: "utf8" }))).toEqual(expected);
    const node = ["--input-type=module", "-e", js];
    expect(rows(execFileSync(process.execPath, node, { env, encoding: "utf8" }))).toEqual(expected);
  });
});
