import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine } from "../support/command-line.ts";
import type { Lane } from "../support/lane.ts";
import { REGION } from "../support/moto.ts";
import { laneOn, servers, SHARED, startShared, stopShared } from "../support/shared-state.ts";

const there = SHARED.filter(({ there, name }) => there && !name.includes("PgBouncer"));
const PAGE = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8");

/** What the page says is to stand there, by the command that puts it there. */
function advised(command: RegExp): string {
  const [, text = ""] = command.exec(PAGE) ?? [];
  expect(text, `${command} is on the page`).not.toBe("");
  return text;
}

/** Puts a text there in place of the document of `one`; null: what the page advises where there is no backup. */
const PUT: Readonly<Record<string, (lane: Lane, text: string | null) => Promise<unknown>>> = {
  postgres: async (lane, text) => {
    const database = new URL(lane.place.env["STATE_URL"] ?? "").pathname.slice(1);
    const advice = advised(/^psql -c "(UPDATE .*)"$/m).replace("SECRET", "one");
    return servers().postgres.sql(database, text === null ? advice : advice.replace("NULL", `'${text}'`));
  },
  s3: async (lane, text) => {
    const { url, env } = servers().moto;
    const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = env;
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ endpoint: url, region: REGION, credentials, forcePathStyle: true });
    const Body = text ?? advised(/^echo '([^']*)' \| aws s3 cp - /m);
    const Bucket = lane.place.env["STATE_URL"]?.slice("s3://".length);
    await client.send(new PutObjectCommand({ Bucket, Key: "keyturn/secrets/one.json", Body }));
    client.destroy();
  },
  "vault-kv": async (lane, text) => {
    const { bao } = servers();
    const path = `secret/data/${lane.place.env["STATE_URL"]?.slice("vault-kv:".length)}/secrets/one`;
    const { version: cas } = (await bao.must("GET", path)).metadata;
    const data =
      text === null ? JSON.parse(advised(/^echo '([^']*)' \| vault kv put /m)) : { keyturn: 1, document: text };
    return bao.must("POST", path, { options: { cas }, data });
  },
};

describe.concurrent.each(there)("one damaged document in $name", { timeout: 120_000 }, ({ name }) => {
  let authority: TestAuthority;
  let commands: CommandLine;
  let lane: Lane;
  beforeAll(async () => {
    authority = await startTestAuthority();
    commands = new CommandLine();
    lane = await laneOn(there.find((one) => one.name === name) as (typeof there)[number], authority, commands);
  });
  afterAll(async () => {
    await lane?.close();
    await authority?.close();
    commands?.remove();
  });

  test("the hint names the page; without a backup it is done as the page says", async () => {
    const put = PUT[name] as (typeof PUT)[string];
    expect((await lane.run("rotate", "one", "--wait")).code).toBe(0);
    const [before, logged] = [await lane.local(), (await lane.run("audit", "one")).stdout];
    await put(lane, name === "s3" ? '{"keyturn":1,"state":{"schema":1,"name":"two"}}' : '{"schema":1,"name":"two"}');
    const damaged = await lane.run("run", "one");
    expect([damaged.code, damaged.stderr]).toEqual([3, expect.stringContaining('"Restoring state"')]);
    expect(damaged.stdout + damaged.stderr).toMatch(/in the place of the document of "one" is that of another/);

    await put(lane, null);
    expect((await lane.run("adopt", "one")).code).toBe(0);
    expect(await lane.local()).toBe(before);
    expect((await lane.run("rotate", "one", "--wait")).code).toBe(0);
    expect(await lane.local()).not.toBe(before);
    const audit = await lane.run("audit", "one");
    expect(audit.code).toBe(0);
    expect(audit.stdout).toContain(logged.trim().split("\n")[0]);
    const examined = (await lane.json("doctor", "one")).document.doctor;
    expect(examined.filter(({ part }: { part: string }) => part === "audit log")).toEqual([]);
    expect(await lane.faults()).toEqual([]);
  });
});

beforeAll(() => startShared(), 120_000);
afterAll(stopShared);
