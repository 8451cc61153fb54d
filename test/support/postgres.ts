import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { needs } from "./require.ts";

const PASSWORD = "p@ss of the/test";
const isRoot = process.getuid?.() === 0;

export interface Postgres {
  readonly port: number;
  /** The administrator's password, as a URL has it. */
  readonly password: string;
  /** The CA that signed the server's certificate, which is for `localhost`. */
  readonly caFile: string;
  /** `postgres://…/database?query`, of the administrator on 127.0.0.1 unless told. */
  url(where: {
    database: string;
    user?: string;
    password?: string;
    host?: string;
    port?: number;
    query?: string;
  }): string;
  /** A database of its own. @returns its name */
  database(): Promise<string>;
  /** As the administrator. */
  sql(database: string, text: string): Promise<Record<string, unknown>[]>;
  /** The same server, stopped at once and started again. */
  restart(): Promise<void>;
  /** A PgBouncer before it, in transaction mode, whose clients share two sessions. @returns its port */
  bouncer(): Promise<number>;
  stop(): Promise<void>;
}

/** The folder with the server's programs; null, said or refused, where this machine has none. */
export function postgresPrograms(): string | null {
  const [version] = existsSync("/usr/lib/postgresql")
    ? readdirSync("/usr/lib/postgresql").sort((a, b) => Number(b) - Number(a))
    : [];
  const bin = version === undefined ? null : `/usr/lib/postgresql/${version}/bin`;
  const there = bin !== null && existsSync(`${bin}/initdb`) && existsSync("/usr/sbin/pgbouncer");
  return needs("PostgreSQL and PgBouncer (Debian's postgresql, pgbouncer)", there) ? bin : null;
}

/** PostgreSQL on a port of its own, with TLS for those who ask for it, and passwords by SCRAM. */
export async function startPostgres(): Promise<Postgres> {
  const bin = postgresPrograms();
  if (bin === null) throw new Error("ask postgresPrograms() first");
  const folder = await mkdtemp(join(tmpdir(), "keyturn-pg-"));
  const [uid, gid] = isRoot ? [idOf("-u"), idOf("-g")] : [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  const own = async (...files: string[]): Promise<void> => {
    for (const file of files) {
      await chown(join(folder, file), uid, gid);
      await chmod(join(folder, file), file === "" ? 0o711 : 0o600);
    }
  };
  /** The server refuses to be root. */
  const as = (program: string, args: readonly string[]): [string, string[]] =>
    isRoot
      ? ["setpriv", [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", program, ...args]]
      : [program, [...args]];
  const env = { PATH: process.env["PATH"] ?? "", HOME: folder, LC_ALL: "C.UTF-8" };
  await own("");
  await writeFile(join(folder, "pw"), PASSWORD);
  certificates(folder);
  await own("pw", "server.crt", "server.key");
  const data = join(folder, "data");
  const init = ["-D", data, "-U", "admin", "-A", "scram-sha-256", `--pwfile=${join(folder, "pw")}`, "--no-sync"];
  execFileSync(...as(`${bin}/initdb`, init), { env, cwd: folder, stdio: "ignore" });

  const [port, bouncerPort] = [await freePort(), await freePort()];
  const password = encodeURIComponent(PASSWORD);
  const children: { readonly child: ChildProcess; readonly closed: Promise<unknown> }[] = [];
  const said: string[] = [];
  const start = (program: string, args: readonly string[]): ChildProcess => {
    const child = spawn(...as(program, args), { env, cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => void said.push(text));
    children.push({ child, closed: once(child, "close") });
    return child;
  };
  const settings = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "max_connections=40",
    "ssl=on",
    `ssl_cert_file=${join(folder, "server.crt")}`,
    `ssl_key_file=${join(folder, "server.key")}`,
  ];
  const server = (): ChildProcess =>
    start(`${bin}/postgres`, ["-D", data, "-p", String(port), ...settings.flatMap((setting) => ["-c", setting])]);
  const until = async (at: number): Promise<void> => {
    for (let waited = 0; ; waited += 50) {
      const client = new Client({
        host: "127.0.0.1",
        port: at,
        user: "admin",
        password: PASSWORD,
        database: "postgres",
        ssl: false,
      });
      try {
        await client.connect();
        return await client.end();
      } catch {
        if (waited > 20_000) throw new Error(`PostgreSQL did not start: ${said.join("").slice(-2000)}`);
        await sleep(50);
      }
    }
  };
  let running = server();
  let databases = 0;
  const postgres: Postgres = {
    port,
    password,
    caFile: join(folder, "ca.crt"),
    url: ({ database, user = "admin", password: its = password, host = "127.0.0.1", port: at = port, query = "" }) =>
      `postgres://${user}:${its}@${host}:${at}/${database}?${query}`,
    database: async () => {
      const name = `db${++databases}`;
      await postgres.sql("postgres", `CREATE DATABASE ${name}`);
      return name;
    },
    sql: async (database, text) => {
      const client = new Client({
        host: "127.0.0.1",
        port,
        user: "admin",
        password: PASSWORD,
        database,
        ssl: false,
      });
      await client.connect();
      try {
        return (await client.query(text)).rows as Record<string, unknown>[];
      } finally {
        await client.end();
      }
    },
    restart: async () => {
      const closed = once(running, "close");
      running.kill("SIGINT");
      await closed;
      running = server();
      await until(port);
    },
    bouncer: async () => {
      const file = join(folder, "users.txt");
      await writeFile(file, `"admin" "${PASSWORD}"\n`);
      const lines = [
        "[databases]",
        `* = host=127.0.0.1 port=${port}`,
        "[pgbouncer]",
        `listen_addr = 127.0.0.1\nlisten_port = ${bouncerPort}\nunix_socket_dir =`,
        `pool_mode = transaction\ndefault_pool_size = 2\nauth_type = scram-sha-256\nauth_file = ${file}`,
      ];
      await writeFile(join(folder, "bouncer.ini"), `${lines.join("\n")}\n`);
      await own("users.txt", "bouncer.ini");
      start("/usr/sbin/pgbouncer", [join(folder, "bouncer.ini")]);
      await until(bouncerPort);
      return bouncerPort;
    },
    stop: async () => {
      for (const { child, closed } of children) {
        if (child.exitCode === null && child.signalCode === null) child.kill(child === running ? "SIGQUIT" : "SIGKILL");
        await closed;
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
  try {
    await until(port);
  } catch (error) {
    await postgres.stop();
    throw error;
  }
  return postgres;
}

function idOf(flag: "-u" | "-g"): number {
  return Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
}

/** A CA of its own, and a certificate of it for `localhost`. */
function certificates(folder: string): void {
  const openssl = (...args: string[]): void =>
    void execFileSync("openssl", args, { cwd: folder, stdio: ["ignore", "ignore", "ignore"] });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca of the test");
  const name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  openssl(
    "req",
    "-x509",
    "-CA",
    "ca.crt",
    "-CAkey",
    "ca.key",
    ...key,
    "-keyout",
    "server.key",
    "-out",
    "server.crt",
    ...name,
  );
}

export interface Cutter {
  readonly port: number;
  /** `before`: nothing of a statement that holds this goes on; `after`: it does, and its answer does not. */
  cut: { readonly holds: string; readonly point: "before" | "after" } | null;
  /** Connections that were cut. */
  readonly cuts: number;
  close(): Promise<void>;
}

/** Passes bytes on to a port, and cuts the connection of a statement. */
export async function startCutter(target: number): Promise<Cutter> {
  const open = new Set<Socket>();
  const server = createServer((incoming) => {
    const outgoing = connect(target, "127.0.0.1");
    let deaf = false;
    const end = (): void => {
      incoming.destroy();
      outgoing.destroy();
    };
    for (const socket of [incoming, outgoing]) {
      open.add(socket);
      socket
        .on("error", end)
        .on("close", end)
        .on("close", () => open.delete(socket));
    }
    incoming.on("data", (bytes) => {
      const isMeant = cutter.cut !== null && bytes.includes(cutter.cut.holds);
      if (isMeant) cutter.cuts++;
      if (isMeant && cutter.cut?.point === "before") return end();
      deaf ||= isMeant;
      outgoing.write(bytes);
    });
    outgoing.on("data", (bytes) => (deaf ? end() : void incoming.write(bytes)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cutter = {
    port: (server.address() as AddressInfo).port,
    cut: null as Cutter["cut"],
    cuts: 0,
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return cutter;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
