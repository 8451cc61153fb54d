import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { awsError, MotoLane, usedBy, type IamPolicy } from "../support/moto-lane.ts";

const there = (await motoPython()) !== null;
const NEEDED = [
  "iam:GetUser",
  "iam:ListAccessKeys",
  "iam:CreateAccessKey",
  "iam:UpdateAccessKey",
  "iam:DeleteAccessKey",
  "iam:GetAccessKeyLastUsed",
];

describe.runIf(there).concurrent("what keeps a rotation of IAM keys from going on", { timeout: 90_000 }, () => {
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

  test("both slots taken, one of them by a stranger: blocked before minting, both untouched", async () => {
    const { made, id } = await laneWithKey();
    const stranger = await made.makeKey();
    const { code, document } = await made.json("rotate", "one", "--wait");
    expect([code, document.secrets[0].reason]).toEqual([3, "slots-full-foreign"]);
    expect(document.secrets[0].message).toContain(stranger.id);
    expect(document.secrets[0].message).not.toContain(id);
    expect(made.mutations()).toEqual([]);
    expect(await made.keys()).toEqual({ [id]: "Active", [stranger.id]: "Active" });
  });

  test.each(["iam:UpdateAccessKey", "iam:DeleteAccessKey"])(
    "%s missing: preflight says so, and nothing is minted",
    async (missing) => {
      const { made, id } = await laneWithKey();
      await made.runAs(
        `runner-of-${made.user}`,
        NEEDED.filter((action) => action !== missing),
      );
      const { code, document } = await made.json("rotate", "one", "--wait");
      expect([code, document.secrets[0].reason]).toEqual([3, "permission-missing"]);
      expect(document.secrets[0].message).toContain(missing);
      expect(made.mutations()).toEqual([]);
      expect(await made.keys()).toEqual({ [id]: "Active" });
    },
  );

  test("the permissions that are named are enough", async () => {
    const { made, id } = await laneWithKey();
    await made.runAs(`runner-of-${made.user}`, NEEDED);
    sane(await made.run("rotate", "one", "--wait"), 0);
    expect(Object.keys(await made.keys())).not.toContain(id);
  });

  test("another account than the policy's: nothing is minted", async () => {
    const made = await lane();
    const elsewhere = (body: string): string => body.replaceAll("123456789012", "210987654321");
    made.wire.answer = (_, answer) => ({ ...answer, body: elsewhere(answer.body) });
    const { code, document } = await made.json("rotate", "one", "--wait");
    expect([code, document.secrets[0].reason]).toEqual([3, "identity-mismatch"]);
    expect(document.secrets[0].message).toMatch(/210987654321.*123456789012/);
    expect(made.mutations()).toEqual([]);
  });

  test("no credentials, or refused ones: one line, nothing minted", async () => {
    const made = await lane();
    const wrong = { ...made.place.env, AWS_SECRET_ACCESS_KEY: "wrong" };
    const { AWS_ACCESS_KEY_ID: _, AWS_SECRET_ACCESS_KEY: __, ...none } = made.place.env;
    for (const env of [wrong, none]) {
      const ended = await commands.run({ folder: made.place.folder, env }, "rotate", "one", "--json");
      sane(ended, 1);
      expect(JSON.parse(ended.stdout).secrets[0]).toMatchObject({ outcome: "failed", reason: "credentials-missing" });
    }
    expect(await made.keys()).toEqual({});
  });

  test("the old key was used two minutes ago: it is waited for, and who used it is named", async () => {
    const { made, id } = await laneWithKey({ quiet: "30m" });
    made.wire.answer = (call, answer) =>
      call.action === "GetAccessKeyLastUsed" && call.param("AccessKeyId") === id
        ? { ...answer, body: usedBy(answer.body, "s3", Date.now() - 120_000) }
        : answer;
    sane(await made.run("rotate", "one"), 0);
    const { code, document } = await made.json("run", "one");
    expect([code, document.secrets[0].outcome, document.secrets[0].reason]).toEqual([0, "waiting", "old-key-in-use"]);
    const old = document.secrets[0].versions.find((version: { keyId: string }) => version.keyId === id);
    expect(old.lastUsedBy).toContain("s3 (eu-west-1)");
    expect(document.secrets[0].message).toMatch(/ 2 min( \d+ s)? ago by s3 \(eu-west-1\)/);
    expect(made.mutations()).toEqual(["CreateAccessKey"]);
    expect((await made.keys())[id]).toBe("Active");
  });

  test("the usage API is down: waiting, for unknown is not silent", async () => {
    const { made, id } = await laneWithKey();
    made.wire.instead = (call) => (call.action === "GetAccessKeyLastUsed" ? awsError(503, "ServiceUnavailable") : null);
    const { code, document } = await made.json("rotate", "one", "--wait", "--wait-max", "4s");
    expect(document.secrets[0]).toMatchObject({ outcome: "waiting", reason: "usage-unknown" });
    expect(code).toBe(0);
    expect((await made.keys())[id]).toBe("Active");
  });

  describe("keyturn's own keys", () => {
    const own = async (self: boolean) => {
      const made = await lane();
      await made.allow(made.user, [...NEEDED, "sts:GetCallerIdentity"]);
      const key = await made.makeKey();
      const file = made.place.path(".aws/credentials");
      mkdirSync(made.place.path(".aws"));
      writeFileSync(
        file,
        `# the team's\n[other]\naws_access_key_id = AKIAOTHER\n\n[runner] ; ours\naws_access_key_id = ${key.id}\naws_secret_access_key = ${key.secret}\n`,
        { mode: 0o600 },
      );
      for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE"])
        delete made.place.env[name];
      made.place.env["AWS_PROFILE"] = "runner";
      made.policy({
        issuer: self ? ", self: true" : "",
        stores: "[{ type: local }, { type: aws-credentials-file, profile: runner }]",
      });
      return { made, key, file };
    };

    test("are not rotated unless it is told to", async () => {
      const { made, key } = await own(false);
      const { code, document } = await made.json("rotate", "one");
      expect([code, document.secrets[0].reason]).toEqual([3, "identity-mismatch"]);
      expect(document.secrets[0].message).toContain("itself signs with");
      expect(await made.keys()).toEqual({ [key.id]: "Active" });
    });

    test("change under it while it runs, and it goes on with the new ones", async () => {
      const { made, key, file } = await own(true);
      sane(await made.run("adopt", "one"), 0);
      sane(await made.run("rotate", "one", "--wait"), 0);
      const [id = "", ...more] = Object.keys(await made.keys());
      expect(more).toEqual([]);
      expect(id).not.toBe(key.id);
      expect(readFileSync(file, "utf8")).toMatch(
        new RegExp(
          `^# the team's\n\\[other\\]\naws_access_key_id = AKIAOTHER\n\n\\[runner\\] ; ours\naws_access_key_id = ${id}\naws_secret_access_key = \\S{40}\n$`,
        ),
      );
      const revoked = made.wire.calls.filter(
        (call) => /^(Update|Delete)AccessKey$/.test(call.action) && call.param("AccessKeyId") === key.id,
      );
      expect(revoked.map((call) => call.accessKeyId)).toEqual([id, id]);
      sane(await made.run("rotate", "one", "--wait"), 0);
    });
  });
});

function sane({ code, stderr, stdout }: Ended, ...codes: number[]): void {
  expect(codes, stderr + stdout).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
