import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  atFile,
  createFile,
  fileError,
  privateFolder,
  realPath,
  replaceFile,
  sweepTemps,
  tempName,
  withLock,
} from "../../src/adapters/files.ts";
import { ProviderError } from "../../src/core/errors.ts";
import { depsIn, isRoot, live, run, runAndKill, script, tempFolders } from "./file-support.ts";

const folderOf = tempFolders();
const sleep = depsIn("/").sleep;
const lock = (timeout?: number): Parameters<typeof withLock>[1] => ({
  signal: new AbortController().signal,
  sleep,
  ...(timeout === undefined ? {} : { timeout }),
});
const go = (): void => {};

describe("replaceFile", () => {
  it("replaces content and mode as a whole and leaves nothing else", async () => {
    const file = join(folderOf(), "a");
    writeFileSync(file, "old");
    await replaceFile(file, "new", { mode: 0o640, modified: 1_000_000_000_123 }, go);
    expect(readFileSync(file, "utf8")).toBe("new");
    expect(statSync(file).mode & 0o777).toBe(0o640);
    expect(statSync(file).mtimeMs).toBe(1_000_000_000_123);
    expect(readdirSync(join(file, ".."))).toEqual(["a"]);
  });

  it("changes nothing when the commit throws", async () => {
    const file = join(folderOf(), "a");
    writeFileSync(file, "old");
    const refused = replaceFile(file, "new", { mode: 0o600 }, () => {
      throw new Error("no");
    });
    await expect(refused).rejects.toThrow("no");
    expect(readFileSync(file, "utf8")).toBe("old");
    expect(readdirSync(join(file, ".."))).toEqual(["a"]);
  });

  it("leaves one of the two contents, whenever its process is killed", async () => {
    const file = join(folderOf(), "a");
    writeFileSync(file, "a".repeat(200_000));
    const contents = ["a", "b"].map((letter) => letter.repeat(200_000));
    const writer = script(`
      import { replaceFile } from "../../src/adapters/files.ts";
      process.stdout.write("ready");
      for (let i = 0; ; i++) await replaceFile(process.argv[2], "ab"[i % 2].repeat(200_000), { mode: 0o600 }, () => {});
    `);
    for (let i = 0; i < 8; i++) {
      await runAndKill(writer, [file], 10 + i * 7);
      expect(contents).toContain(readFileSync(file, "utf8"));
    }
    await sweepTemps(join(file, ".."), file);
    expect(readdirSync(join(file, ".."))).toEqual(["a"]);
  });
});

describe("createFile", () => {
  it("makes a file once", async () => {
    const file = join(folderOf(), "a");
    expect(await createFile(file, "one", 0o600, go)).toBe(true);
    expect(await createFile(file, "two", 0o600, go)).toBe(false);
    expect(readFileSync(file, "utf8")).toBe("one");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(file, ".."))).toEqual(["a"]);
  });
});

describe("withLock", () => {
  it("lets one in at a time, in this process", async () => {
    const file = join(folderOf(), "lock");
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 8 }, () =>
        withLock(file, lock(), async () => {
          most = Math.max(most, ++inside);
          await sleep(5);
          inside--;
        }),
      ),
    );
    expect(most).toBe(1);
    expect(existsSync(file)).toBe(false);
  });

  it("lets one in at a time, among processes", async () => {
    const folder = folderOf();
    const counter = join(folder, "counter");
    writeFileSync(counter, "0");
    const adder = script(`
      import { readFileSync, writeFileSync } from "node:fs";
      import { setTimeout as sleep } from "node:timers/promises";
      import { withLock } from "../../src/adapters/files.ts";
      const [, , lock, counter] = process.argv;
      for (let i = 0; i < 25; i++) await withLock(lock, { signal: new AbortController().signal, sleep, timeout: 50_000 }, async () => {
        const n = Number(readFileSync(counter, "utf8"));
        await sleep(1);
        writeFileSync(counter, String(n + 1));
      });
    `);
    await Promise.all([1, 2, 3].map(() => run(adder, [join(folder, "lock"), counter])));
    expect(readFileSync(counter, "utf8")).toBe("75");
    expect(readdirSync(folder)).toEqual(["counter"]);
  });

  it("ends with a holder that is killed", async () => {
    const file = join(folderOf(), "lock");
    const holder = script(`
      import { setTimeout as sleep } from "node:timers/promises";
      import { withLock } from "../../src/adapters/files.ts";
      await withLock(process.argv[2], { signal: new AbortController().signal, sleep }, async () => {
        process.stdout.write("held");
        await sleep(60_000);
      });
    `);
    await runAndKill(holder, [file], 0);
    expect(existsSync(file)).toBe(true);
    expect(await withLock(file, lock(0), async () => "in")).toBe("in");
    expect(existsSync(file)).toBe(false);
  });

  it("gives up after its timeout, or at once when the call is aborted, having changed nothing", async () => {
    const file = join(folderOf(), "lock");
    await withLock(file, lock(), async () => {
      await expect(withLock(file, lock(40), async () => {})).rejects.toMatchObject({
        kind: "unavailable",
        applied: "no",
      });
      const aborted = withLock(file, { signal: AbortSignal.abort(), sleep }, async () => {});
      await expect(aborted).rejects.toMatchObject({ kind: "unavailable", applied: "no" });
    });
  });

  it("is given back when the work fails, and says where there is no folder for it", async () => {
    const file = join(folderOf(), "lock");
    await expect(withLock(file, lock(), async () => Promise.reject(new Error("work")))).rejects.toThrow("work");
    expect(await withLock(file, lock(0), async () => 1)).toBe(1);
    const nowhere = atFile("x", () => withLock(join(file, "..", "none", "lock"), lock(0), async () => {}));
    await expect(nowhere).rejects.toMatchObject({ kind: "not-found", applied: "no" });
  });
});

describe("folders and paths", () => {
  it("makes private folders, and keeps .keyturn out of version control", async () => {
    const folder = folderOf();
    await privateFolder(join(folder, ".keyturn", "secrets"));
    await privateFolder(join(folder, ".keyturn", "secrets"));
    expect(statSync(join(folder, ".keyturn")).mode & 0o777).toBe(0o700);
    expect(readFileSync(join(folder, ".keyturn", ".gitignore"), "utf8")).toBe("*\n");
    await privateFolder(join(folder, "other"));
    expect(readdirSync(join(folder, "other"))).toEqual([]);
  });

  it("follows links to where a file is, or will be", () => {
    const folder = folderOf();
    mkdirSync(join(folder, "real"));
    symlinkSync("real", join(folder, "link"));
    symlinkSync("real/later", join(folder, "dangling"));
    symlinkSync("loop", join(folder, "loop"));
    expect(realPath(join(folder, "link", "new", "file"))).toBe(join(folder, "real", "new", "file"));
    expect(realPath(join(folder, "dangling"))).toBe(join(folder, "real", "later"));
    expect(realPath(join(folder, "loop"))).toBe(join(folder, "loop"));
  });

  it("tells where a folder can be written", async () => {
    if (!live("root, to become somebody else", isRoot)) return;
    const folder = folderOf();
    const asker = script(`
      import { canCreate } from "../../src/adapters/files.ts";
      process.setuid(65534);
      process.stdout.write(String(canCreate(process.argv[2])));
    `);
    chmodSync(folder, 0o755);
    expect(await run(asker, [join(folder, "a", "b")])).toBe("false");
    chmodSync(folder, 0o777);
    expect(await run(asker, [join(folder, "a", "b")])).toBe("true");
  });
});

it("sweeps only what writers of that file left", async () => {
  const folder = folderOf();
  for (const path of [
    tempName(join(folder, "a")),
    tempName(join(folder, "b")),
    join(folder, "a"),
    join(folder, ".a.tmp"),
  ])
    writeFileSync(path, "");
  await sweepTemps(folder, join(folder, "a"));
  expect(readdirSync(folder)).toHaveLength(3);
  await sweepTemps(folder);
  expect(readdirSync(folder).sort()).toEqual([".a.tmp", "a"]);
});

it("gives every errno a meaning", () => {
  const kinds = {
    EACCES: "denied",
    EROFS: "denied",
    ENOSPC: "quota",
    EDQUOT: "quota",
    ENOENT: "not-found",
    EISDIR: "invalid",
    EMFILE: "unavailable",
  };
  for (const [code, kind] of Object.entries(kinds)) {
    expect(fileError(Object.assign(new Error("secret words"), { code }), "/a")).toMatchObject({ kind, applied: "no" });
  }
  expect(fileError(Object.assign(new Error("x"), { code: "EIO" }), "/a").applied).toBe("maybe");
  const unforeseen = fileError(new Error("secret words"), "/a");
  expect(unforeseen).toBeInstanceOf(ProviderError);
  expect(unforeseen).toMatchObject({ kind: "unavailable", applied: "maybe" });
  expect(unforeseen.message).not.toContain("secret words");
});
