import { createHash, createHmac } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nameOf } from "../../src/adapters/usage/access-log-files.ts";
import { adapter } from "../../src/adapters/usage/access-log.ts";
import type { ProviderError } from "../../src/core/errors.ts";
import type { AdapterDeps } from "../../src/ports/adapter.ts";
import type { KeyUsage } from "../../src/ports/usage.ts";
import { lookCtx, usageContract } from "../contract/usage.ts";
import { unprivileged } from "./file-support.ts";

const NOW = Date.parse("2026-11-21T12:00:00Z");
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const OLD = "AK-old";
const NEW = "AK-new";

let folder: string;
let now: number;
let debugged: string[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-log-"));
  now = NOW;
  debugged = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function deps(clock: () => number = () => now): AdapterDeps {
  const debug = (line: string): void => void debugged.push(line);
  return { folder, env: {}, now: clock, sleep: () => Promise.resolve(), debug, announce: debug };
}

type Options = Parameters<typeof adapter.settings.parse>[0] & object;

async function look(options: Options = {}, keys = [OLD, NEW]): Promise<Record<string, KeyUsage>> {
  const settings = adapter.settings.parse({ files: ["a.log"], format: "json", ...options });
  return Object.fromEntries(await adapter.create(settings, "s", deps()).usageOf(keys, 0, lookCtx()));
}

/** Minutes before NOW, key, who, status. */
type Row = readonly [ago: number, key?: string | null, who?: string, status?: number];

const json = ([ago, key = null, who = "other", status = 200]: Row) =>
  JSON.stringify({ time: new Date(NOW - ago * MINUTE).toISOString(), key, who, status });
const lines = (...rows: Row[]) => rows.map((row) => `${json(row)}\n`).join("");
const write = (name: string, ...rows: Row[]) => writeFileSync(join(folder, name), lines(...rows));
const gzip = (name: string, ...rows: Row[]) => writeFileSync(join(folder, name), gzipSync(lines(...rows)));

usageContract("access-log", { keys: ["AK/old+1", 'AK"new'] }, async () => {
  const path = join(mkdtempSync(join(tmpdir(), "keyturn-log-")), "gateway.log");
  let clock = Date.now() - HOUR;
  const line = (key: string | null, who: string) => {
    clock += 1000;
    appendFileSync(path, `${JSON.stringify({ time: clock, key, who, status: 200 })}\n`);
  };
  line(null, "other");
  return {
    open: () =>
      adapter.create(
        adapter.settings.parse({ files: [path], format: "json" }),
        "s",
        deps(() => clock + 1000),
      ),
    use: async (keyId, who) => line(keyId, who),
    pass: async () => line(null, "other"),
    now: () => clock + 1000,
    cut: async () => void (clock += 2 * HOUR),
    dispose: async () => rmSync(join(path, ".."), { recursive: true }),
  };
});

describe("what one log says", () => {
  test("who used which key, how often, the longest silence in between, and what was refused", async () => {
    write("a.log", [50, OLD, "checkout"], [40, OLD, "checkout"], [10, OLD, "checkout"], [9, NEW, "checkout"],
      [8, OLD, "late", 401], [7, OLD, "keyturn", 200], [1]); // prettier-ignore
    const { [OLD]: old, [NEW]: fresh } = await look();
    expect(old).toEqual({
      status: "covered",
      from: NOW - 50 * MINUTE,
      until: NOW - MINUTE,
      events: [
        { who: "checkout", outcome: "ok", first: NOW - 50 * MINUTE, last: NOW - 10 * MINUTE, count: 3, own: false, longestGap: 30 * MINUTE }, // prettier-ignore
        { who: "late", outcome: "denied", first: NOW - 8 * MINUTE, last: NOW - 8 * MINUTE, count: 1, own: false },
        { who: "keyturn", outcome: "ok", first: NOW - 7 * MINUTE, last: NOW - 7 * MINUTE, count: 1, own: true },
      ],
    });
    expect(fresh?.events.map(({ who }) => who)).toEqual(["checkout"]);
  });

  test("a log that stopped growing is unknown, and what it showed still counts", async () => {
    write("a.log", [150, OLD, "checkout"], [121]);
    const { [OLD]: old } = await look();
    expect(old).toMatchObject({ status: "unknown", why: `${join(folder, "a.log")} has not grown for 2 h 1 min` });
    expect(old?.events).toHaveLength(1);
    expect((await look({ pause: "3h" }))[OLD]?.status).toBe("covered");
  });

  test("a hole ends what was covered before it", async () => {
    write("a.log", [300, OLD, "checkout"], [200, OLD, "checkout"], [30], [20, NEW], [0]);
    const { [OLD]: old } = await look();
    expect(old).toMatchObject({ status: "covered", from: NOW - 30 * MINUTE, until: NOW });
    // The two uses lie in stretches of their own: nobody knows what was between them.
    expect(old?.events[0]).not.toHaveProperty("longestGap");
  });

  test("silence counts up to the newest line, not up to the clock", async () => {
    write("a.log", [59, OLD], [45]);
    expect((await look())[OLD]?.until).toBe(NOW - 45 * MINUTE);
  });

  test("fields are where the policy says, and the offset stands in for a zone", async () => {
    writeFileSync(
      join(folder, "a.log"),
      `{"request":{"at":"2026-11-21 13:59:00","headers":{"x.id":"${OLD}"}},"client":{"name":"checkout"},"code":"denied"}\n`,
    );
    const fields = { time: "request.at", key: "/request/headers/x.id", who: "client.name", status: "code" };
    const seen = (await look({ fields, denied: ["denied"], offset: "+02:00" }))[OLD];
    expect(seen).toMatchObject({ status: "covered", until: NOW - MINUTE });
    expect(seen?.events).toMatchObject([{ who: "checkout", outcome: "denied" }]);
    expect((await look({ fields }))[OLD]?.why).toMatch("no line that can be read");
  });

  test("no line, no log, no folder that may be read", async () => {
    write("a.log");
    expect((await look())[OLD]?.why).toMatch("has no lines");
    await expect(look({ files: ["b*.log"] })).rejects.toMatchObject({ kind: "not-found", applied: "no" });
    mkdirSync(join(folder, "sub/a.log"), { recursive: true });
    expect((await look({ files: ["sub/a.log"] }))[OLD]?.why).toMatch("has no lines");
  });

  test("a key that no line ever names is not silent: the field may be another", async () => {
    write("a.log", [10, "someone-elses"], [1]);
    const seen = await look();
    expect(seen[OLD]).toMatchObject({ status: "unknown", events: [] });
    expect(seen[OLD]?.why).toMatch("`key` may not name them");
  });

  test("unreadable lines: a few are borne, many are not, and none that names a key", async () => {
    const junk = "Traceback (most recent call last):\n";
    const many = lines(...Array.from({ length: 100 }, (_, i): Row => [50 - i / 2, OLD]));
    const put = (text: string) => writeFileSync(join(folder, "a.log"), text);
    put(many + junk);
    expect((await look())[OLD]?.status).toBe("covered");
    put(many + junk + junk);
    expect((await look())[OLD]?.why).toMatch("2 unreadable lines among 102");
    expect((await look({ junk: 5 }))[OLD]?.status).toBe("covered");
    put(`${many}{"key":"${NEW}","who":\n`);
    expect((await look())[OLD]?.why).toMatch("unreadable line that names a key");
  });

  test("a half-written last line waits; comments and empty lines are nothing", async () => {
    writeFileSync(join(folder, "a.log"), `#Fields: …\n\n${lines([5, OLD, "a"])}{"time":"2026-11-21T11:59:00Z","ke`);
    expect((await look())[OLD]).toMatchObject({ status: "covered", until: NOW - 5 * MINUTE });
    appendFileSync(join(folder, "a.log"), `y":"${OLD}","who":"b"}\r\n`);
    expect((await look())[OLD]?.events.map(({ who }) => who)).toEqual(["a", "b"]);
  });

  test("a clock ahead of ours would promise silence that has not been yet", async () => {
    write("a.log", [5, OLD], [-10]);
    expect((await look())[OLD]).toMatchObject({ status: "unknown" });
    now = NOW + 11 * MINUTE;
    expect((await look())[OLD]).toMatchObject({ status: "covered", until: NOW + 10 * MINUTE });
  });

  test("more callers than are told apart are unknown", async () => {
    write("a.log", ...Array.from({ length: 1100 }, (_, i): Row => [50 - i / 22, OLD, `caller-${i}`]));
    const seen = await look();
    expect(seen[OLD]?.why).toMatch("more than 1000 callers");
    expect(seen[NEW]?.status).toBe("covered");
  });
});

describe("formats", () => {
  const at = "21/Nov/2026:12:59:00 +0100";

  test("combined, as nginx and Apache write it", async () => {
    writeFileSync(
      join(folder, "a.log"),
      `10.0.0.1 - ${OLD} [${at}] "GET /a?b=\\"c\\" HTTP/1.1" 200 12 "-" "checkout/1.0 (\\"x\\")"\n` +
        `10.0.0.2 - - [${at}] "GET / HTTP/1.1" 401 0 "-" "-"\n` +
        `::1 - ${NEW} [${at}] "\\x16\\x03" 401 - "https://a/" "billing"\n`,
    );
    const seen = await look({ format: "combined" });
    expect(seen[OLD]).toMatchObject({ status: "covered", until: NOW - MINUTE });
    expect(seen[OLD]?.events).toMatchObject([{ who: 'checkout/1.0 (\\"x\\")', outcome: "ok" }]);
    expect(seen[NEW]?.events).toMatchObject([{ who: "billing", outcome: "denied" }]);
    expect((await look({ format: "combined", fields: { who: "host" } }))[OLD]?.events[0]?.who).toBe("10.0.0.1");
  });

  test("a pattern with named groups", async () => {
    writeFileSync(join(folder, "a.log"), `[1795262340] key=${OLD} by=checkout -> 200\n[1795262341] ping\n`);
    const pattern = String.raw`^\[(?<time>\d+)\](?: key=(?<key>\S+) by=(?<who>\S+) -> (?<code>\d+))?`;
    const seen = await look({ format: { pattern }, fields: { status: "code" } });
    expect(seen[OLD]?.events).toMatchObject([{ who: "checkout", outcome: "ok", last: 1_795_262_340_000 }]);
    for (const wrong of ["(", "no groups"]) {
      expect(adapter.settings.safeParse({ files: ["a"], format: { pattern: wrong } }).success).toBe(false);
    }
  });

  const digests = {
    sha256: createHash("sha256").update(`pepper${OLD}`).digest("hex").toUpperCase(),
    sha512: createHash("sha512").update(`pepper${OLD}`).digest("base64url"),
    sha1: createHash("sha1").update(`pepper${OLD}`).digest("base64"),
    "hmac-sha256": `hmac-sha256:${createHmac("sha256", "pepper").update(OLD).digest("hex")}`,
  } as const;

  test.each(Object.entries(digests))("key ids digested by %s", async (algorithm, digest) => {
    write("a.log", [5, digest, "checkout"], [4, OLD, "clear"], [1]);
    const hash = { algorithm: algorithm as keyof typeof digests, salt: "pepper" };
    expect((await look({ hash }))[OLD]?.events.map(({ who }) => who)).toEqual(["checkout"]);
    expect((await look({ hash: { ...hash, salt: "salt" } }))[OLD]?.status).toBe("unknown");
  });
});

describe("rotated files", () => {
  test("names", () => {
    const known: Record<string, [string, unknown]> = {
      "a.log": ["a.log", null],
      "a.log.gz": ["a.log", null],
      "a.log.12.gz": ["a.log", { number: 12 }],
      "a.log-20261120": ["a.log", { date: "20261120" }],
      "a.log-20261120.gz": ["a.log", { date: "20261120" }],
      "a-2026-11-20.log": ["a.log", { date: "20261120" }],
      "a.2026-11-20_13.log": ["a.log", { date: "2026112013" }],
      "a.log.1795262340": ["a.log", { date: "1795262340" }],
    };
    for (const [file, [base, rank]] of Object.entries(known)) expect(nameOf(file)).toMatchObject({ base, rank });
  });

  test("are read from the oldest on, compressed or not, by their numbers", async () => {
    gzip("a.log.3.gz", [190, OLD, "a"], [150]);
    write("a.log.2", [140, OLD, "b"], [100]);
    write("a.log.1", [99], [50, OLD, "a"]);
    write("a.log", [20], [1]);
    write("b.log.1", [99, OLD, "not asked for"]);
    const { [OLD]: old } = await look();
    expect(old).toMatchObject({ status: "covered", from: NOW - 190 * MINUTE, until: NOW - MINUTE });
    expect(old?.events).toMatchObject([{ who: "a", count: 2, longestGap: 140 * MINUTE }, { who: "b" }]);
  });

  test("by dates, with a glob that matches some of them", async () => {
    write("a-2026-11-20.log", [100, OLD, "a"], [61]);
    gzip("a-2026-11-19.log.gz", [160, OLD, "a"], [110]);
    write("a-2026-11-21.log", [59], [1]);
    expect((await look({ files: ["*-21.log"] }))[OLD]).toMatchObject({ status: "covered", from: NOW - 160 * MINUTE });
  });

  test("one that is missing is a hole, though the times are close", async () => {
    write("a.log.3", [50, OLD], [45]);
    write("a.log.1", [40], [30]);
    write("a.log", [20], [1]);
    expect((await look())[OLD]).toMatchObject({ status: "covered", from: NOW - 40 * MINUTE });
    renameSync(join(folder, "a.log.1"), join(folder, "a.log.2"));
    expect((await look())[OLD]).toMatchObject({ status: "covered", from: NOW - 20 * MINUTE });
  });

  test("a compressed one that is cut short is a hole; beside the plain one it is not read", async () => {
    const whole = gzipSync(lines([50, OLD, "a"], [45]));
    writeFileSync(join(folder, "a.log.1.gz"), whole.subarray(0, whole.length - 12));
    write("a.log", [40], [1, NEW]);
    expect((await look())[OLD]).toMatchObject({ status: "covered", from: NOW - 40 * MINUTE });
    write("a.log.1", [50, OLD, "a"], [45]);
    const { [OLD]: old } = await look();
    expect(old).toMatchObject({ status: "covered", from: NOW - 50 * MINUTE });
    expect(old?.events).toMatchObject([{ count: 1 }]);
  });

  test("a log cut down to nothing is covered from its first line on", async () => {
    write("a.log", [50, OLD, "a"], [30]);
    truncateSync(join(folder, "a.log"));
    expect((await look())[OLD]?.status).toBe("unknown");
    appendFileSync(join(folder, "a.log"), lines([5], [1, OLD, "b"]));
    expect((await look())[OLD]).toMatchObject({ status: "covered", from: NOW - 5 * MINUTE });
  });

  test("between two renames the log is what its rotated files say", async () => {
    write("a.log.1", [50, OLD, "a"], [30]);
    expect((await look())[OLD]).toMatchObject({ status: "covered", until: NOW - 30 * MINUTE });
  });

  test("of several logs the least covered counts, and a stalled one speaks for all", async () => {
    write("a.log", [50, OLD, "a"], [2]);
    write("b.log", [40, OLD, "b"], [10]);
    const { [OLD]: both } = await look({ files: ["a.log", "b.log"] });
    expect(both).toMatchObject({ status: "covered", from: NOW - 40 * MINUTE, until: NOW - 10 * MINUTE });
    expect(both?.events).toHaveLength(2);
    write("b.log", [140, OLD, "b"], [100]);
    expect((await look({ files: ["*.log"] }))[OLD]?.why).toMatch("b.log has not grown for 1 h 40 min");
  });

  test("files older than the history are left out", async () => {
    write("a.log.1", [50, OLD, "a"], [30]);
    write("a.log", [20, NEW], [1]);
    // Their age is when they were last written, which is today.
    now = Date.now() + 2 * 24 * HOUR;
    expect((await look({ history: "1d", pause: "5000d" }))[OLD]?.events).toHaveLength(0);
    expect((await look({ history: "3d", pause: "5000d" }))[OLD]?.events).toHaveLength(1);
  });

  test("no permission is said, not taken for silence", async () => {
    write("a.log.1", [5, OLD], [4]);
    write("a.log", [1]);
    chmodSync(folder, 0o755);
    chmodSync(join(folder, "a.log.1"), 0o000);
    const refused = { kind: "denied", applied: "no", message: expect.stringContaining("a.log.1") as unknown };
    await unprivileged(() => expect(look()).rejects.toMatchObject(refused));
    chmodSync(folder, 0o700);
    await unprivileged(() => expect(look()).rejects.toMatchObject({ kind: "denied", applied: "no" }));
  });

  test("a rotation in the middle of a look hides no use and shows none twice", async () => {
    const uses: Row[] = Array.from({ length: 8 }, (_, i): Row => [50 - i, OLD, "a"]);
    for (const [i, use] of uses.entries()) write(`a.log.${8 - i}`, use, [use[0] - 0.5]);
    write("a.log", [1]);
    const rotating = new AbortController();
    const rotate = async () => {
      // What falls out at the end comes in again at the front, so that the log says the same before and after.
      for (let n = 9; n <= 13; n++) {
        for (let i = n - 1; i >= 1; i--) renameSync(join(folder, `a.log.${i}`), join(folder, `a.log.${i + 1}`));
        renameSync(join(folder, "a.log"), join(folder, "a.log.1"));
        await new Promise((resolve) => setTimeout(resolve, 2));
        write("a.log", [1]);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      rotating.abort();
    };
    const rotated = rotate();
    while (!rotating.signal.aborted) {
      const found = look().then((seen) => seen[OLD]?.events[0]?.count);
      expect([8, "unavailable"]).toContain(await found.catch((error: ProviderError) => error.kind));
    }
    await rotated;
  });
});

test("a large log is read in bounded memory, whatever its lines", async () => {
  const path = join(folder, "a.log");
  const block = lines(...Array.from({ length: 1000 }, (_, i): Row => [40 - i / 1000, null, "other"]));
  writeFileSync(path, lines([45, OLD, "a"]));
  for (let i = 0; i < 400; i++) appendFileSync(path, block);
  appendFileSync(path, `${"x".repeat(8 * 1024 * 1024)}\n${lines([1])}`);
  const before = process.memoryUsage().rss;
  const { [OLD]: old } = await look();
  expect(old).toMatchObject({ status: "covered", from: NOW - 45 * MINUTE, until: NOW - MINUTE });
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
  expect(debugged.join("\n")).toMatch(/400002|400003/);
});
