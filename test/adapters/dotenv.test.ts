import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { edit, parse } from "../../src/adapters/stores/dotenv-text.ts";
import { adapter } from "../../src/adapters/stores/dotenv.ts";
import type { ProviderError } from "../../src/core/errors.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Store } from "../../src/ports/store.ts";
import { ctx, storeContract } from "../contract/store.ts";
import {
  canMount,
  depsIn,
  isRoot,
  live,
  onSmallDisk,
  runAndKill,
  script,
  tempFolders,
  unprivileged,
} from "./file-support.ts";

const folderOf = tempFolders();
const store = (folder: string, fields: Record<string, string> = { KEY: "apiKey" }, path = ".env"): Store =>
  adapter.create({ path }, {}, { secret: "payments", fields }, depsIn(folder));
const value = (apiKey: string, more: Record<string, string> = {}): SecretValue => SecretValue.of({ apiKey, ...more });

storeContract("dotenv", { fields: ["apiKey", "other"] }, async () => {
  const folder = folderOf();
  writeFileSync(join(folder, ".env"), "# ours and others'\nexport DEBUG=1 # on\nEMPTY=\n");
  const ours = /^(KEY|OTHER)=.*\n/gm;
  return {
    open: () => store(folder, { KEY: "apiKey", OTHER: "other" }),
    siblings: async () => [readFileSync(join(folder, ".env"), "utf8").replace(ours, ""), readdirSync(folder)],
    dispose: async () => {},
  };
});

describe("the text of a .env file", () => {
  it.each([
    [
      "in place, with everything else as it was",
      "# a\nA=1\nexport KEY=old # note\n\n  B = 2\n",
      "# a\nA=1\nexport KEY=new # note\n\n  B = 2\n",
    ],
    ["at the end", "A=1\n", "A=1\nKEY=new\n"],
    ["into nothing", "", "KEY=new\n"],
    ["behind a missing final newline", "A=1", "A=1\nKEY=new"],
    ["in its last line without a newline", "A=1\nKEY=old", "A=1\nKEY=new"],
    ["with the file's line ends", "A=1\r\nB=2\r\n", "A=1\r\nB=2\r\nKEY=new\r\n"],
    ["before the file's line ends", "KEY=old\r\nB=2\r\n", "KEY=new\r\nB=2\r\n"],
    ["behind a byte order mark", "\xef\xbb\xbfKEY=old\n", "\xef\xbb\xbfKEY=new\n"],
    ["in its quotes", `KEY='old'\nA="x"\n`, `KEY='new'\nA="x"\n`],
    ["in double quotes", `KEY = "old" # note\n`, `KEY = "new" # note\n`],
    ["out of backticks", "KEY=`old`\n", "KEY=new\n"],
    ["wherever it is defined", `KEY=older\nA=1\nexport KEY="old"\n`, `KEY=new\nA=1\nexport KEY="new"\n`],
    ["over an empty one", "KEY=\nA=1\n", "KEY=new\nA=1\n"],
    ["over many lines", `KEY="one\ntwo"\nA=1\n`, `KEY="new"\nA=1\n`],
    ["but not in a comment", "# KEY=old\nKEY=old\n", "# KEY=old\nKEY=new\n"],
    ["but not in another's lines", `A="x\nKEY=inside\n"\n`, `A="x\nKEY=inside\n"\nKEY=new\n`],
    ["but not in a longer name", "KEY_ID=1\nMY_KEY=2\n", "KEY_ID=1\nMY_KEY=2\nKEY=new\n"],
    ["in the form with a colon", "KEY: old\n", "KEY: new\n"],
  ])("takes a value %s", (_where, before, after) => {
    expect(edit(before, { KEY: "new" })).toBe(after);
  });

  it("quotes what needs it, and refuses what readers take for different things", () => {
    const written = (text: string): string | undefined => edit("", { KEY: text })?.slice("KEY=".length, -1);
    expect(written("abc/+=:@-._%,123")).toBe("abc/+=:@-._%,123");
    expect(written("a b")).toBe("'a b'");
    expect(written('a#$`"b')).toBe("'a#$`\"b'");
    expect(written("it's")).toBe(`"it's"`);
    expect(written("one\ntwo")).toBe("'one\ntwo'");
    expect(written("a\\b")).toBe("'a\\b'");
    expect(written("é")).toBe("'\xc3\xa9'");
    for (const impossible of ["it's $5", `'"`, "a\rb", "a\0b", "a\\", "a\\\\b", "\ud800"])
      expect(written(impossible)).toBeUndefined();
  });

  it("does not let a stray quote swallow what is added", () => {
    expect(edit("A='open\n", { KEY: "# one" })).toBeNull();
    expect(edit("A='open\n", { KEY: "word" })).toBe("A='open\nKEY=word\n");
    expect(edit("A=it's\n", { KEY: "two words" })).toBe("A=it's\nKEY='two words'\n");
  });

  it("reads as dotenv does", () => {
    const text = `A=1 # c\nB='x # y'\nC="a\\nb"\nD=\nA=2\nexport E=e\n#F=f\nG="open\nH=\`h\`\nI='a' b\n`;
    expect(Object.fromEntries(parse(text))).toEqual({
      A: "2",
      B: "x # y",
      C: "a\nb",
      D: "",
      E: "e",
      G: '"open',
      H: "h",
      I: "'a' b",
    });
  });

  it("copes with a large file of open quotes", () => {
    const text = `A='${"x".repeat(500_000)}\nB="${"y".repeat(500_000)}\n`;
    expect(parse(text).size).toBe(2);
  });

  it("gives every value back, changes nothing else, and does nothing twice", () => {
    const line = fc.oneof(
      fc.constantFrom(
        "",
        "# note",
        "A=1",
        "export B='two'",
        'C="three # x"',
        "KEY=old",
        "export KEY='old' # n",
        'KEY="o\nld"',
        "D=it's",
        "E='open",
        "junk",
        "\r",
      ),
      fc.string({ maxLength: 12 }),
    );
    const file = fc.tuple(fc.array(line, { maxLength: 8 }), fc.constantFrom("\n", "\r\n"), fc.boolean());
    fc.assert(
      fc.property(file, fc.string({ minLength: 1, unit: "binary" }), ([lines, newline, final], secret) => {
        const text = Buffer.from(lines.join(newline) + (final ? newline : ""), "utf8").toString("latin1");
        const edited = edit(text, { KEY: secret });
        if (edited === null) return;
        const before = parse(text);
        const after = parse(edited);
        expect(after.get("KEY")).toBe(secret);
        before.delete("KEY");
        after.delete("KEY");
        expect(after).toEqual(before);
        expect(edit(edited, { KEY: secret })).toBe(edited);
      }),
      { numRuns: 2000 },
    );
  });

  it("is read alike by a shell", () => {
    const folder = folderOf();
    const file = join(folder, ".env");
    const words = fc.string({ minLength: 1, unit: fc.constantFrom(..."ab' \"$`\\#!*~&;|<>(){}[]?=%\né\t") });
    fc.assert(
      fc.property(fc.array(words, { minLength: 20, maxLength: 20 }), (secrets) => {
        let text: string = "";
        const meant: string[] = [];
        secrets.forEach((secret) => {
          const edited = edit(text, { [`K${meant.length}`]: secret });
          if (edited === null) return;
          text = edited;
          meant.push(secret);
        });
        writeFileSync(file, Buffer.from(text, "latin1"));
        const print = meant.map((_, i) => `printf '%s\\0' "$K${i}"`).join("\n");
        const read = execFileSync("sh", ["-c", `. "$0"\n${print}`, file], {
          encoding: "utf8",
          env: { LC_ALL: "C.UTF-8" },
        });
        expect(read.split("\0").slice(0, -1)).toEqual(meant);
      }),
      { numRuns: 40 },
    );
  });
});

describe("dotenv", () => {
  it("makes a missing file, private", async () => {
    const folder = folderOf();
    await store(folder).put("v1", value("one"), null, ctx());
    expect(readFileSync(join(folder, ".env"), "utf8")).toBe("KEY=one\n");
    expect(statSync(join(folder, ".env")).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual([".env"]);
  });

  it("keeps mode and bytes that are no text", async () => {
    const folder = folderOf();
    const file = join(folder, ".env");
    writeFileSync(file, Buffer.from("A=\xff\xfe\x80\nKEY=old\n", "latin1"), { mode: 0o644 });
    chmodSync(file, 0o644);
    const now = await store(folder).current(ctx());
    await store(folder).put("v1", value("ünï"), now?.ref ?? null, ctx());
    expect(readFileSync(file, "latin1")).toBe(`A=\xff\xfe\x80\nKEY='${Buffer.from("ünï").toString("latin1")}'\n`);
    expect(statSync(file).mode & 0o777).toBe(0o644);
    expect((await store(folder).current(ctx()))?.value.equals(value("ünï"))).toBe(true);
  });

  it("keeps the owner, or does not write", async () => {
    if (!live("root, to give files away", isRoot)) return;
    const folder = folderOf();
    const file = join(folder, ".env");
    writeFileSync(file, "KEY=old\n", { mode: 0o644 });
    chownSync(file, 12345, 54321);
    const ref = (await store(folder).current(ctx()))?.ref ?? null;
    const next = await store(folder).put("v1", value("new"), ref, ctx());
    expect(statSync(file)).toMatchObject({ uid: 12345, gid: 54321 });
    chmodSync(folder, 0o777);
    await unprivileged(async () => {
      await expect(store(folder).put("v2", value("newer"), next, ctx())).rejects.toMatchObject({
        kind: "denied",
        applied: "no",
      });
    });
    expect(readFileSync(file, "utf8")).toBe("KEY=new\n");
    expect(readdirSync(folder)).toEqual([".env"]);
  });

  it("follows a link and leaves it a link", async () => {
    const folder = folderOf();
    mkdirSync(join(folder, "real"));
    symlinkSync("real/env", join(folder, ".env"));
    const ref = await store(folder).put("v1", value("one"), null, ctx());
    await store(folder).put("v2", value("two"), ref, ctx());
    expect(lstatSync(join(folder, ".env")).isSymbolicLink()).toBe(true);
    expect(readFileSync(join(folder, "real/env"), "utf8")).toBe("KEY=two\n");
    expect(store(folder).objectKey).toBe(store(folder, {}, "real/env").objectKey);
  });

  it("tells a part of its fields from all and from none", async () => {
    const folder = folderOf();
    const file = join(folder, ".env");
    const both = store(folder, { KEY: "apiKey", OTHER: "other" });
    writeFileSync(file, "A=1\nOTHER=\n");
    expect(await both.current(ctx())).toBeNull();
    writeFileSync(file, "A=1\nKEY=one\n");
    const part = await both.current(ctx());
    expect(part?.value.reveal()).toEqual({ apiKey: "one" });
    await both.put("v1", value("one", { other: "two" }), part?.ref ?? null, ctx());
    expect(readFileSync(file, "utf8")).toBe("A=1\nKEY=one\nOTHER=two\n");
  });

  it("loses to a change by anybody, down to the last moment", async () => {
    const folder = folderOf();
    const file = join(folder, ".env");
    writeFileSync(file, "KEY=one\n");
    const ref = (await store(folder).current(ctx()))?.ref ?? null;
    writeFileSync(file, "KEY=two\n");
    await expect(store(folder).put("v1", value("x"), ref, ctx())).rejects.toMatchObject({
      kind: "conflict",
      applied: "no",
    });
    const now = (await store(folder).current(ctx()))?.ref ?? null;
    let looks = 0;
    const late = {
      ...value("x"),
      reveal: () => (looks++ === 0 ? (writeFileSync(file, "KEY=three\n"), { apiKey: "x" }) : { apiKey: "x" }),
    };
    const edited = store(folder).put("v1", late as unknown as SecretValue, now, ctx(), true);
    await expect(edited).rejects.toMatchObject({ kind: "conflict", applied: "no" });
    expect(readFileSync(file, "utf8")).toBe("KEY=three\n");
    expect(readdirSync(folder)).toEqual([".env"]);
  });

  it("lets many secrets write one file, each looking again after a conflict", async () => {
    const folder = folderOf();
    const names = Array.from({ length: 6 }, (_, i) => `K${i}`);
    const outcomes = await Promise.all(
      names.map(async (name) => {
        for (;;) {
          const one = store(folder, { [name]: "apiKey" });
          const now = await one.current(ctx());
          const written = one.put("v1", value(`value-of-${name}`), now?.ref ?? null, ctx());
          const outcome = await written.then(
            () => "written",
            ({ kind, applied }: ProviderError) => `${kind} ${applied}`,
          );
          if (outcome !== "conflict no") return outcome;
        }
      }),
    );
    expect(outcomes).toEqual(names.map(() => "written"));
    expect(Object.fromEntries(parse(readFileSync(join(folder, ".env"), "latin1")))).toEqual(
      Object.fromEntries(names.map((name) => [name, `value-of-${name}`])),
    );
  });

  it("refuses a file that is none of its kind", async () => {
    const folder = folderOf();
    mkdirSync(join(folder, "folder"));
    writeFileSync(join(folder, "large"), "x".repeat(1024 * 1024 + 1));
    writeFileSync(join(folder, "linked"), "KEY=1\n");
    linkSync(join(folder, "linked"), join(folder, "other"));
    execFileSync("mkfifo", [join(folder, "fifo")]);
    const unsuitable = [
      ...["folder", "large", "linked", "fifo", "none/.env"].map((path) => store(folder, { KEY: "apiKey" }, path)),
      store(folder, {}),
      store(folder, { "NO KEY": "apiKey" }),
    ];
    for (const one of unsuitable) {
      expect((await one.describe(ctx())).findings).toMatchObject([{ reason: "store-unsuitable", blocks: true }]);
      await expect(one.put("v1", value("one"), null, ctx())).rejects.toMatchObject({ kind: "invalid", applied: "no" });
    }
  });

  it("refuses a value that cannot be written, or lacks a field", async () => {
    const folder = folderOf();
    await expect(store(folder).put("v1", value("it's $5"), null, ctx())).rejects.toMatchObject({
      kind: "invalid",
      applied: "no",
    });
    await expect(store(folder, { KEY: "none" }).put("v1", value("x"), null, ctx())).rejects.toMatchObject({
      kind: "invalid",
      applied: "no",
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  it("holds one of the two contents, whenever its writer is killed", async () => {
    const folder = folderOf();
    const file = join(folder, ".env");
    writeFileSync(file, `# ${"x".repeat(100_000)}\nKEY=key-0\n`);
    const size = statSync(file).size;
    const writer = script(`
      import { setTimeout as sleep } from "node:timers/promises";
      import type { ProviderError } from "../../src/core/errors.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
      import { adapter } from "../../src/adapters/stores/dotenv.ts";
      const deps = { folder: process.argv[2], env: {}, now: Date.now, sleep, debug() {}, announce() {} };
      const store = adapter.create({ path: ".env" }, {}, { secret: "payments", fields: { KEY: "apiKey" } }, deps);
      const ctx = { signal: new AbortController().signal, fence() {}, attempt: 1, rotationId: null };
      let { ref } = await store.current(ctx);
      process.stdout.write("ready");
      for (let i = 0; ; i++) ref = await store.put("v" + i, SecretValue.of({ apiKey: "key-" + (i % 2) }), ref, ctx);
    `);
    for (let i = 0; i < 6; i++) {
      await runAndKill(writer, [folder], 10 + i * 9);
      expect(statSync(file).size).toBe(size);
      expect(["key-0", "key-1"]).toContain(parse(readFileSync(file, "latin1")).get("KEY"));
    }
    const now = await store(folder).current(ctx());
    await store(folder).put("v9", value("done"), now?.ref ?? null, ctx());
    expect(readdirSync(folder)).toEqual([".env"]);
  });

  it("survives a full disk and a folder that may not be written", async () => {
    const folder = folderOf();
    if (!live("root, to mount a small disk", isRoot && canMount(folder))) return;
    await onSmallDisk(folder, 64, async () => {
      const ref = await store(folder).put("v1", value("one"), null, ctx());
      const large = value("x".repeat(100_000));
      await expect(store(folder).put("v2", large, ref, ctx())).rejects.toMatchObject({ kind: "quota", applied: "no" });
      expect((await store(folder).current(ctx()))?.ref).toBe(ref);
      execFileSync("mount", ["-o", "remount,ro", folder]);
      await expect(store(folder).put("v2", value("two"), ref, ctx())).rejects.toMatchObject({
        kind: "denied",
        applied: "no",
      });
      expect((await store(folder).describe(ctx())).findings).toMatchObject([
        { reason: "permission-missing", blocks: true },
      ]);
    });
  });
});
