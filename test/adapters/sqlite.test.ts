import { chmodSync, chownSync, cpSync, readFileSync, readdirSync, statSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "libsql";
import { describe, expect, it } from "vitest";
import { adapter, type SqliteState } from "../../src/adapters/state/sqlite.ts";
import { newState } from "../../src/core/model.ts";
import { stateBackendContract } from "../contract/state-backend.ts";
import { canMount, depsIn, isRoot, live, onSmallDisk, run, runAndKill, script, tempFolders } from "./file-support.ts";

const folderOf = tempFolders();
const open = async (folder: string, path = ".keyturn/state.db"): Promise<SqliteState> =>
  (await adapter.create({ path }, depsIn(folder))) as SqliteState;
const payments = newState("payments", 0);

/** A folder whose state holds one document. */
async function saved(): Promise<{ folder: string; file: string }> {
  const folder = folderOf();
  const state = await open(folder);
  await state.save("payments", payments, null);
  await state.close();
  return { folder, file: join(folder, ".keyturn", "state.db") };
}

stateBackendContract("sqlite", async () => {
  const folder = folderOf();
  let now = 1_700_000_000_000;
  return {
    open: () => adapter.create({ path: ".keyturn/state.db" }, depsIn(folder, { now: () => now })),
    advance: (ms) => void (now += ms),
    damage: async (name) =>
      edit(
        join(folder, ".keyturn", "state.db"),
        `UPDATE documents SET body = substr(body, 1, 20) WHERE name = '${name}'`,
      ),
    openUnheard: null,
    dispose: async () => {},
  };
});

describe("sqlite", () => {
  it("takes its place from a URL and has one without", () => {
    expect(adapter.fromUrl("sqlite:a/b.db")).toEqual({ path: "a/b.db" });
    expect(adapter.fromUrl("sqlite:/a/b.db")).toEqual({ path: "/a/b.db" });
    for (const other of ["sqlite:", "postgres://x", "a.db"]) expect(adapter.fromUrl(other)).toBeNull();
    expect(adapter.settings.parse({})).toEqual({ path: ".keyturn/state.db" });
  });

  it("makes no file for a reader", async () => {
    const folder = folderOf();
    const state = await open(folder);
    expect(await state.load("payments")).toBeNull();
    for await (const _ of state.loadAll()) expect.unreachable();
    await state.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("keeps its folder and its file private, and one file is a whole backup", async () => {
    const { folder, file } = await saved();
    expect(statSync(join(folder, ".keyturn")).mode & 0o777).toBe(0o700);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(folder, ".keyturn", ".gitignore"), "utf8")).toBe("*\n");
    expect(
      readdirSync(join(folder, ".keyturn")).filter((name) => name.includes("tmp") || name.includes("lock")),
    ).toEqual([]);
    const copy = join(folder, "copy.db");
    cpSync(file, copy);
    const restored = await open(folder, "copy.db");
    expect((await restored.load("payments"))?.state).toEqual(payments);
    await restored.close();
  });

  it("keeps a write-ahead log", async () => {
    const { file } = await saved();
    const db = new Database(file);
    expect(db.prepare("PRAGMA journal_mode").get()).toMatchObject({ journal_mode: "wal" });
    db.close();
  });

  it("makes no folder but its own", async () => {
    const folder = folderOf();
    const state = await open(folder, "typo/state.db");
    await expect(state.save("payments", payments, null)).rejects.toMatchObject({
      code: "state-unwritable",
      options: { exit: 1 },
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  it("can be begun by several processes at once", async () => {
    const folder = folderOf();
    const beginner = script(`
      import { setTimeout as sleep } from "node:timers/promises";
      import { newState } from "../../src/core/model.ts";
      import { adapter } from "../../src/adapters/state/sqlite.ts";
      const [, , folder, name] = process.argv;
      const state = await adapter.create({ path: ".keyturn/state.db" }, { folder, now: Date.now, sleep });
      const { result } = await state.save(name, newState(name, 0), null);
      await state.close();
      process.stdout.write(result);
    `);
    const names = ["a", "b", "c", "d"];
    expect(await Promise.all(names.map((name) => run(beginner, [folder, name])))).toEqual(names.map(() => "saved"));
    const state = await open(folder);
    const found: string[] = [];
    for await (const { state: one } of state.loadAll()) found.push(one.name);
    await state.close();
    expect(found).toEqual(names);
  });

  it("holds one whole document, whenever its writer is killed", async () => {
    const folder = folderOf();
    const writer = script(`
      import { setTimeout as sleep } from "node:timers/promises";
      import { newState } from "../../src/core/model.ts";
      import { adapter } from "../../src/adapters/state/sqlite.ts";
      const state = await adapter.create({ path: ".keyturn/state.db" }, { folder: process.argv[2], now: Date.now, sleep });
      process.stdout.write("ready");
      for (let revision = (await state.load("a"))?.revision ?? null, n = Number(revision ?? 0); ; n++) {
        const next = { ...newState("a", n), commitId: String(n), issuerBinding: String(n).repeat(2000) };
        revision = (await state.save("a", next, revision)).revision;
      }
    `);
    let last = 0;
    // Six kills, and as many more as a busy machine needs until one comes after a commit.
    for (let i = 0; i < 6 || (last === 0 && i < 60); i++) {
      await runAndKill(writer, [folder], i === 0 ? 0 : 10 + i * 11);
      const state = await open(folder);
      const loaded = await state.load("a");
      await state.close();
      if (loaded === null) continue;
      const n = Number(loaded.state.commitId);
      expect(loaded.state.issuerBinding).toBe(String(n).repeat(2000));
      expect(n).toBeGreaterThanOrEqual(last);
      last = n;
    }
    expect(last).toBeGreaterThan(0);
  });

  it("upgrades nothing it does not know: a newer file, a newer document", async () => {
    const newerFile = await saved();
    edit(newerFile.file, "PRAGMA user_version = 99");
    const newerDocument = await saved();
    edit(newerDocument.file, "UPDATE documents SET schema = 99");
    for (const { folder } of [newerFile, newerDocument]) {
      const state = await open(folder);
      await expect(state.load("payments")).rejects.toMatchObject({
        name: "UserError",
        code: "state-newer",
        options: { exit: 3 },
      });
      await state.close();
    }
  });

  it.each([
    ["empty", (file: string) => writeFileSync(file, "")],
    ["text", (file: string) => writeFileSync(file, "no database\n".repeat(1000))],
    ["another program's", (file: string) => edit(file, "PRAGMA application_id = 0")],
    ["overwritten pages", (file: string) => writeFileSync(file, readFileSync(file).fill(0xab, 4096))],
    ["cut off", (file: string) => writeFileSync(file, readFileSync(file).subarray(0, 5000))],
  ])("refuses a damaged file and keeps it: %s", async (_what, damage) => {
    const folder = folderOf();
    const file = join(folder, "state.db");
    cpSync((await saved()).file, file);
    damage(file);
    const bytes = readFileSync(file);
    const state = await open(folder, "state.db");
    const refusal = {
      name: "UserError",
      code: "state-damaged",
      options: { exit: 3 },
      message: expect.stringContaining(file) as string,
    };
    await expect(state.load("payments")).rejects.toMatchObject(refusal);
    await expect(state.save("payments", payments, null)).rejects.toMatchObject(refusal);
    await state.close();
    expect(readFileSync(file).equals(bytes)).toBe(true);
  });

  it("refuses where it may not write, and works again where it may", async () => {
    if (!live("root, to become somebody else", isRoot)) return;
    const saver = script(`
      import { setTimeout as sleep } from "node:timers/promises";
      import { newState } from "../../src/core/model.ts";
      import { adapter } from "../../src/adapters/state/sqlite.ts";
      process.setuid(65534);
      const [, , folder, expected] = process.argv;
      const state = await adapter.create({ path: "state.db" }, { folder, now: Date.now, sleep });
      const answer = state.save("payments", newState("payments", 0), expected ?? null);
      process.stdout.write(await answer.then(({ result }) => result, (error) => error.code + error.options.exit));
    `);
    for (const [folderMode, fileMode] of [
      [0o500, 0o600],
      [0o700, 0o400],
      [0o755, null],
    ] as const) {
      const folder = folderOf();
      const file = join(folder, "state.db");
      const args = fileMode === null ? [folder] : [folder, "1"];
      if (fileMode !== null) {
        cpSync((await saved()).file, file);
        chownSync(file, 65534, 65534);
        chownSync(folder, 65534, 65534);
        chmodSync(file, fileMode);
      }
      chmodSync(folder, folderMode);
      expect(await run(saver, args)).toBe("state-unwritable1");
      if (fileMode !== null) chmodSync(file, 0o600);
      chmodSync(folder, 0o777);
      expect(await run(saver, args)).toBe("saved");
    }
  });

  it("survives a full disk: refused with the state as it was, and goes on when there is room", async () => {
    const folder = folderOf();
    if (!live("root, to mount a small disk", isRoot && canMount(folder))) return;
    const refusal = {
      name: "UserError",
      code: "state-unwritable",
      options: { exit: 1 },
      message: expect.stringContaining("full") as string,
    };
    await onSmallDisk(folder, 400, async () => {
      const state = await open(folder);
      let revision: string | null = null;
      let commits = 0;
      const fill = async (): Promise<void> => {
        for (;;) {
          const answer = await state.save(
            "payments",
            { ...payments, commitId: `c${commits}`, issuerBinding: "x".repeat(10_000) },
            revision,
          );
          if (answer.result !== "saved") throw new Error(answer.result);
          revision = answer.revision;
          if (++commits === 5) writeFileSync(join(folder, "ballast"), Buffer.alloc(roomLeft(folder, 40_000)));
        }
      };
      await expect(fill()).rejects.toMatchObject(refusal);
      expect((await state.load("payments"))?.state.commitId).toBe(`c${commits - 1}`);
      await state.close();
      writeFileSync(join(folder, "ballast"), "");
      const next = await open(folder);
      expect(await next.load("payments")).toMatchObject({ revision, state: { commitId: `c${commits - 1}` } });
      expect(await next.save("payments", payments, revision)).toMatchObject({ result: "saved" });
      await next.close();
    });
    await onSmallDisk(folder, 256, async () => {
      writeFileSync(join(folder, "ballast"), Buffer.alloc(roomLeft(folder, 8192)));
      const state = await open(folder);
      await expect(state.save("payments", payments, null)).rejects.toMatchObject(refusal);
      await state.close();
      writeFileSync(join(folder, "ballast"), "");
      const next = await open(folder);
      await expect(next.save("payments", payments, null)).resolves.toMatchObject({ result: "saved" });
      await next.close();
    });
  });

  it("tells a lock that never ends from damage", async () => {
    const { folder, file } = await saved();
    const other = new Database(file);
    other.exec("BEGIN IMMEDIATE");
    const state = await open(folder);
    await expect(state.save("payments", payments, "1")).rejects.toMatchObject({
      name: "ProviderError",
      kind: "unavailable",
      applied: "no",
    });
    other.exec("ROLLBACK");
    other.close();
    await expect(state.save("payments", payments, "1")).resolves.toMatchObject({ result: "saved" });
    await state.close();
  });
});

function edit(file: string, sql: string): void {
  const db = new Database(file);
  db.exec(sql);
  db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  db.close();
}

/** Bytes that can still be written so that about `rest` stay free. */
function roomLeft(folder: string, rest: number): number {
  const { bavail, bsize } = statfsSync(folder);
  return Math.max(0, bavail * bsize - rest);
}
