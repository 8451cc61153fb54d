import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { adapter } from "../../src/adapters/state/postgres.ts";
import { Postgres } from "../../src/adapters/postgres.ts";
import { serverOf, settings, settingsOfUrl } from "../../src/adapters/postgres-settings.ts";
import { StatePlace } from "../../src/adapters/state-place.ts";
import { newState } from "../../src/core/model.ts";
import type { StateBackend } from "../../src/ports/state.ts";
import { stateBackendContract } from "../contract/state-backend.ts";
import { postgresPrograms, startCutter, startPostgres, type Postgres as Server } from "../support/postgres.ts";
import { depsIn, run, script } from "./file-support.ts";

const there = postgresPrograms() !== null;
const payments = newState("payments", 0);

let postgres: Server;
let bouncer: number;
beforeAll(async () => {
  if (!there) return;
  postgres = await startPostgres();
  bouncer = await postgres.bouncer();
}, 120_000);
afterAll(() => postgres?.stop());

const opened: StateBackend[] = [];
afterAll(() => Promise.all(opened.map((state) => state.close())));

async function open(url: string, env: Record<string, string> = {}): Promise<StateBackend> {
  const settings = adapter.settings.parse(adapter.fromUrl(url));
  const state = await adapter.create(settings, depsIn("/nonexistent", { env }));
  opened.push(state);
  return state;
}

/** Every change of a document ends so. */
const raising = (sqlState: string): string =>
  `CREATE FUNCTION keyturn.fails() RETURNS trigger LANGUAGE plpgsql AS
     $$ BEGIN RAISE EXCEPTION 'swordfish' USING ERRCODE = '${sqlState}'; END $$;
   CREATE TRIGGER fails BEFORE UPDATE ON keyturn.keyturn_documents FOR EACH ROW EXECUTE FUNCTION keyturn.fails()`;
/** And so does every look, which is a change here. */
const READ_BY_FUNCTION = `
  ALTER TABLE keyturn.keyturn_documents RENAME TO documents;
  CREATE FUNCTION keyturn.read() RETURNS SETOF keyturn.documents LANGUAGE sql AS
    'UPDATE keyturn.documents SET revision = revision RETURNING *';
  CREATE VIEW keyturn.keyturn_documents AS SELECT * FROM keyturn.read()`;

describe.runIf(there)("postgres", () => {
  for (const [how, port] of [
    ["postgres", () => postgres.port],
    ["postgres behind PgBouncer in transaction mode", () => bouncer],
  ] as const)
    stateBackendContract(how, async () => {
      const database = await postgres.database();
      const cutter = await startCutter(port());
      return {
        open: () => open(postgres.url({ database, port: port() })),
        advance: null,
        damage: async (name) => {
          const spoilt = "UPDATE keyturn.keyturn_documents SET body = left(body, 20)";
          await postgres.sql(database, `${spoilt} WHERE name = '${name}'`);
        },
        openUnheard: () => {
          cutter.cut = { holds: "UPDATE", point: "after" };
          return open(postgres.url({ database, port: cutter.port, query: "sslmode=disable" }));
        },
        dispose: () => cutter.close(),
      };
    });

  it("says where it is, without the password", async () => {
    const state = await open(postgres.url({ database: "x", query: "schema=ops" }));
    expect(state.location).toBe(`postgres://127.0.0.1:${postgres.port}/x?schema=ops`);
  });

  it("makes no tables for a reader", async () => {
    const database = await postgres.database();
    const state = await open(postgres.url({ database }));
    expect(await state.load("payments")).toBeNull();
    expect(await state.remove("payments", "1")).toBe("stale");
    expect(await postgres.sql(database, "SELECT 1 FROM pg_namespace WHERE nspname = 'keyturn'")).toEqual([]);
  });

  it("keeps to the schema that it is told", async () => {
    const database = await postgres.database();
    const [one, two] = [
      await open(postgres.url({ database })),
      await open(postgres.url({ database, query: "schema=public" })),
    ];
    expect(await one.save("payments", payments, null)).toMatchObject({ result: "saved" });
    expect(await two.load("payments")).toBeNull();
    expect(await two.save("payments", payments, null)).toMatchObject({ result: "saved" });
  });

  it("tells ages by the server's clock", async () => {
    const database = await postgres.database();
    const state = await open(postgres.url({ database }));
    await state.save("payments", payments, null);
    const early = await state.load("payments");
    expect(early?.age).toBeLessThan(30_000);
    await postgres.sql(
      database,
      "UPDATE keyturn.keyturn_documents SET saved_at = clock_timestamp() - interval '1 hour'",
    );
    const age = (await state.load("payments"))?.age ?? 0;
    expect(age).toBeGreaterThanOrEqual(3_600_000);
    expect(age).toBeLessThan(3_660_000);
    await postgres.sql(
      database,
      "UPDATE keyturn.keyturn_documents SET saved_at = clock_timestamp() + interval '1 hour'",
    );
    expect((await state.load("payments"))?.age).toBe(0);
  });

  it("can be begun by several processes at once", async () => {
    const url = postgres.url({ database: await postgres.database() });
    const beginner = script(`
      import { newState } from "../../src/core/model.ts";
      import { adapter } from "../../src/adapters/state/postgres.ts";
      const [, , url, name] = process.argv;
      const state = await adapter.create(adapter.settings.parse(adapter.fromUrl(url)), { folder: "/", env: {} });
      const { result } = await state.save(name, newState(name, 0), null);
      await state.close();
      process.stdout.write(result);
    `);
    const names = ["a", "b", "c", "d"];
    expect(await Promise.all(names.map((name) => run(beginner, [url, name])))).toEqual(names.map(() => "saved"));
    const found: string[] = [];
    for await (const { state } of (await open(url)).loadAll()) found.push(state.name);
    expect(found).toEqual(names);
  });

  it("hands out more documents than fit on a page, in order", async () => {
    const database = await postgres.database();
    const state = await open(postgres.url({ database }));
    await state.save("n", newState("n", 0), null);
    await postgres.sql(
      database,
      `INSERT INTO keyturn.keyturn_documents SELECT 'n' || i, 1, replace(body, '"n"', '"n' || i || '"'), saved_at
       FROM keyturn.keyturn_documents, generate_series(1000, 1450) AS i`,
    );
    const found: string[] = [];
    for await (const { state: document } of state.loadAll()) found.push(document.name);
    expect(found).toEqual(["n", ...Array.from({ length: 451 }, (_, i) => `n${1000 + i}`)]);
  });

  it("upgrades nothing it does not know: newer tables, a newer document", async () => {
    for (const change of [
      "INSERT INTO keyturn.keyturn_migrations (step) VALUES (99)",
      `UPDATE keyturn.keyturn_documents SET body = replace(body, '"schema":1', '"schema":99')`,
    ]) {
      const database = await postgres.database();
      await (await open(postgres.url({ database }))).save("payments", payments, null);
      await postgres.sql(database, change);
      const state = await open(postgres.url({ database }));
      await expect(state.load("payments")).rejects.toMatchObject({ code: "state-newer", options: { exit: 3 } });
    }
  });

  it("takes tables that are gone for damage", async () => {
    const database = await postgres.database();
    await (await open(postgres.url({ database }))).save("payments", payments, null);
    await postgres.sql(database, "DROP TABLE keyturn.keyturn_documents");
    await expect((await open(postgres.url({ database }))).load("payments")).rejects.toMatchObject({
      code: "state-damaged",
    });
  });

  it("goes on after the server was restarted between two calls", async () => {
    const state = await open(postgres.url({ database: await postgres.database() }));
    const saved = await state.save("payments", payments, null);
    await postgres.restart();
    expect(await state.load("payments")).toMatchObject({ state: payments });
    expect(await state.save("payments", payments, saved.result === "saved" ? saved.revision : "")).toMatchObject({
      result: "saved",
    });
  });

  it.each([
    ["after", "c2"],
    ["before", "c1"],
  ] as const)(
    "cannot tell whether a save took effect when the connection is cut %s it; the next look can",
    async (point, held) => {
      const cutter = await startCutter(postgres.port);
      const database = await postgres.database();
      try {
        const state = await open(postgres.url({ database, port: cutter.port, query: "sslmode=disable" }));
        const first = await state.save("payments", { ...payments, commitId: "c1" }, null);
        if (first.result !== "saved") throw new Error(first.result);
        cutter.cut = { holds: "UPDATE", point };
        expect(await state.save("payments", { ...payments, commitId: "c2" }, first.revision)).toEqual({
          result: "unknown",
        });
        expect(cutter.cuts).toBe(1);
        cutter.cut = null;
        expect((await state.load("payments"))?.state.commitId).toBe(held);
      } finally {
        await cutter.close();
      }
    },
  );

  it("tells every refusal in words of ours, whoever asks and by which library", async () => {
    const server = serverOf(
      settings.parse(settingsOfUrl(postgres.url({ database: await postgres.database() }))),
      depsIn("/nonexistent", { env: {} }),
    );
    const asked = new Postgres(server, new StatePlace(server.location));
    const refused = "DO $$ BEGIN RAISE EXCEPTION 'swordfish' USING ERRCODE = '23514'; END $$";
    for (const asking of [
      () => asked.ask(refused),
      () => asked.alone("test", (ask) => ask(refused)),
      () => asked.lend((pool) => pool.query(refused)),
    ]) {
      const error: unknown = await asking().catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ name: "ProviderError", applied: "no", message: expect.stringContaining("23514") });
      expect(JSON.stringify(error) + String(error)).not.toContain("swordfish");
    }
    await asked.close();
  });

  describe("what the server answers a save by", () => {
    const damaged = {
      code: "state-damaged",
      options: { exit: 3 },
      message: expect.stringContaining("pages") as string,
    };
    const refused = { kind: "unavailable", applied: "no" };
    const UNKNOWN = { result: "unknown" };

    it.each([
      ["XX001, a damaged page", "XX001", damaged],
      ["XX002, a damaged index", "XX002", damaged],
      ["53100, a full disk", "53100", { code: "state-unwritable" }],
      ["40001, somebody in between", "40001", refused],
      ["57014, a cancelled statement", "57014", refused],
      ["23514, a check of somebody's", "23514", refused],
      ["57P01, its end", "57P01", UNKNOWN],
      ["58030, a failing disk", "58030", UNKNOWN],
      ["08006, a lost connection behind it", "08006", UNKNOWN],
      ["XX000, a bug", "XX000", UNKNOWN],
    ])("%s", async (_, sqlState, outcome) => {
      const database = await postgres.database();
      const state = await open(postgres.url({ database }));
      const saved = await state.save("payments", { ...payments, commitId: "c1" }, null);
      await postgres.sql(database, raising(sqlState));
      const told: unknown = await state
        .save("payments", { ...payments, commitId: "c2" }, saved.result === "saved" ? saved.revision : "")
        .catch((error: unknown) => error);
      expect(told).toMatchObject(outcome);
      expect((await state.load("payments"))?.state.commitId).toBe("c1");
    });

    it("a damaged page is told to a reader, too", async () => {
      const database = await postgres.database();
      const state = await open(postgres.url({ database }));
      await state.save("payments", payments, null);
      await postgres.sql(database, `${raising("XX001")}; ${READ_BY_FUNCTION}`);
      await expect(state.load("payments")).rejects.toMatchObject(damaged);
    });
  });

  describe("refusals", () => {
    const secretless = async (state: StateBackend, expected: object): Promise<void> => {
      for (const call of [state.load("payments"), state.save("payments", payments, null)]) {
        const error: unknown = await call.catch((thrown: unknown) => thrown);
        expect(error).toMatchObject(expected);
        expect(JSON.stringify(error) + String(error)).not.toContain("swordfish");
      }
    };

    it("a wrong password, none, an unknown database, nobody there", async () => {
      const database = await postgres.database();
      await secretless(await open(postgres.url({ database, password: "swordfish" })), { kind: "unauthenticated" });
      await secretless(await open(`postgres://admin@127.0.0.1:${postgres.port}/${database}`), {
        kind: "unauthenticated",
        message: expect.stringContaining("none is given") as string,
      });
      await secretless(await open(postgres.url({ database: "nobodys" })), { kind: "not-found" });
      const gone = await startCutter(1);
      await gone.close();
      await secretless(await open(postgres.url({ database, port: gone.port })), {
        kind: "unavailable",
        applied: "no",
        message: expect.stringContaining("connection refused") as string,
      });
    });

    it("a user who may not", async () => {
      const database = await postgres.database();
      await postgres.sql(database, "CREATE ROLE reader LOGIN PASSWORD 'swordfish'");
      const state = await open(postgres.url({ database, user: "reader", password: "swordfish" }));
      expect(await state.load("payments")).toBeNull();
      await expect(state.save("payments", payments, null)).rejects.toMatchObject({
        code: "state-unwritable",
        options: { exit: 1 },
      });
      await (await open(postgres.url({ database }))).save("payments", payments, null);
      await postgres.sql(
        database,
        "GRANT USAGE ON SCHEMA keyturn TO reader; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA keyturn TO reader",
      );
      expect(await state.save("payments", payments, "1")).toMatchObject({ result: "saved" });
    });

    it("a server that is read-only", async () => {
      const database = await postgres.database();
      await (await open(postgres.url({ database }))).save("payments", payments, null);
      await postgres.sql(database, `ALTER DATABASE ${database} SET default_transaction_read_only = on`);
      const state = await open(postgres.url({ database }));
      expect(await state.load("payments")).not.toBeNull();
      await expect(state.save("payments", payments, "1")).rejects.toMatchObject({ code: "state-unwritable" });
    });
  });

  describe("TLS", () => {
    const isEncrypted =
      "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'keyturn' AND datname = ";

    it.each([
      ["", "127.0.0.1", true],
      ["sslmode=disable", "127.0.0.1", false],
      ["sslmode=require", "127.0.0.1", true],
      ["sslmode=verify-ca&sslrootcert=CA", "127.0.0.1", true],
      ["sslmode=verify-full&sslrootcert=CA", "localhost", true],
    ])("%s to %s", async (query, host, encrypted) => {
      const database = await postgres.database();
      const state = await open(postgres.url({ database, host, query: query.replace("CA", postgres.caFile) }));
      await state.save("payments", payments, null);
      expect(await postgres.sql(database, `${isEncrypted}'${database}'`)).toEqual([{ ssl: encrypted }]);
    });

    it.each([
      ["sslmode=verify-full&sslrootcert=CA", "127.0.0.1", "ERR_TLS_CERT_ALTNAME_INVALID"],
      ["sslmode=verify-full", "localhost", "not trusted"],
      ["sslmode=verify-ca&sslrootcert=system", "localhost", "not trusted"],
    ])("refused: %s to %s", async (query, host, why) => {
      const database = await postgres.database();
      const state = await open(postgres.url({ database, host, query: query.replace("CA", postgres.caFile) }));
      await expect(state.load("payments")).rejects.toMatchObject({
        kind: "denied",
        applied: "no",
        message: expect.stringContaining(why) as string,
      });
    });

    it("is asked of PgBouncer in vain", async () => {
      const database = await postgres.database();
      const state = await open(postgres.url({ database, port: bouncer, query: "sslmode=require" }));
      await expect(state.load("payments")).rejects.toMatchObject({ kind: "denied", applied: "no" });
    });

    it("takes the environment as libpq does", async () => {
      const database = await postgres.database();
      const env = {
        PGHOST: "localhost",
        PGPORT: String(postgres.port),
        PGUSER: "admin",
        PGPASSWORD: decodeURIComponent(postgres.password),
        PGSSLMODE: "verify-full",
        PGSSLROOTCERT: postgres.caFile,
      };
      const state = await open(`postgres:///${database}`, env);
      await state.save("payments", payments, null);
      expect(await postgres.sql(database, `${isEncrypted}'${database}'`)).toEqual([{ ssl: true }]);
      await expect(open("postgres:///x", { PGSSLMODE: "verify_full" })).rejects.toMatchObject({ code: "state-url" });
      await expect(open("postgres:///x?sslrootcert=/nonexistent/ca")).rejects.toMatchObject({ code: "state-url" });
    });
  });
});

describe("postgres URLs", () => {
  it("one place has one location, and an address that leads there from anywhere, without the password", async () => {
    const full = "postgres://ops%40x:swordfish@h:6543/d?sslmode=require&sslrootcert=system&schema=keyturn";
    const [one, other] = [await open(full), await open("postgres://h:6543/d", { PGUSER: "me", PGSSLMODE: "disable" })];
    expect([one.location, other.location]).toEqual(Array(2).fill("postgres://h:6543/d?schema=keyturn"));
    expect(one.address).toBe(full.replace(":swordfish", ""));
    expect(other.address).toBe("postgres://me@h:6543/d?sslmode=disable&schema=keyturn");
    expect((await open(other.address as string)).address).toBe(other.address);
    const socket = await open("postgres:///d?host=/run/pg&user=me");
    expect(socket.location).toBe("postgres:///d?host=/run/pg&port=5432&schema=keyturn");
    expect(socket.address).toBe("postgres://me@/d?host=/run/pg&port=5432&schema=keyturn");
    expect((await open(socket.address as string)).address).toBe(socket.address);
  });

  it.each([
    ["postgres://h/d", { host: "h", database: "d" }],
    [
      "postgresql://u:p%40w@h:6543/d?sslmode=require",
      { user: "u", password: "p@w", host: "h", port: "6543", database: "d", sslmode: "require" },
    ],
    ["postgres:///d?host=/run/postgresql", { database: "d", host: "/run/postgresql" }],
    ["postgres://[::1]:1/d?schema=ops", { host: "::1", port: "1", database: "d", schema: "ops" }],
    ["postgres://", {}],
  ])("%s", (url, expected) => {
    expect(adapter.fromUrl(url)).toEqual(expected);
  });

  it.each([
    "mysql://h/d",
    "postgres:h",
    "postgres://h/d?sslmode=verify_full",
    "postgres://h/d?unknown=1",
    "postgres://h/d?password=x",
    "postgres://h:99999/d",
    "postgres://h/d?schema=a;b",
    "postgres://%zz/d",
  ])("%s is none", (url) => {
    expect(adapter.fromUrl(url)).toBeNull();
  });
});
