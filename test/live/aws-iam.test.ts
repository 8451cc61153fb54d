import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { awsError, MotoLane, usedBy, type IamPolicy } from "../support/moto-lane.ts";

const there = (await motoPython()) !== null;

describe.runIf(there).concurrent("keys of an IAM user", { timeout: 90_000 }, () => {
  let moto: Moto;
  let commands: CommandLine;
  const open: MotoLane[] = [];
  let users = 0;
  beforeAll(async () => {
    commands = new CommandLine();
    moto = await startMoto({ auth: true });
  });
  afterAll(async () => {
    await Promise.all(open.map((lane) => lane.close()));
    await moto?.stop();
    commands?.remove();
  });

  const lane = async (policy: IamPolicy = {}): Promise<MotoLane> => {
    const made = await MotoLane.open(`app-${++users}`, moto, commands, policy);
    open.push(made);
    return made;
  };
  const laneWithKey = async (policy: IamPolicy = {}) => {
    const made = await lane();
    sane(await made.run("rotate", "one", "--wait"), 0);
    const [id = ""] = Object.keys(await made.keys());
    made.policy(policy);
    made.wire.reset();
    return { made, id };
  };

  test("from a policy to a deleted old key, while consumers of both stores go on", async () => {
    const { made, id } = await laneWithKey();
    made.watch();
    sane(await made.run("rotate", "one", "--wait"), 0);
    const keys = await made.keys();
    expect(Object.values(keys)).toEqual(["Active"]);
    expect(Object.keys(keys)).not.toContain(id);
    const served = await made.local();
    expect(Object.keys(keys)).toEqual([served?.id]);
    expect(made.dotenv()).toEqual(served);
    expect(made.mutations()).toEqual(["CreateAccessKey", `UpdateAccessKey Inactive ${id}`, `DeleteAccessKey ${id}`]);
    expect(made.outages).toEqual([]);
  });

  test("killed before the answer of CreateAccessKey came: the orphan goes by its id, then a second is made", async () => {
    const { made, id } = await laneWithKey();
    made.watch();
    made.wire.answer = (call, answer) => (call.action === "CreateAccessKey" ? "hang" : answer);
    const first = made.start("rotate", "one", "--wait");
    await made.reached("CreateAccessKey");
    while (Object.keys(await made.keys()).length < 2) await sleep(20);
    process.kill(first.pid, "SIGKILL");
    await first.ended;
    const [orphan = ""] = Object.keys(await made.keys()).filter((key) => key !== id);
    made.wire.reset();
    const most = countKeys(made);
    sane(await made.run("run", "one", "--wait"), 0);
    expect(made.mutations().slice(0, 3)).toEqual([
      `UpdateAccessKey Inactive ${orphan}`,
      `DeleteAccessKey ${orphan}`,
      "CreateAccessKey",
    ]);
    expect(most()).toBeLessThanOrEqual(2);
    const [left = "", ...more] = Object.keys(await made.keys());
    expect(more).toEqual([]);
    expect([id, orphan]).not.toContain(left);
    expect((await made.local())?.id).toBe(left);
    expect(made.outages).toEqual([]);
  });

  test("a stranger's key of the same moment is not told from the orphan: a person is asked, both live on", async () => {
    const made = await lane();
    made.wire.answer = async (call, answer) => {
      if (call.action !== "CreateAccessKey") return answer;
      await made.use(await made.makeKey());
      return "hang";
    };
    const first = made.start("rotate", "one", "--wait");
    while (Object.keys(await made.keys()).length < 2) await sleep(20);
    process.kill(first.pid, "SIGKILL");
    await first.ended;
    const both = Object.keys(await made.keys()).sort();
    made.wire.reset();
    const { code, document } = await made.json("run", "one", "--wait");
    expect(code).toBe(3);
    expect(document.secrets[0]).toMatchObject({ outcome: "blocked", reason: "orphan-ambiguous" });
    for (const key of both) expect(document.secrets[0].message).toContain(key);
    expect(made.mutations()).toEqual([]);
    expect(Object.keys(await made.keys()).sort()).toEqual(both);
  });

  test("a stranger's key that only looks like ours is let go once it is seen used, and ours is made", async () => {
    const made = await lane();
    made.wire.instead = async (call) => {
      if (call.action !== "CreateAccessKey") return null;
      await made.makeKey();
      return "hang";
    };
    const first = made.start("rotate", "one", "--wait");
    while (Object.keys(await made.keys()).length < 1) await sleep(20);
    process.kill(first.pid, "SIGKILL");
    await first.ended;
    const [stranger = ""] = Object.keys(await made.keys());
    made.wire.reset();
    made.wire.answer = (call, answer) =>
      call.action === "GetAccessKeyLastUsed" && call.param("AccessKeyId") === stranger
        ? { ...answer, body: usedBy(answer.body, "s3", Date.now() - 1000) }
        : answer;
    sane(await made.run("run", "one", "--wait"), 0);
    expect(made.mutations()).toEqual(["CreateAccessKey"]);
    expect(await made.keys()).toMatchObject({ [stranger]: "Active" });
    expect(Object.keys(await made.keys())).toHaveLength(2);
  });

  test("a new key that is refused for twelve seconds is waited for: one mint", async () => {
    const { made, id } = await laneWithKey({ verify: "{ successes: 2, spread: 1s, deadline: 40s }" });
    made.watch();
    let since = Infinity;
    const refused: number[] = [];
    made.wire.answer = (call, answer) => {
      if (call.action === "CreateAccessKey") since = Date.now();
      const early = Date.now() - since < 12_000;
      if (!early || call.action !== "GetCallerIdentity" || call.region !== "us-east-1") return answer;
      refused.push(Date.now());
      return awsError(403, "InvalidClientTokenId");
    };
    sane(await made.run("rotate", "one", "--wait"), 0);
    expect(refused.length).toBeGreaterThan(1);
    expect(made.mutations()).toEqual(["CreateAccessKey", `UpdateAccessKey Inactive ${id}`, `DeleteAccessKey ${id}`]);
    expect(made.outages).toEqual([]);
  });

  test("a new key that is accepted and refused by turns is not verified, and the old one stays", async () => {
    const { made, id } = await laneWithKey({ verify: "{ successes: 3, spread: 300ms, deadline: 6s }" });
    made.watch();
    let asked = 0;
    made.wire.answer = (call, answer) =>
      call.action === "GetCallerIdentity" && call.region === "us-east-1" && ++asked % 2 === 0
        ? awsError(403, "InvalidClientTokenId")
        : answer;
    const { document } = await made.json("rotate", "one", "--wait", "--wait-max", "15s");
    expect(document.secrets[0].reason).toBe("verify-rejected");
    expect(asked).toBeGreaterThan(3);
    expect((await made.local())?.id).toBe(id);
    expect((await made.keys())[id]).toBe("Active");
    expect(made.mutations().filter((call) => call.startsWith("Create"))).toHaveLength(1);
    expect(made.outages).toEqual([]);
  });

  test("a revocation answered 500 is debt by its id, and the next run kills that id and no other", async () => {
    const { made, id } = await laneWithKey();
    made.watch();
    const revoking = /^(Update|Delete)AccessKey$/;
    made.wire.instead = (call) =>
      revoking.test(call.action) && call.param("AccessKeyId") === id ? awsError(500, "InternalFailure") : null;
    const broken = await made.json("rotate", "one", "--wait", "--wait-max", "5s");
    expect(broken.code).toBe(1);
    const late = (await made.json("status", "one")).document.secrets[0];
    expect(late.debt).toMatchObject([{ keyId: id }]);
    expect((await made.keys())[id]).toBe("Active");
    made.wire.reset();
    sane(await made.run("run", "one", "--wait"), 0);
    expect(made.mutations()).toEqual([`UpdateAccessKey Inactive ${id}`, `DeleteAccessKey ${id}`]);
    expect(Object.keys(await made.keys())).toEqual([(await made.local())?.id]);
    expect((await made.json("status", "one")).document.secrets[0].debt).toEqual([]);
    expect(made.outages).toEqual([]);
  });

  test("rollback after the disable restores key and stores; after the delete it refuses", async () => {
    const { made, id } = await laneWithKey({ soak: "1h" });
    made.watch();
    sane(await made.run("rotate", "one"), 0);
    while ((await made.keys())[id] === "Active") sane(await made.run("run", "one"), 0);
    sane(await made.run("rollback", "one"), 0);
    expect((await made.keys())[id]).toBe("Active");
    expect([(await made.local())?.id, made.dotenv()?.id]).toEqual([id, id]);
    made.policy();
    await made.run("run", "one", "--wait");
    expect(await made.keys()).toEqual({ [id]: "Active" });
    sane(await made.run("rotate", "one", "--wait"), 0);
    expect(Object.keys(await made.keys())).not.toContain(id);
    const refused = await made.json("rollback", "one");
    expect([refused.code, refused.document.secrets[0].reason]).toEqual([3, "nothing-to-roll-back-to"]);
    expect(made.outages).toEqual([]);
  });
});

/** Looks at moto itself whenever a call has passed. @returns the most keys that there ever were */
function countKeys(made: MotoLane): () => number {
  let most = 0;
  made.wire.answer = async (_, answer) => {
    most = Math.max(most, Object.keys(await made.keys()).length);
    return answer;
  };
  return () => most;
}

function sane({ code, stderr, stdout }: Ended, ...codes: number[]): void {
  expect(codes, stderr + stdout).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
