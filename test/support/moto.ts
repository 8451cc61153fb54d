import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { needs } from "./require.ts";
import { environment } from "./environments.ts";

// The SDK says on stderr which versions of Node it will leave behind; that is for its users, not for tests.
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";

const SERVER = fileURLToPath(new URL("moto_server.py", import.meta.url));

export const ACCOUNT = "123456789012";
export const REGION = "eu-west-1";

export interface Moto {
  readonly url: string;
  /** `AWS_*` variables of an administrator, and of nobody else on this machine. */
  readonly env: Readonly<Record<string, string>>;
  /** On: signatures and policies count (of policies only those with `Resource` `*`). Off, as at the start: all goes. */
  auth(on: boolean): Promise<void>;
  stop(): Promise<void>;
}

/** The folder with moto's python and boto3; null, said or refused, where this machine cannot have it. */
export async function motoPython(): Promise<string | null> {
  const bin = await environment("moto").catch(() => null);
  return needs("moto (python3 with venv and pip)", bin !== null) ? bin : null;
}

/** AWS as moto has it (IAM, STS, Secrets Manager, SSM, S3 …), held to AWS's documents, on a port of its own. */
export async function startMoto(options: { readonly auth?: boolean } = {}): Promise<Moto> {
  const bin = await motoPython();
  if (bin === null) throw new Error("ask motoPython() first");
  const child = spawn(`${bin}/python`, [SERVER], {
    env: { PATH: process.env["PATH"] ?? "", AWS_EC2_METADATA_DISABLED: "true" },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const problems: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => void problems.push(text));
  const closed = once(child, "close");
  const [line] = (await Promise.race([once(createInterface(child.stdout), "line"), closed])) as [unknown];
  if (typeof line !== "string") throw new Error(`moto did not start: ${problems.join("").slice(-2000)}`);
  const ready = JSON.parse(line) as { port: number; accessKeyId: string; secretAccessKey: string };
  const url = `http://127.0.0.1:${ready.port}`;
  const moto: Moto = {
    url,
    env: {
      ...awsEnv(url),
      AWS_ACCESS_KEY_ID: ready.accessKeyId,
      AWS_SECRET_ACCESS_KEY: ready.secretAccessKey,
    },
    auth: async (on) => {
      const headers = { "content-type": "text/plain", connection: "close" };
      const answer = await fetch(`${url}/moto-api/reset-auth`, { method: "POST", headers, body: on ? "0" : "1000000" });
      if (!answer.ok) throw new Error(`moto: reset-auth answered ${answer.status}`);
    },
    stop: async () => {
      child.kill("SIGKILL");
      await closed;
    },
  };
  if (options.auth) await moto.auth(true);
  return moto;
}

/** What every AWS SDK reads to talk to that address, and to find nothing of this machine's own. */
export function awsEnv(url: string): Record<string, string> {
  return {
    AWS_REGION: REGION,
    AWS_ENDPOINT_URL: url,
    AWS_CONFIG_FILE: "/dev/null",
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    AWS_EC2_METADATA_DISABLED: "true",
  };
}
