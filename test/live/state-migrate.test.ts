import { existsSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { Lane } from "../support/lane.ts";
import { SHARED, startShared, stopShared } from "../support/shared-state.ts";

let authority: TestAuthority;
let commands: CommandLine;
const open: Lane[] = [];
let opened = 0;

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
  await startShared();
}, 120_000);
afterAll(async () => {
  await Promise.all(open.map((lane) => lane.close()));
  await authority?.close();
  commands?.remove();
  await stopShared();
});

async function laneWithKey(): Promise<Lane> {
  const lane = await Lane.open(`client-${++opened}`, authority, commands, 200);
  open.push(lane);
  sane(await lane.run("rotate", "one", "--wait"), 0);
  return lane;
}

function sane({ code, stderr }: Ended, expected: number): void {
  expect(code, stderr).toBe(expected);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}

/** At the old place. */
async function refuses(lane: Lane, words: string, to: string): Promise<void> {
  const refused = await lane.run(...words.split(" "));
  sane(refused, 3);
  expect(refused.stderr).toMatch(new RegExp(`^keyturn: the state in \\S+ was moved to ${to}`, "m"));
  expect(refused.stderr).toMatch(/^hint: name the new place in the policy's `state:`, or by --state$/m);
}

/** What status and audit tell of the state at a URL; "": the policy's. */
async function told(lane: Lane, url = ""): Promise<unknown> {
  const at = url === "" ? [] : ["--state", url];
  const { document: status } = await lane.json(...at, "show", "one");
  const { document: log } = await lane.json(...at, "audit", "one");
  const [{ current, versions, phase }] = status.secrets;
  return { current, versions, phase, audit: log.audit };
}

describe.concurrent("state migrate", { timeout: 90_000 }, () => {
  test.each(SHARED.filter(({ name, there }) => there && !name.includes("PgBouncer")))(
    "to $name and back, in the middle of an overlap",
    async ({ make }) => {
      const lane = await laneWithKey();
      lane.write({ minimum: "1h" });
      sane(await lane.run("rotate", "one"), 0);
      const before = await told(lane);
      expect(before).toMatchObject({ phase: "overlap" });
      const { url, env } = await make();
      Object.assign(lane.place.env, env);
      const migrated = await lane.run("state", "migrate", "--to", url);
      sane(migrated, 0);
      expect(await told(lane, url)).toEqual(before);
      // What is printed of the new place leads there, but for a password.
      lane.place.env["PGPASSWORD"] = URL.canParse(url) ? decodeURIComponent(new URL(url).password) : "";
      const [, printed = ""] = /name (\S+) in the policy/.exec(migrated.stderr) ?? [];
      expect(await told(lane, printed)).toEqual(before);
      expect((await lane.run("run", "one")).stderr).toContain(` was moved to ${printed}\n`);

      // What was left behind is kept whole, and answers nothing but where it went.
      const left = JSON.parse((await lane.run("state", "export")).stdout);
      expect(left.documents.every((one: { state: { moved?: unknown } }) => one.state.moved !== undefined)).toBe(true);
      lane.write();
      await refuses(lane, "run one", `${url.split(":")[0]}:`);
      // There the rotation ends.
      sane(await lane.run("--state", url, "run", "one", "--wait"), 0);
      const after = (await told(lane, url)) as { phase: string };
      expect(after.phase).toBe("idle");

      // And back to where it was.
      sane(await lane.run("--state", url, "state", "migrate", "--to", "sqlite:.keyturn/state.db"), 0);
      expect(await told(lane)).toEqual(after);
      sane(await lane.run("rotate", "one", "--wait"), 0);
      sane(await lane.run("--state", url, "run"), 3);
      expect(await lane.faults()).toEqual([]);

      // What was forgotten is no damage there.
      sane(await lane.run("forget", "one", "--yes"), 0);
      sane(await lane.run("hold", "one", "--reason", "so that there is a state"), 0);
      sane(await lane.run("forget", "one", "--yes"), 0);
      sane(await lane.run("pause", "--reason", "so that there is a state"), 0);
      sane(await lane.run("state", "migrate", "--to", url), 0);
      sane(await lane.run("--state", url, "resume"), 0);
      expect((await lane.json("--state", url, "rotate", "one")).document.secrets[0].reason).toBe("unmanaged");
      expect(lane.outages).toEqual([]);
    },
  );

  test("is refused while a rotation holds a lease, and leaves everything as it was", async () => {
    const lane = await laneWithKey();
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const reached = new Promise<void>((resolve) => {
      lane.proxy.at = (call) => {
        if (call.kind !== "POST keys") return undefined;
        resolve();
        return held;
      };
    });
    const run = lane.start("rotate", "one", "--wait");
    await reached;
    const refused = await lane.run("state", "migrate", "--to", "sqlite:other.db");
    sane(refused, 4);
    expect(refused.stderr).toContain(`process ${run.pid}) works on it since `);
    release();
    sane(await run.ended, 0);
    expect(await lane.faults()).toEqual([]);
    expect((await lane.json("--state", "sqlite:other.db", "status")).document.secrets[0]).toMatchObject({
      phase: "idle",
      versions: [],
    });
  });

  test("a run that waits meanwhile ends, and says where the state went; the other place goes on with its rotation", async () => {
    const lane = await laneWithKey();
    lane.write({ minimum: "15s" });
    const run = lane.start("rotate", "one", "--wait");
    await lane.says(({ phase }) => phase === "overlap");
    let moved: Ended;
    do moved = await lane.run("state", "migrate", "--to", "sqlite:other.db");
    while (moved.code === 4);
    sane(moved, 0);
    lane.write();
    const left = await run.ended;
    sane(left, 3);
    for (const words of ["rotate one --wait", "emergency one --yes", "hold one --reason x", "status", "adopt one"])
      await refuses(lane, words, "sqlite:");
    expect(left.stderr).toMatch(/^keyturn: one: blocked: the state in \S+ was moved to \S+other\.db$/m);
    sane(await lane.run("--state", "sqlite:other.db", "run", "one", "--wait"), 0);
    expect(lane.outages).toEqual([]);
  });

  test("may be done again after it was interrupted, and is refused where something else is", async () => {
    const lane = await laneWithKey();
    sane(await lane.run("state", "migrate", "--to", "sqlite:other.db"), 0);
    sane(await lane.run("state", "migrate", "--to", "sqlite:other.db"), 0);
    const third = await lane.run("state", "migrate", "--to", "sqlite:third.db");
    sane(third, 3);
    expect(third.stderr).toMatch(/was moved to \S+other\.db$/m);
    const elsewhere = await laneWithKey();
    const occupied = await elsewhere.run("state", "migrate", "--to", `sqlite:${lane.place.path("other.db")}`);
    sane(occupied, 3);
    expect(occupied.stderr).toContain("has documents of its own");
    sane(await elsewhere.run("rotate", "one", "--wait"), 0);
    sane(await lane.run("state", "migrate", "--to", "sqlite:.keyturn/state.db"), 2);
    sane(await lane.run("state", "migrate", "--to", "nonsense:"), 2);
    sane(await lane.run("state", "migrate"), 2);
    sane(await lane.run("--state", "sqlite:none.db", "state", "migrate", "--to", "sqlite:x.db"), 2);
  });
});

describe.concurrent("state export and import", { timeout: 90_000 }, () => {
  test("a backup holds everything but values, and raises every epoch where it comes back", async () => {
    const lane = await laneWithKey();
    const { code, stdout } = await lane.run("state", "export");
    expect(code).toBe(0);
    for (const value of lane.proxy.issued) expect(stdout).not.toContain(value);
    const file = lane.place.path("backup.json");
    writeFileSync(file, stdout);
    sane(await lane.run("--state", "sqlite:restored.db", "state", "import", "backup.json"), 0);
    expect(await told(lane, "sqlite:restored.db")).toEqual(await told(lane));
    const again = JSON.parse((await lane.run("--state", "sqlite:restored.db", "state", "export")).stdout);
    const epochs = (text: string): number[] =>
      JSON.parse(text).documents.map((one: { state: { epoch: number } }) => one.state.epoch);
    expect(epochs(JSON.stringify(again))).toEqual(epochs(stdout).map((epoch) => epoch + 1));
    sane(await lane.run("--state", "sqlite:restored.db", "rotate", "one", "--wait"), 0);
    sane(await lane.run("--state", "sqlite:restored.db", "state", "import", "backup.json"), 3);
  });

  test("a file that is no export is refused, and nothing is done", async () => {
    const lane = await laneWithKey();
    const { stdout } = await lane.run("state", "export");
    const spoilt = [
      "{",
      "{}",
      stdout.replace('"keyturnState": 1', '"keyturnState": 2'),
      stdout.replace('"commitId"', '"value": "x", "commitId"'),
      stdout.replace(/"epoch": \d+/, '"epoch": "x"'),
    ];
    for (const text of spoilt) {
      expect(text).not.toBe(stdout);
      writeFileSync(lane.place.path("backup.json"), text);
      sane(await lane.run("--state", "sqlite:restored.db", "state", "import", "backup.json"), 2);
    }
    expect(existsSync(lane.place.path("restored.db"))).toBe(false);
    const missing = await lane.run("state", "import", "missing.json");
    sane(missing, 2);
    expect(missing.stderr).toMatch(/\/missing\.json: is not there$/m);
  });
});
