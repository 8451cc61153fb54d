import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Decrypter } from "age-encryption";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, policyText } from "../support/command-line.ts";
import { Lane } from "../support/lane.ts";
import type { Instead } from "../support/proxy.ts";

let authority: TestAuthority;
let commands: CommandLine;
let receiver: Server;
/** What webhooks were told. */
const notified: string[] = [];
const lanes: Lane[] = [];
let watch: NodeJS.Timeout;
/** Command lines and environments of every process that a command was, or started. */
const processes = new Set<string>();

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
  receiver = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      notified.push(`${JSON.stringify(request.headers)} ${body}`);
      response.end("taken");
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  watch = setInterval(() => commands.pids().forEach(inspect), 15);
});
afterAll(async () => {
  clearInterval(watch);
  receiver?.close();
  await Promise.all(lanes.map((lane) => lane.close()));
  await authority?.close();
  commands?.remove();
});

function inspect(pid: number): void {
  try {
    for (const what of ["cmdline", "environ"]) processes.add(readFileSync(`/proc/${pid}/${what}`, "utf8"));
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
    for (const child of children.split(" ").filter((text) => text !== "")) inspect(Number(child));
  } catch {
    // It has ended.
  }
}

interface Trouble {
  readonly name: string;
  /** What the authority answers; `value` is a living key. */
  readonly instead?: (value: string) => Instead;
  readonly hook?: string;
  readonly webhook?: string;
  readonly make?: (lane: Lane) => void;
  /** Each call takes ten seconds: only where calls are made. */
  readonly slow?: true;
}

/** Answers that quote a value: whoever repeats a body leaks it. */
const TROUBLES: readonly Trouble[] = [
  { name: "nothing is wrong" },
  { name: "the authority cuts connections", instead: () => "cut" },
  {
    name: "the authority answers 500",
    instead: (value) => ({ status: 500, body: `{"error":{"code":"${value}","message":"${value}"}}` }),
  },
  { name: "the authority answers 403", instead: (value) => ({ status: 403, body: `{"error":"${value}"}` }) },
  { name: "the authority answers junk", instead: (value) => ({ status: 200, body: `<html>${value}</html>` }) },
  { name: "the authority does not answer", instead: () => "hang", slow: true },
  { name: "the store's folder is a file", make: (lane) => spoil(lane, ".keyturn/secrets/one", "file") },
  { name: "the identity is lost", make: (lane) => rmSync(lane.place.path(".keyturn/identity")) },
  { name: "the .env file is a directory", make: (lane) => spoil(lane, "one.env", "directory") },
  { name: "the webhook is down", webhook: "http://127.0.0.1:1/hook" },
  { name: "a hook fails and prints the value", hook: "sleep 0.1; cat; cat >&2; exit 3" },
];

function spoil(lane: Lane, path: string, as: "file" | "directory"): void {
  const at = lane.place.path(path);
  rmSync(at, { recursive: true, force: true });
  if (as === "directory") mkdirSync(at);
  else writeFileSync(at, "in the way");
}

const COMMANDS: readonly (readonly string[])[] = [
  ["validate"],
  ["schema"],
  ["plan"],
  ["doctor"],
  ["status"],
  ["status", "--refresh"],
  ["show", "one"],
  ["run"],
  ["rotate", "one"],
  ["hold", "one", "--reason", "a reason"],
  ["unhold", "one"],
  ["ack", "one", "--consumer", "app"],
  ["rotate", "one", "--repair", "--wait", "--wait-max", "1s"],
  ["rollback", "one"],
  ["run", "--wait", "--wait-max", "1s"],
  ["rotate", "one"],
  ["adopt", "one"],
  ["pause", "--reason", "a reason"],
  ["resume"],
  ["unlock", "one"],
  ["release", "one", "key_0123456789abcdef"],
  ["revoke", "one", "--key-version", "v1-00000000"],
  ["check"],
  ["history"],
  ["audit"],
  ["emergency", "one", "--yes", "--grace", "0s"],
  ["forget", "one", "--yes"],
  ["status"],
];
const CALLING: ReadonlySet<string> = new Set(["doctor", "run", "rotate", "adopt"]);

describe.concurrent("no command shows a value when", () => {
  test.each(TROUBLES)("$name", { timeout: 200_000 }, async (trouble) => {
    const lane = await Lane.open(`client-${TROUBLES.indexOf(trouble)}`, authority, commands, 200);
    lanes.push(lane);
    policy(lane, {});
    expect((await lane.run("rotate", "one", "--wait")).code).toBe(0);
    policy(lane, { minimum: "1h" });
    expect((await lane.run("rotate", "one")).code).toBe(0);
    const values = () => [...lane.proxy.issued];
    const stored = await decrypted(lane);
    expect(stored.length).toBe(2);
    expect(values()).toEqual(expect.arrayContaining(stored));

    policy(lane, { minimum: "1h", ...trouble });
    trouble.make?.(lane);
    const { instead } = trouble;
    if (instead !== undefined) lane.proxy.instead = () => instead(stored[1] ?? "");
    const chosen = trouble.slow ? COMMANDS.filter(([verb = ""]) => CALLING.has(verb)).slice(0, 3) : COMMANDS;
    for (const [index, args] of chosen.entries()) {
      const json = (index + TROUBLES.indexOf(trouble)) % 2 === 0;
      const running = lane.start(...args, "--verbose", ...(json ? ["--json"] : []));
      // Some commands stay for as long as something is wrong: they are stopped as a person would.
      const stop = setTimeout(() => running.child.kill("SIGINT"), trouble.slow ? 30_000 : 2500);
      const ended = await running.ended;
      clearTimeout(stop);
      const said = `${args.join(" ")}: ${ended.code}\n${ended.stdout}\n${ended.stderr}`;
      expect([0, 1, 2, 3, 4, 5, 130], said).toContain(ended.code);
      expect(said).not.toContain("bug in keyturn");
      expect(json && !isDocument(ended.stdout), said).toBe(false);
      expect(told(said, values()), args.join(" ")).toEqual([]);
      expect(told(readable(lane), values()), `files after ${args.join(" ")}`).toEqual([]);
    }
  });
});

test("nor did any process, notification or output", () => {
  const values = lanes.flatMap((lane) => [...lane.proxy.issued]);
  expect(values.length).toBeGreaterThan(20);
  const printed = commands.printed.join("\n");
  expect(told(printed, [...values, authority.adminToken, "AGE-SECRET-KEY-"])).toEqual([]);
  expect(notified.length).toBeGreaterThan(10);
  expect(told(notified.join("\n"), [...values, authority.adminToken])).toEqual([]);
  const seen = [...processes].join("\n");
  expect(seen).toContain("KEYTURN_ROTATION_ID=");
  expect(seen).toContain("sleep\u00000.1");
  expect(told(seen, values)).toEqual([]);
});

function isDocument(text: string): boolean {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

function told(text: string, values: readonly string[]): string[] {
  return values.filter((value) => text.includes(value));
}

function policy(lane: Lane, { minimum = "0s", hook, webhook }: { minimum?: string } & Partial<Trouble>): void {
  const hooks = hook === undefined ? "" : `\n    hooks: { afterDistribute: [{ run: "${hook}", passValue: true }] }`;
  const url = webhook ?? `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
  const more = `notifiers:\n  ops: { type: webhook, url: "${url}", secret: "\${env:ADMIN}", timeout: 2s }\n`;
  lane.place.policy(
    policyText(lane.proxy.url, [{ name: "one", client: lane.client, maxKeys: 5, more: hooks }], { minimum, more }),
  );
}

/** The value of every version that lies in the local store. */
async function decrypted(lane: Lane): Promise<string[]> {
  const folder = lane.place.path(".keyturn/secrets/one");
  const identity = /^AGE-SECRET-KEY-.*$/m.exec(readFileSync(lane.place.path(".keyturn/identity"), "utf8"))?.[0] ?? "";
  const values: string[] = [];
  for (const name of readdirSync(folder).filter((name) => name.endsWith(".age"))) {
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    const text = await decrypter.decrypt(readFileSync(join(folder, name)), "text");
    values.push((JSON.parse(text) as { apiKey: string }).apiKey);
  }
  return values;
}

/** Everything in the folder that anybody may come to read, the .env file aside: it is a store. */
function readable(lane: Lane): string {
  const names = readdirSync(lane.place.folder, { recursive: true, encoding: "utf8" });
  const files = names.filter(
    (name) => name !== "one.env" && statSync(lane.place.path(name), { throwIfNoEntry: false })?.isFile(),
  );
  return files.map((name) => readFileSync(lane.place.path(name), "latin1")).join("\n");
}
