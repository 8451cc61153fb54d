import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { writeFileSync } from "node:fs";
import { createServer, type AddressInfo, type Server } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, type Ended, type Running } from "../support/command-line.ts";
import type { Lane } from "../support/lane.ts";
import { REGION } from "../support/moto.ts";
import { startBao, type Bao } from "../support/openbao.ts";
import { startCutter } from "../support/postgres.ts";
import { laneOn, servers, SHARED, startShared, stopShared } from "../support/shared-state.ts";
import { startWire } from "../support/wire.ts";

const there = SHARED.filter(({ there, name }) => there && !name.includes("PgBouncer"));
const HOUR = 3_600_000;

let authority: TestAuthority;
let commands: CommandLine;
let behindTls: Bao | undefined;
/** Takes every connection, and says nothing. */
let silent: Server;

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
  await startShared({ auth: true });
  if (there.some(({ name }) => name === "vault-kv")) behindTls = await startBao({ tls: true });
  silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
}, 120_000);
afterAll(async () => {
  await authority?.close();
  commands?.remove();
  await behindTls?.stop();
  silent?.close();
  await stopShared();
});

/** A lane of its own with its state there, as long as the test goes on. */
async function inLane(backend: string, body: (lane: Lane) => Promise<void>): Promise<void> {
  const shared = there.find(({ name }) => name === backend) as (typeof there)[number];
  const lane = await laneOn(shared, authority, commands);
  try {
    await body(lane);
  } finally {
    await lane.close();
  }
}

/** One error line with a hint beside it, and nothing that looks like a crash. */
function refused({ code, stdout, stderr }: Ended, wanted: number, says: RegExp, hint: RegExp): void {
  const lines = stderr.split("\n").filter((line) => line.startsWith("keyturn: "));
  expect({ code, lines: lines.length }, stderr).toEqual({ code: wanted, lines: 1 });
  expect(lines[0]).toMatch(says);
  expect(/^hint: (.*)$/m.exec(stderr)?.[1] ?? "").toMatch(hint);
  expect(stdout + stderr).not.toMatch(/bug in keyturn|^ {4}at |swordfish/m);
}

function done({ code, stderr }: Ended): void {
  expect(code, stderr).toBe(0);
}

interface Bad {
  readonly url?: (right: string) => string;
  readonly env?: () => Readonly<Record<string, string>>;
  readonly says: RegExp;
  readonly hint: RegExp;
}

const port = (server: Server): number => (server.address() as AddressInfo).port;
/** Another server, or its name in a certificate. */
const at = (url: string, change: { host?: string; port?: number; query?: string }): string => {
  const there = new URL(url);
  const { host = there.hostname, port: its = there.port, query = "" } = change;
  return `postgres://${there.username}:${there.password}@${host}:${its}${there.pathname}?${query}`;
};

const BAD: Readonly<Record<string, Readonly<Record<string, Bad>>>> = {
  postgres: {
    "nobody there": {
      url: (right) => at(right, { port: 1 }),
      says: /the state in postgres:\/\/127\.0\.0\.1:1\/\w+\?schema=keyturn: connection refused$/,
      hint: /host and port/,
    },
    "no answer": {
      url: (right) => at(right, { port: port(silent) }),
      says: /the state in postgres:\S+: the server does not answer in time$/,
      hint: /host and port/,
    },
    "a wrong password": {
      url: (right) => right.replace(/:[^:@]*@/, ":swordfish@"),
      says: /the state in postgres:\S+: the server refuses the user admin \(28P01\)$/,
      hint: /check user and password/,
    },
    "a certificate that is not trusted": {
      url: (right) => at(right, { host: "localhost", query: "sslmode=verify-full" }),
      says: /the state in postgres:\S+: the server's certificate is not trusted \([A-Z_]+\)$/,
      hint: /sslrootcert/,
    },
  },
  s3: {
    "nobody there": {
      env: () => ({ AWS_ENDPOINT_URL: "http://127.0.0.1:1" }),
      says: /the state in s3:\S+: GET http:\/\/127\.0\.0\.1:1: connection refused$/,
      hint: /AWS_ENDPOINT_URL/,
    },
    "no answer": {
      env: () => ({ AWS_ENDPOINT_URL: `http://127.0.0.1:${port(silent)}` }),
      says: /the state in s3:\S+: GET \S+: no full answer within 10 s$/,
      hint: /AWS_ENDPOINT_URL/,
    },
    "a wrong password": {
      env: () => ({ AWS_SECRET_ACCESS_KEY: "swordfish" }),
      says: /the state in s3:\S+: s3:GetObject: SignatureDoesNotMatch \(403\)$/,
      hint: /sign in again/,
    },
    "a certificate that is not trusted": {
      env: () => ({ AWS_ENDPOINT_URL: behindTls?.address ?? "" }),
      says: /the state in s3:\S+: GET https:\S+: its certificate is not trusted \([A-Z_]+\)$/,
      hint: /AWS_CA_BUNDLE/,
    },
  },
  "vault-kv": {
    "nobody there": {
      env: () => ({ VAULT_ADDR: "http://127.0.0.1:1" }),
      says: /the state in vault-kv:\S+: GET http:\/\/127\.0\.0\.1:1: connection refused$/,
      hint: /VAULT_ADDR/,
    },
    "no answer": {
      env: () => ({ VAULT_ADDR: `http://127.0.0.1:${port(silent)}` }),
      says: /the state in vault-kv:\S+: GET \S+: no full answer within 10 s$/,
      hint: /VAULT_ADDR/,
    },
    "a wrong password": {
      env: () => ({ VAULT_TOKEN: "swordfish" }),
      says: /the state in vault-kv:\S+: Vault refuses the token: /,
      hint: /vault login/,
    },
    "a certificate that is not trusted": {
      env: () => ({ VAULT_ADDR: behindTls?.address ?? "" }),
      says: /the state in vault-kv:\S+: GET https:\S+: its certificate is not trusted \([A-Z_]+\)$/,
      hint: /VAULT_CACERT/,
    },
  },
};

const cases = there.flatMap(({ name }) =>
  Object.entries(BAD[name] ?? {}).map(([what, bad]) => [name, what, bad] as const),
);

describe.concurrent("a state that cannot be reached", { timeout: 90_000 }, () => {
  test.each(cases)("%s: %s", (backend, _, { url = (right) => right, env = () => ({}), says, hint }) =>
    inLane(backend, async (lane) => {
      const state = url(lane.place.env["STATE_URL"] ?? "");
      const place = { folder: lane.place.folder, env: { ...lane.place.env, ...env(), STATE_URL: state } };
      refused(await commands.run(place, "rotate", "one", "--wait"), 1, says, hint);
      // Neither there nor where the state should be: what was asked for in vain is not half done.
      expect(lane.proxy.calls).toEqual([]);
      const { document } = await lane.json("status", "one");
      expect(document.secrets[0]).toMatchObject({ phase: "idle", versions: [] });
    }),
  );
});

/** Puts something else in the document's place. @returns how to undo it */
type Spoil = (lane: Lane) => Promise<() => Promise<unknown>>;

function s3(): S3Client {
  const { url, env } = servers().moto;
  const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = env;
  return new S3Client({
    endpoint: url,
    region: REGION,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
  });
}

const inBucket =
  (body: string): Spoil =>
  async (lane) => {
    const where = { Bucket: lane.place.env["STATE_URL"]?.slice("s3://".length), Key: "keyturn/secrets/one.json" };
    const kept = (await (await s3().send(new GetObjectCommand(where))).Body?.transformToString()) ?? "";
    await s3().send(new PutObjectCommand({ ...where, Body: body }));
    return () => s3().send(new PutObjectCommand({ ...where, Body: kept }));
  };

const inVault =
  (data: object): Spoil =>
  async (lane) => {
    const { bao } = servers();
    const path = `secret/data/${lane.place.env["STATE_URL"]?.slice("vault-kv:".length)}/secrets/one`;
    const put = async (data: object) => {
      const { version: cas } = (await bao.must("GET", path)).metadata;
      return bao.must("POST", path, { options: { cas }, data });
    };
    const kept = (await bao.must("GET", path)).data;
    await put(data);
    return () => put(kept);
  };

const inTables =
  (change: string, back: string): Spoil =>
  async (lane) => {
    const database = new URL(lane.place.env["STATE_URL"] ?? "").pathname.slice(1);
    await servers().postgres.sql(database, change);
    return () => servers().postgres.sql(database, back);
  };

const NEWER: Readonly<Record<string, Spoil>> = {
  postgres: inTables(
    "INSERT INTO keyturn.keyturn_migrations (step) VALUES (99)",
    "DELETE FROM keyturn.keyturn_migrations WHERE step = 99",
  ),
  s3: inBucket('{"keyturn":2}'),
  "vault-kv": inVault({ keyturn: 2 }),
};
const FOREIGN: Readonly<Record<string, Spoil>> = {
  postgres: inTables(
    "ALTER TABLE keyturn.keyturn_documents RENAME TO theirs; CREATE TABLE keyturn.keyturn_documents (id int)",
    "DROP TABLE keyturn.keyturn_documents; ALTER TABLE keyturn.theirs RENAME TO keyturn_documents",
  ),
  s3: inBucket('{"terraform":1}'),
  "vault-kv": inVault({ password: "theirs" }),
};

describe.concurrent.each(there)("state in $name that is not ours to touch", { timeout: 90_000 }, ({ name }) => {
  test.each([
    ["of a newer version", NEWER, /was written by a newer version$/, /upgrade keyturn/],
    ["somebody else's", FOREIGN, /is damaged: /, /backup/],
  ])("%s: refused, left as it is, and nothing is asked of the issuer", (_, how, says, hint) =>
    inLane(name, async (lane) => {
      done(await lane.run("rotate", "one", "--wait"));
      lane.proxy.reset();
      const undo = await (how[name] as Spoil)(lane);
      refused(await lane.run("rotate", "one", "--wait"), 3, says, hint);
      expect(lane.proxy.calls).toEqual([]);
      await undo();
      done(await lane.run("rotate", "one", "--wait"));
      expect(await lane.faults()).toEqual([]);
      expect(lane.proxy.issued.size).toBe(2);
    }),
  );
});

const DELETED: Readonly<Record<string, Spoil>> = {
  s3: async (lane) => {
    const undo = await inBucket("{}")(lane);
    const where = { Bucket: lane.place.env["STATE_URL"]?.slice("s3://".length), Key: "keyturn/secrets/one.json" };
    await s3().send(new DeleteObjectCommand(where));
    return undo;
  },
  "vault-kv": async (lane) => {
    const { bao } = servers();
    const path = `${lane.place.env["STATE_URL"]?.slice("vault-kv:".length)}/secrets/one`;
    const { version } = (await bao.must("GET", `secret/data/${path}`)).metadata;
    await bao.must("DELETE", `secret/data/${path}`);
    return () => bao.must("POST", `secret/undelete/${path}`, { versions: [version] });
  },
};

describe.concurrent("a document that somebody deleted", { timeout: 90_000 }, () => {
  test.each(there.filter(({ name }) => name in DELETED))(
    "in $name: everybody says so, and no backup or move leaves it out",
    ({ name }) =>
      inLane(name, async (lane) => {
        done(await lane.run("rotate", "one", "--wait"));
        const undo = await (DELETED[name] as Spoil)(lane);
        for (const words of ["status", "status one", "run", "show one"]) {
          const { document } = await lane.json(...words.split(" "));
          expect([words, document.secrets[0].outcome, document.secrets[0].reason]).toEqual([
            words,
            "blocked",
            "state-damaged",
          ]);
        }
        const found = await lane.json("check");
        expect([found.code, found.document.check[0].reason]).toEqual([5, "state-damaged"]);
        for (const words of ["state export", "state migrate --to sqlite:elsewhere.db"])
          refused(await lane.run(...words.split(" ")), 3, /is damaged: .*deleted/, /restore|undelete/);
        await undo();
        done(await lane.run("state", "migrate", "--to", "sqlite:elsewhere.db"));
      }),
  );
});

/** Loses the answer to every save, and to those alone. @returns how many it lost */
type Loss = (lane: Lane) => Promise<{ readonly lost: () => number; readonly end: () => Promise<void> }>;

const byWire =
  (env: string, target: () => string, isSave: RegExp): Loss =>
  async (lane) => {
    const wire = await startWire(target);
    let lost = 0;
    lane.place.env[env] = wire.url;
    wire.answer = (call, answer) => {
      if (!isSave.test(call.action)) return answer;
      lost++;
      return "cut";
    };
    return { lost: () => lost, end: () => wire.close() };
  };

const LOSSES: Readonly<Record<string, Loss>> = {
  postgres: async (lane) => {
    const cutter = await startCutter(servers().postgres.port);
    cutter.cut = { holds: "UPDATE", point: "after" };
    const right = lane.place.env["STATE_URL"] ?? "";
    lane.place.env["STATE_URL"] = at(right, { port: cutter.port, query: "sslmode=disable" });
    return { lost: () => cutter.cuts, end: () => cutter.close() };
  },
  s3: byWire("AWS_ENDPOINT_URL", () => servers().moto.url, /^PUT .*\/secrets\//),
  "vault-kv": byWire("VAULT_ADDR", () => servers().bao.address, /^POST .*\/data\/.*\/secrets\//),
};

/** Loaded into a process: its clock is wrong. */
const SHIFT = `
const shift = Number(process.env.SHIFT);
const { Date: Right } = globalThis;
globalThis.Date = class Date extends Right {
  constructor(...of) {
    if (of.length === 0) super(Right.now() + shift);
    else super(...of);
  }
  static now() {
    return Right.now() + shift;
  }
};
`;

function wrongBy(shift: number, lane: Lane, ...args: string[]): Running {
  const preload = lane.place.path("shift.mjs");
  writeFileSync(preload, SHIFT);
  const env = { ...lane.place.env, SHIFT: String(shift), NODE_OPTIONS: `--import=${preload}` };
  return commands.start({ folder: lane.place.folder, env }, args);
}

describe.concurrent.each(there)("state in $name", { timeout: 90_000 }, ({ name }) => {
  test("that loses the answer to every save: the next look tells that it took, and one key is minted", () =>
    inLane(name, async (lane) => {
      done(await lane.run("rotate", "one", "--wait"));
      const { lost, end } = await (LOSSES[name] as Loss)(lane);
      try {
        done(await lane.run("rotate", "one", "--wait"));
        expect(lost()).toBeGreaterThan(10);
        expect(await lane.faults()).toEqual([]);
        expect(lane.proxy.issued.size).toBe(2);
      } finally {
        await end();
      }
    }));

  test("and runners whose clocks are an hour wrong: no lease is taken away, no wait is cut short", () =>
    inLane(name, async (lane) => {
      const state = 'url: "${env:STATE_URL}"';
      done(await lane.run("rotate", "one", "--wait"));
      lane.write({ state, lease: "20s", minimum: "10m" });
      const held = lane.hold("POST keys", "before");
      const first = lane.start("rotate", "one");
      await held.reached;
      for (const shift of [HOUR, -HOUR]) {
        const { code, stderr } = await wrongBy(shift, lane, "run", "one").ended;
        expect(code, stderr).toBe(4);
        expect(stderr).toContain(`process ${first.pid}) works on it since `);
      }
      held.release();
      done(await first.ended);
      for (const shift of [HOUR, -HOUR]) {
        const ended = await wrongBy(shift, lane, "run", "one", "--json").ended;
        done(ended);
        expect(JSON.parse(ended.stdout).secrets[0]).toMatchObject({ outcome: "waiting", reason: "minimum-overlap" });
      }
      lane.write({ state });
      done(await wrongBy(HOUR, lane, "run", "one", "--wait").ended);
      expect(await lane.faults()).toEqual([]);
      done(await wrongBy(-HOUR, lane, "rotate", "one", "--wait").ended);
      expect(await lane.faults()).toEqual([]);
      expect(lane.proxy.issued.size).toBe(3);
    }));
});
