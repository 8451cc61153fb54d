import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { awsEnv } from "./moto.ts";
import { environment } from "./environments.ts";
import { needs } from "./require.ts";

export interface Ministack {
  readonly url: string;
  /** `AWS_*` variables without keys: it takes any. */
  readonly env: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

/** The folder with its program; null, said or refused, where this machine cannot have it. */
export async function ministackBin(): Promise<string | null> {
  const bin = await environment("ministack").catch(() => null);
  return needs("ministack (python3 with venv and pip)", bin !== null) ? bin : null;
}

/** AWS as far as CloudTrail records it, on a port of its own. It knows no limits, no delays and no signatures. */
export async function startMinistack(): Promise<Ministack> {
  const bin = await ministackBin();
  if (bin === null) throw new Error("ask ministackBin() first");
  const folder = mkdtempSync(join(tmpdir(), "keyturn-ministack-"));
  const port = await freePort();
  const child = spawn(`${bin}/ministack`, [], {
    cwd: folder,
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: folder,
      BIND_HOST: "127.0.0.1",
      GATEWAY_PORT: String(port),
      CLOUDTRAIL_RECORDING: "1",
    },
    stdio: "ignore",
    detached: true,
  });
  const ended = once(child, "exit");
  const url = `http://127.0.0.1:${port}`;
  const headers = { connection: "close" };
  for (let tries = 0; !(await fetch(`${url}/_ministack/health`, { headers }).catch(() => null))?.ok; tries++) {
    if (child.exitCode !== null || tries > 200) throw new Error("ministack did not start");
    await sleep(100);
  }
  return {
    url,
    env: awsEnv(url),
    stop: async () => {
      process.kill(-(child.pid as number), "SIGKILL");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
