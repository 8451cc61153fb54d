import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { clientAdd, keyAdd, keyDelete, keyDisable, keyEnable, keyList, serve } from "../../src/commands/api-keys.ts";
import { UserError } from "../../src/core/errors.ts";

const TOKEN = { KEYTURN_API_KEYS_ADMIN_TOKEN: "a-token" };
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "keyturn-commands-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function io(env: Record<string, string> = TOKEN, signal = new AbortController().signal) {
  const printed = { out: "", err: "" };
  return {
    printed,
    env,
    signal,
    stdout: { write: (text: string) => (printed.out += text) },
    stderr: { write: (text: string) => (printed.err += text) },
  };
}

async function serving(db: string): Promise<{ url: string; stop: () => Promise<unknown>; printed: { out: string } }> {
  const stop = new AbortController();
  const terminal = io(TOKEN, stop.signal);
  const ended = serve({ db: join(folder, db), listen: "127.0.0.1:0" }, terminal);
  await expect.poll(() => terminal.printed.out).toMatch(/\n$/);
  const url = /http:\S+/.exec(terminal.printed.out)?.[0] ?? "";
  return {
    url,
    printed: terminal.printed,
    stop: () => {
      stop.abort();
      return ended;
    },
  };
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => expect.unreachable("it did not fail"),
    (error: unknown) => {
      expect(error).toBeInstanceOf(UserError);
      const { code, message, options } = error as UserError;
      return { code, message, exit: options.exit };
    },
  );

describe("api-keys", () => {
  it("serves until it is stopped, with one line on stdout, and keeps what it was told", async () => {
    const first = await serving("a.db");
    expect(first.printed.out).toMatch(/^keyturn api-keys: listening on http:\/\/127\.0\.0\.1:\d+\n$/);
    const terminal = io({ ...TOKEN, KEYTURN_API_KEYS_URL: first.url });
    const { member } = await clientAdd({ name: "bot", maxKeys: 3, scopes: ["read"] }, terminal);
    expect(member).toEqual({
      client: { name: "bot", maxKeys: 3, scopes: ["read"], createdAt: expect.stringMatching(/^20.*Z$/) },
    });
    const added = await keyAdd({ client: "bot" }, terminal);
    const key = added.member.key as { id: string; value: string };
    expect(key).toEqual({
      id: expect.stringMatching(/^key_/),
      client: "bot",
      value: expect.stringMatching(/^kt_/),
      createdAt: expect.any(String),
      scopes: ["read"],
    });
    expect(added.text.split(key.value)).toHaveLength(2);
    expect(await first.stop()).toEqual({ exit: 0, text: "", member: {} });

    const second = await serving("a.db");
    const url = second.url;
    const listed = await keyList({ client: "bot", url }, io());
    expect(listed.text).toMatch(new RegExp(`^${key.id} {2}enabled `));
    expect(JSON.stringify(listed)).not.toContain(key.value);
    const status = async (done: Promise<{ member: Readonly<Record<string, unknown>> }>) =>
      ((await done).member.key as { status: string }).status;
    expect(await status(keyDisable({ client: "bot", key: key.id, url }, io()))).toBe("disabled");
    expect(await status(keyEnable({ client: "bot", key: key.id, url }, io()))).toBe("enabled");
    expect(await status(keyDelete({ client: "bot", key: key.id, url }, io()))).toBe("deleted");
    expect((await keyList({ client: "bot", url }, io())).member.keys).toEqual([]);
    expect(terminal.printed).toEqual({ out: "", err: "" });
    await second.stop();
  });

  it("says what is wrong with a call, by code and exit code", async () => {
    const { url, stop } = await serving("b.db");
    const options = { client: "bot", url };
    await clientAdd({ name: "bot", maxKeys: 1, url }, io());
    await keyAdd(options, io());
    const judged = async (promise: Promise<unknown>) => {
      const { code, exit } = await failure(promise);
      return [code, exit];
    };
    expect(await judged(keyAdd(options, io()))).toEqual(["api-keys-quota", 1]);
    expect(await judged(keyAdd({ client: "nobody", url }, io()))).toEqual(["api-keys-unknown-client", 1]);
    expect(await judged(keyDelete({ client: "bot", key: "key_0", url }, io()))).toEqual(["api-keys-unknown-key", 1]);
    expect(await judged(clientAdd({ name: "bot", url }, io()))).toEqual(["api-keys-exists", 1]);
    expect(await judged(clientAdd({ name: "../x", url }, io()))).toEqual(["api-keys-invalid", 2]);
    expect(await judged(keyList(options, io({ KEYTURN_API_KEYS_ADMIN_TOKEN: "wrong" })))).toEqual([
      "api-keys-unauthenticated",
      1,
    ]);
    expect(await judged(keyList(options, io({})))).toEqual(["credentials-missing", 2]);
    expect(await judged(keyList({ client: "bot" }, io()))).toEqual(["usage", 2]);
    const mute = createServer((socket) => socket.destroy());
    await new Promise<void>((done) => mute.listen(0, "127.0.0.1", done));
    const { port } = mute.address() as AddressInfo;
    const gone = { client: "bot", url: `http://127.0.0.1:${port}` };
    expect(await judged(keyList(gone, io()))).toEqual(["api-keys-unreachable", 1]);
    await new Promise((done) => mute.close(done));
    expect(await judged(keyList(gone, io()))).toEqual(["api-keys-not-listening", 1]);
    await stop();
  });

  it("refuses to start without a token, with a bad address, on a taken port, on a file that is no database", async () => {
    const db = join(folder, "c.db");
    expect(await failure(serve({ db }, io({})))).toMatchObject({
      code: "credentials-missing",
      exit: 2,
      message: expect.stringContaining("KEYTURN_API_KEYS_ADMIN_TOKEN"),
    });
    expect(await failure(serve({ db }, io({ KEYTURN_API_KEYS_ADMIN_TOKEN: "two words" })))).toMatchObject({
      code: "credentials-missing",
    });
    expect(await failure(serve({ db, listen: "8787" }, io()))).toMatchObject({ code: "usage", exit: 2 });
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const listen = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
    expect(await failure(serve({ db, listen }, io()))).toMatchObject({ code: "api-keys-listen", exit: 1 });
    await new Promise((resolve) => taken.close(resolve));
    const junk = join(folder, "junk.db");
    await writeFile(junk, "this is a text and no database\n".repeat(200));
    for (const file of [junk, join(folder, "no", "x.db")]) {
      expect(await failure(serve({ db: file, listen: "127.0.0.1:0" }, io()))).toMatchObject({
        code: "api-keys-database",
        message: expect.stringContaining(file),
      });
    }
    expect(await readFile(junk, "utf8")).toContain("this is a text");
  });
});
