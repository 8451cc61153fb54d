import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { needs } from "./require.ts";

/** How often it looks at the exporter, ms. */
export const SCRAPE = 100;

export interface Prometheus {
  readonly url: string;
  readonly exporter: Exporter;
  stop(): Promise<void>;
}

/** Counters on a page that Prometheus reads. */
export interface Exporter {
  /** Adds to a counter; one that is new begins at this number. */
  add(name: string, labels: Readonly<Record<string, string>>, by?: number): void;
  /** As a process that starts anew: every counter is gone. */
  restart(): void;
  /** While it is down it refuses connections. */
  down(isDown: boolean): Promise<void>;
}

/** Whether there is one: Debian's package `prometheus`. */
export function hasPrometheus(): boolean {
  const there = spawnSync("prometheus", ["--version"]).status === 0;
  return needs("prometheus (apt-get install --no-install-recommends prometheus)", there);
}

/** Besides its own exporter. */
export interface Watched {
  /** `host:port` of a page `/metrics`, read as the job `keyturn`. */
  readonly target: string;
  /** Alert rules, as a file has them. */
  readonly rules: string;
}

/** Prometheus on a port of its own, reading one exporter as the job `gateway`, and what is asked for. */
export async function startPrometheus(watched: Watched | null = null): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-prometheus-"));
  const { exporter, port: target, close } = await startExporter();
  const port = await freePort();
  const jobs: object[] = [{ job_name: "gateway", static_configs: [{ targets: [`127.0.0.1:${target}`] }] }];
  if (watched !== null) {
    const slowly = { scrape_interval: "1s", scrape_timeout: "1s" };
    jobs.push({ job_name: "keyturn", ...slowly, static_configs: [{ targets: [watched.target] }] });
    writeFileSync(join(folder, "alerts.yml"), watched.rules);
  }
  const often = { scrape_interval: `${SCRAPE}ms`, scrape_timeout: `${SCRAPE}ms`, evaluation_interval: `${SCRAPE}ms` };
  const config = { global: often, rule_files: watched === null ? [] : ["alerts.yml"], scrape_configs: jobs };
  writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(config));
  const child = spawn(
    "prometheus",
    [
      `--config.file=${join(folder, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=error",
    ],
    { cwd: folder, stdio: "ignore" },
  );
  const ended = once(child, "exit");
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; !(await isUp(url)); tries++) {
    if (child.exitCode !== null || tries > 200) throw new Error("prometheus did not start");
    await sleep(100);
  }
  return {
    url,
    exporter,
    stop: async () => {
      child.kill("SIGKILL");
      await ended;
      await close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Ready, and the exporter read at least once. */
async function isUp(url: string): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/api/v1/query?query=up`, { headers: { connection: "close" } });
    const { data } = (await answer.json()) as { data: { result: { value: [number, string] }[] } };
    return data.result[0]?.value[1] === "1";
  } catch {
    return false;
  }
}

async function startExporter(): Promise<{ exporter: Exporter; port: number; close: () => Promise<void> }> {
  const counters = new Map<string, number>();
  const serve = (): Server =>
    createServer((_, answer) => {
      const page = [...counters].map(([series, value]) => `${series} ${value}\n`).join("");
      answer.writeHead(200, { "content-type": "text/plain; version=0.0.4", connection: "close" }).end(page);
    });
  let server = serve();
  const listen = async (port: number) => {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  };
  const close = async () => {
    if (!server.listening) return;
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
  const port = await listen(0);
  const exporter: Exporter = {
    add: (name, labels, by = 1) => {
      const pairs = Object.entries(labels).map(([label, value]) => `${label}="${quoted(value)}"`);
      const series = `${name}{${pairs.join(",")}}`;
      counters.set(series, (counters.get(series) ?? 0) + by);
    },
    restart: () => counters.clear(),
    down: async (isDown) => {
      if (isDown) return close();
      server = serve();
      await listen(port);
    },
  };
  return { exporter, port, close };
}

function quoted(label: string): string {
  return label.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
