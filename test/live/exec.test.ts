import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bench, build, type Bench } from "../cli/harness.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/exec/", import.meta.url));

let b: Bench;
let traffic: NodeJS.Timeout;
beforeAll(async () => {
  build();
  b = await bench();
  log(null, "other");
});
afterAll(() => {
  clearInterval(traffic);
  return b.close();
});

/** A line of the gateway that checks the keys. */
function log(key: string | null, who: string): void {
  appendFileSync(join(b.folder, "gateway.log"), `${JSON.stringify({ time: Date.now(), key, who, status: 200 })}\n`);
}

interface Served {
  readonly served: { readonly version: string };
  readonly versions: Readonly<Record<string, { readonly apiKey: string }>>;
}

/** The consumer reads what the store serves and calls through the gateway. @returns the key id */
async function checkout(): Promise<string> {
  const { served, versions } = JSON.parse(readFileSync(join(b.folder, "vault/one.json"), "utf8")) as Served;
  const { status, body } = await b.authority.whoami(versions[served.version]?.apiKey ?? "", "checkout-1");
  expect(status).toBe(200);
  log(String(body["keyId"]), "checkout-1");
  return String(body["keyId"]);
}

test("a key rotates to its end by programs alone, once the gateway's log is silent about it", async () => {
  b.policy(`version: 1
notifiers: { log: { type: exec, command: ["${EXAMPLES}notify.sh", told.jsonl] } }
secrets:
  one:
    issuer:
      type: exec
      command: ["${EXAMPLES}issuer.mjs"]
      env: { ADMIN_TOKEN: "\${env:ADMIN}" }
      settings: { url: "${b.authority.url}", client: one }
      traits:
        { maxKeys: 2, canDisable: true, labels: true, identify: true, usage: { granularity: 1s, lag: 1s, seesDenied: true } }
    stores: [{ type: exec, command: ["${EXAMPLES}store.mjs"], settings: { folder: vault }, traits: { staged: true } }]
    usage: [{ type: issuer }, { type: access-log, files: [gateway.log], format: json, pause: 3s, granularity: 0s, lag: 0s }]
    consumers: [{ name: checkout }]
    verify: { successes: 1, spread: 0s }
    overlap: { minimum: 0s, quiet: 1s }
    soak: 0s
`);
  expect((await b.json("doctor")).code).toBe(0);
  expect((await b.json("rotate", "one")).code).toBe(0);
  const old = await checkout();

  expect((await b.json("rotate", "one")).document.secrets[0]).toMatchObject({ outcome: "waiting" });
  const fresh = await checkout();
  expect(fresh).not.toBe(old);
  // Beside the log, the issuer itself would say that nobody uses the old key any more.
  for (let i = 0; i < 3; i++) log(old, "billing-1");
  const waiting = (await b.json("run")).document.secrets[0];
  expect(waiting).toMatchObject({ outcome: "waiting", phase: "overlap" });

  // A log that stands still is no silence.
  await new Promise((resolve) => setTimeout(resolve, 4000));
  const still = (await b.json("run")).document.secrets[0];
  expect(still).toMatchObject({ outcome: "waiting" });
  expect(still.message).toMatch(/has not grown|billing-1/);
  expect((await b.authority.list("one")).find(({ id }) => id === old)?.status).toBe("enabled");

  traffic = setInterval(() => log(null, "other"), 100);
  const done = (await b.json("run", "--wait", "--wait-max", "40s")).document.secrets[0];
  expect(done).toMatchObject({ outcome: "done", phase: "idle" });
  expect((await b.authority.list("one")).map(({ id }) => id)).toEqual([fresh]);
  expect(await checkout()).toBe(fresh);

  const told = readFileSync(join(b.folder, "told.jsonl"), "utf8").trim().split("\n");
  const types = told.map((line) => (JSON.parse(line) as { notification: { type: string } }).notification.type);
  expect(types).toEqual(expect.arrayContaining(["started", "done"]));
});
