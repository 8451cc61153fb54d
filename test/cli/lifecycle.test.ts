import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bench, build, policyOf, type Bench, type Json } from "./harness.ts";

let b: Bench;
beforeAll(build);
beforeEach(async () => {
  await b?.close();
  b = await bench();
  b.policy(policyOf(b.authority.url));
});
afterAll(() => b.close());

const only = (document: Json): Json => document.secrets[0];

const MEMBERS = [
  "name",
  "phase",
  "outcome",
  "reason",
  "message",
  "until",
  "observedAt",
  "nextDue",
  "owner",
  "rotation",
  "current",
  "versions",
  "stores",
  "consumers",
  "debt",
  "holds",
  "lease",
  "actions",
];

describe("a secret's life", () => {
  test("plan, doctor and status of a fresh secret change nothing", async () => {
    for (const verb of ["plan", "doctor", "status"]) {
      const { code, document } = await b.json(verb);
      expect([verb, code]).toEqual([verb, 0]);
      expect(document).toMatchObject({ keyturn: 1, command: verb, error: null });
      expect(document.secrets.map((one: Json) => one.name)).toEqual(["one", "two"]);
      expect(Object.keys(only(document))).toEqual(expect.arrayContaining(MEMBERS));
      expect(document.at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    }
    expect(await b.authority.list("one")).toEqual([]);
    expect(existsSync(join(b.folder, ".keyturn/identity"))).toBe(false);
  });

  test("the first rotation issues, the second waits in the overlap, rollback leads back", async () => {
    const first = await b.json("rotate", "one");
    expect(first.code).toBe(0);
    expect(only(first.document)).toMatchObject({
      name: "one",
      phase: "idle",
      outcome: "done",
      owner: "team-one",
      rotation: null,
    });
    expect(only(first.document).actions.map((one: Json) => one.action)).toEqual([
      "issue",
      "stage",
      "verify",
      "promote",
      "put",
    ]);
    const old = b.served();
    expect((await b.authority.whoami(old, "app-1")).status).toBe(200);

    const second = await b.json("rotate", "one", "--detailed-exitcode");
    expect(second.code).toBe(8);
    expect(only(second.document)).toMatchObject({ phase: "overlap", outcome: "waiting", reason: "minimum-overlap" });
    expect(Date.parse(only(second.document).until)).toBeGreaterThan(Date.now());
    expect(b.served()).not.toBe(old);
    const [v1, v2] = only(second.document).versions;
    expect([v1.status, v2.status]).toEqual(["retiring", "current"]);
    expect(only(second.document).current.version).toBe(v2.version);

    const status = await b.run("status", "one");
    expect(status.stdout).toMatch(/one\s+overlap\s+waiting/);
    expect((await b.run("show", "one")).stdout).toContain(v1.keyId);

    const back = await b.json("rollback", "one");
    expect((await b.run("rollback", "one")).stdout).toMatch(/^one: rolled back; served now: key_/m);
    expect(back.code).toBe(0);
    expect(b.served()).toBe(old);
    const run = await b.json("run", "one");
    expect(run.code).toBe(3);
    expect(only(run.document)).toMatchObject({ outcome: "blocked", reason: "rolled-back" });
    expect((await b.authority.whoami(old)).status).toBe(200);
  });

  test("--wait follows a rotation to the end: one key is left", async () => {
    b.policy(policyOf(b.authority.url, { minimum: "1s" }));
    await b.run("rotate", "one");
    const { code, stderr } = await b.run("rotate", "one", "--wait");
    expect(code).toBe(0);
    expect(stderr).toMatch(/^\d{4}-.*Z one overlap: /m);
    const keys = await b.authority.list("one");
    expect(keys.map(({ status }) => status)).toEqual(["enabled"]);
    const history = await b.json("history", "one");
    expect(history.document.history.map((one: Json) => one.type)).toEqual(
      expect.arrayContaining(["issue", "disable", "delete", "done"]),
    );
    const audit = await b.json("audit", "one", "--limit", "3");
    expect(audit.document.audit).toHaveLength(3);
    expect(audit.document.audit[0].hash).toMatch(/^[0-9a-f]+$/);
  });

  test("a rollback to a value that is nowhere any more is told as that", async () => {
    b.policy(policyOf(b.authority.url, { minimum: "1h" }));
    await b.run("rotate", "one");
    await b.run("rotate", "one");
    const { versions } = only((await b.json("status", "one")).document);
    const old = versions.find((one: Json) => one.status === "retiring").version;
    rmSync(join(b.folder, `.keyturn/secrets/one/${old}.age`));
    const { code, stdout, stderr } = await b.run("rollback", "one");
    expect(code).toBe(3);
    expect(stderr).toMatch(/^keyturn: one: blocked: the value of v1-\S+ is in no store any more; meanwhile: /m);
    expect(stdout).not.toContain("rolled back; served now");
    expect(only((await b.json("run", "one")).document)).toMatchObject({
      outcome: "blocked",
      reason: "nothing-to-roll-back-to",
    });
  });

  test("run starts what is due, and nothing else", async () => {
    const first = await b.json("run");
    expect(first.document.secrets.map((one: Json) => one.outcome)).toEqual(["done", "done"]);
    const keys = await b.authority.list("one");
    expect(keys).toHaveLength(1);
    await b.json("run");
    expect(await b.authority.list("one")).toEqual(keys);
  });

  test("adopt takes over what is served", async () => {
    await b.run("rotate", "one");
    const [key] = await b.authority.list("one");
    expect((await b.run("forget", "one", "--yes")).code).toBe(0);
    const unmanaged = await b.json("rotate", "one");
    expect(unmanaged.code).toBe(3);
    expect(only(unmanaged.document).reason).toBe("unmanaged");
    const adopted = await b.json("adopt", "one");
    expect(adopted.code).toBe(0);
    expect(only(adopted.document).current.keyId).toBe(key?.id);
    expect(await b.authority.list("one")).toHaveLength(1);
    const wrong = await b.json("adopt", "one", "--key", "key_0000000000000000");
    expect(wrong.code).toBe(3);
    // The person's `rotate` still stands.
    await b.run("run", "one");
    expect(await b.authority.list("one")).toHaveLength(2);
  });

  test("what the schedule began before an adoption counts anew from the adopted key's age", async () => {
    await b.run("rotate", "one");
    const keys = await b.authority.list("one");
    await b.run("forget", "one", "--yes");
    expect(only((await b.json("run", "one")).document).reason).toBe("unmanaged");
    expect((await b.run("adopt", "one")).code).toBe(0);
    const next = only((await b.json("run", "one")).document);
    expect([next.outcome, next.reason, next.rotation]).toEqual(["done", "not-due", null]);
    expect(await b.authority.list("one")).toEqual(keys);
  });

  test("an emergency replaces and kills every living key", async () => {
    await b.run("rotate", "one");
    await b.run("rotate", "one");
    const leaked = (await b.authority.list("one")).map(({ id }) => id);
    const asked = await b.run("emergency", "one");
    expect([asked.code, asked.stderr]).toEqual([
      2,
      expect.stringContaining("emergency needs a yes, and nobody can be asked"),
    ]);
    for (const id of leaked) expect(asked.stderr).toContain(id);
    const { code, stdout } = await b.run("emergency", "one", "--grace", "0s", "--yes");
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`one: dead: ${leaked.join(", ")}; served now: key_`));
    const alive = (await b.authority.list("one")).filter(({ status }) => status === "enabled").map(({ id }) => id);
    expect(alive).toHaveLength(1);
    expect(leaked).not.toContain(alive[0]);
    expect((await b.authority.whoami(b.served())).status).toBe(200);
  });

  test("an emergency of one key leaves the others", async () => {
    await b.run("rotate", "one");
    await b.run("rotate", "one");
    const { document } = await b.json("status", "one");
    const [old, current] = only(document).versions;
    const { code } = await b.json("emergency", "one", "--key-id", old.keyId, "--grace", "0s", "--yes");
    expect(code).toBe(0);
    const alive = (await b.authority.list("one")).filter(({ status }) => status === "enabled").map(({ id }) => id);
    expect(alive).toEqual([current.keyId]);
    expect((await b.run("emergency", "one", "--key-id", "key_nobody", "--yes")).code).toBe(2);
  });

  test("revoke ends an old version, never the current one", async () => {
    await b.run("rotate", "one");
    await b.run("rotate", "one");
    const [old, current] = only((await b.json("status", "one")).document).versions;
    const refused = await b.json("revoke", "one", "--key-version", current.version);
    expect(refused.code).toBe(3);
    expect((await b.json("revoke", "one", "--key-version", "v9")).code).toBe(3);
    const { code, stderr } = await b.run("revoke", "one", "--key-version", old.version.split("-")[0]);
    expect([code, stderr]).toEqual([0, expect.stringContaining("a key is dead")]);
    const alive = (await b.authority.list("one")).filter(({ status }) => status === "enabled").map(({ id }) => id);
    expect(alive).toEqual([current.keyId]);
  });
});

describe("a person's word", () => {
  test("hold, unhold, ack, unlock and release answer with the secret", async () => {
    b.policy(policyOf(b.authority.url, { minimum: "0s" }));
    await b.run("rotate", "one");
    expect((await b.run("unhold", "one")).stdout).toContain("one: nothing held it");
    const hold = await b.json("hold", "one", "--reason", "audit is on", "--until", "2h");
    expect(hold.code).toBe(0);
    expect(only(hold.document).holds).toMatchObject([{ reason: "audit is on" }]);
    const rotated = await b.json("rotate", "one");
    expect(only(rotated.document)).toMatchObject({ phase: "overlap", outcome: "waiting", reason: "held" });
    expect((await b.json("status", "one")).document.secrets[0].reason).toBe("held");
    expect((await b.json("unhold", "one")).document.secrets[0].holds).toEqual([]);
    expect((await b.json("ack", "one", "--consumer", "app")).code).toBe(0);
    expect((await b.run("unlock", "one")).stdout).toContain("one: not locked");
    for (const said of ["noted as not ours", "known as not ours already"]) {
      const { code, stdout } = await b.run("release", "one", "key_0123456789abcdef");
      expect([code, stdout]).toEqual([0, expect.stringContaining(said)]);
    }
    const types = (await b.json("history", "one")).document.history.map((one: Json) => one.type);
    expect(types.filter((type: string) => ["unhold", "unlock", "release"].includes(type))).toEqual([
      "unhold",
      "release",
    ]);
  });

  test("status says what the newest run found, until the document moves", async () => {
    b.policy(policyOf(b.authority.url, { minimum: "0s", quiet: "1h" }));
    await b.run("rotate", "one");
    await b.run("rotate", "one");
    await b.run("hold", "one", "--reason", "wait");
    const adminToken = b.env["ADMIN"] as string;
    b.env["ADMIN"] = "wrong";
    const { reason, message } = only((await b.json("run", "one")).document);
    b.env["ADMIN"] = adminToken;
    expect(only((await b.json("status", "one")).document)).toMatchObject({ phase: "overlap", reason, message });
    await b.run("unhold", "one");
    expect(only((await b.json("status", "one")).document).reason).not.toBe(reason);
  });

  test("what is waited for comes with its hint, in run and status", async () => {
    b.policy(
      policyOf(b.authority.url, { minimum: "0s" })
        .replaceAll("required: false", "required: true")
        .replace("owner: team-one", "usage: none\n    owner: team-one"),
    );
    await b.run("rotate", "one");
    await b.run("rotate", "one");
    for (const verb of ["run", "status"]) {
      const { stdout, stderr } = await b.run(verb, "one");
      expect([verb, stdout]).toEqual([verb, expect.stringContaining("app not yet seen on the new key")]);
      expect(stderr).toMatch(/^hint: keyturn ack one --consumer /m);
    }
  });

  test("a pause of everything is told by status, and is no matter of one secret", async () => {
    await b.run("rotate", "one");
    await b.run("pause", "--reason", "freeze");
    expect(only((await b.json("status", "one")).document)).toMatchObject({ outcome: "waiting", reason: "paused" });
    expect((await b.run("resume", "one")).stdout).toContain("one: not paused itself; everything is");
    expect((await b.run("resume")).stdout).toContain("everything: goes on");
  });

  test("an emergency typed again while it lasts means the keys that it meant; once it has ended it is another", async () => {
    const emergency = (...more: string[]) => b.json("emergency", "one", "two", "--grace", "0s", "--yes", ...more);
    await b.run("rotate", "one", "two");
    const [leaked] = await b.authority.list("one");
    // Here the adapters of `two` cannot be made: its keys are stamped all the same, for whoever can go on.
    const policy = policyOf(b.authority.url);
    const [before = "", after = ""] = policy.split("\n  two:");
    b.policy(`${before}\n  two:${after.replace("${env:ADMIN}", "${env:NOT_HERE}")}`);
    const killed = await emergency();
    expect([killed.code, killed.document.secrets[1].message]).toEqual([1, expect.stringContaining("NOT_HERE")]);
    const [live, ...others] = await b.authority.list("one");
    expect([live?.id === leaked?.id, others]).toEqual([false, []]);
    await b.run("run", "one", "--wait");
    b.policy(policy);
    const again = await emergency();
    expect(again.code).toBe(0);
    expect(only(again.document).message).toMatch(/^an emergency replaced its keys .* ago; .*--key-version$/);
    expect(await b.authority.list("one")).toMatchObject([{ id: live?.id, status: "enabled" }]);
    expect((await b.run("run", "--wait")).code).toBe(0);
    expect((await emergency()).code).toBe(0);
    const left = await b.authority.list("one");
    expect(left.filter(({ status }) => status === "enabled").map(({ id }) => id)).not.toContain(live?.id);
  });

  test("ack takes the places that the document knows, too", async () => {
    await b.run("rotate", "one");
    b.policy(
      policyOf(b.authority.url).replace("      - { type: dotenv, path: one.env, fields: { API_KEY: apiKey } }\n", ""),
    );
    expect((await b.json("ack", "one", "--store", "one.env")).code).toBe(0);
    expect((await b.json("ack", "one", "--store", "dotenv")).code).toBe(0);
    expect((await b.json("ack", "one", "--store", "two.env")).code).toBe(2);
  });

  test("what is missing or wrong in a word is exit 2", async () => {
    await b.run("rotate", "one");
    const wrong = [
      ["hold", "one"],
      ["hold", "one", "--reason", "x", "--until", "yesterday"],
      ["ack", "one"],
      ["ack", "one", "--consumer", "ap"],
      ["ack", "one", "--store", "nowhere"],
      ["revoke", "one"],
      ["rotate"],
      ["emergency", "--yes"],
      ["emergency", "one", "--revoke-first", "--yes"],
      ["rotate", "one", "--wait-max", "5m"],
      ["run", "--lock-timeout", "soon"],
      ["release", "one"],
      ["show"],
      ["audit", "nobody"],
    ];
    for (const args of wrong) {
      const { code, document } = await b.json(...args);
      expect([args, code, document.error === null, document.secrets]).toEqual([args, 2, false, []]);
    }
  });

  test("a refused word stands in its own document, not in the state", async () => {
    await b.run("rotate", "one");
    const { code, document } = await b.json("rollback", "one");
    expect(code).toBe(3);
    expect(only(document)).toMatchObject({ outcome: "blocked", reason: "nothing-to-roll-back-to" });
    expect(only((await b.json("status", "one")).document)).toMatchObject({ outcome: "done", reason: "not-due" });
  });

  test("a pause of one, and a pause of everything", async () => {
    await b.run("rotate", "--all");
    b.policy(policyOf(b.authority.url, { every: "1ms" }));
    expect((await b.json("pause", "--reason", "freeze")).document.secrets).toEqual([]);
    const frozen = await b.json("run");
    expect(frozen.document.secrets.map((one: Json) => one.reason)).toEqual(["paused", "paused"]);
    expect((await b.run("status")).stdout).toContain("freeze");
    expect((await b.run("resume")).code).toBe(0);
    expect((await b.run("pause", "one", "--reason", "only this")).code).toBe(0);
    const run = await b.json("run");
    expect(run.document.secrets.map((one: Json) => one.phase)).toEqual(["idle", "overlap"]);
    expect(run.document.secrets[0].reason).toBe("paused");
  });

  test("selectors choose", async () => {
    const { document } = await b.json("rotate", "--tag", "two");
    expect(document.secrets.map((one: Json) => one.name)).toEqual(["two"]);
    expect((await b.run("status", "--tag", "nope")).code).toBe(2);
    expect((await b.run("status", "--store", "dotenv")).code).toBe(0);
  });
});

describe("check", () => {
  test("finds leaked keys that are not dead", async () => {
    await b.run("rotate", "one");
    await b.run("rotate", "one");
    await b.run("hold", "one", "--reason", "wait");
    const emergency = b.start("emergency", "one", "--yes", "--grace", "1h");
    const ended = new Promise((resolve) => emergency.once("close", resolve));
    while (!only((await b.json("status", "one")).document).versions.some((one: Json) => one.compromised));
    emergency.kill("SIGINT");
    await ended;
    const { code, document } = await b.json("check", "one");
    expect(code).toBe(5);
    expect(document.check.map((one: Json) => one.reason).slice(0, 2)).toEqual(["compromised", "compromised"]);
  });

  test("is silent when all is well, and names what is not", async () => {
    const fresh = await b.json("check");
    expect(fresh.code).toBe(5);
    expect(fresh.document.outcome).toBe("found");
    expect(fresh.document.check.map((one: Json) => [one.secret, one.reason])).toEqual([
      ["one", "unmanaged"],
      ["two", "unmanaged"],
    ]);
    await b.run("rotate", "--all");
    expect((await b.json("check")).code).toBe(0);
    const old = await b.json("check", "--max-age", "0s");
    expect(old.code).toBe(5);
    expect(old.document.check[0]).toMatchObject({ secret: "one", reason: "overdue" });
  });

  test("finds a secret that was taken out of the policy with its key alive", async () => {
    await b.run("rotate", "--all");
    b.policy(policyOf(b.authority.url).replace(/\n {2}two:[\s\S]*$/, "\n"));
    const { code, document } = await b.json("check");
    expect(code).toBe(5);
    expect(document.check).toMatchObject([{ secret: "two", reason: "not-in-policy" }]);
    const forgot = await b.json("forget", "two", "--yes");
    expect(forgot.code).toBe(0);
    expect(forgot.document.forget.leftAlive).toHaveLength(1);
    expect((await b.json("check")).code).toBe(0);
  });
});

test("a drifted store is seen by --refresh, and mended by --repair", async () => {
  await b.run("rotate", "one");
  rmSync(join(b.folder, "one.env"));
  expect((await b.json("status", "one")).document.secrets[0].outcome).toBe("done");
  const { code, document } = await b.json("rotate", "one", "--repair");
  expect([code, document.secrets[0].outcome]).toEqual([0, "waiting"]);
  expect((await b.authority.whoami(b.served())).status).toBe(200);
  expect((await b.json("status", "one", "--refresh")).code).toBe(0);
});

test("no command prints a value or a credential", async () => {
  b.policy(policyOf(b.authority.url, { minimum: "1s" }));
  const values: string[] = [];
  for (const args of [
    ["rotate", "one"],
    ["rotate", "one", "--wait"],
    ["rotate", "one"],
  ]) {
    await b.run(...args, "--verbose");
    values.push(b.served());
  }
  for (const verb of ["validate", "schema", "plan", "doctor", "status", "history", "audit", "check"])
    await b.run(verb, "--verbose", "--json");
  for (const args of [
    ["show", "one"],
    ["adopt", "one"],
    ["rollback", "one"],
    ["emergency", "one", "--yes"],
    ["forget", "one", "--yes"],
  ])
    await b.run(...args);
  values.push(b.served());
  expect(new Set(values).size).toBeGreaterThan(2);
  const printed = b.printed.join("\n");
  for (const secret of [...values, b.authority.adminToken, "AGE-SECRET-KEY"])
    expect(printed.includes(secret)).toBe(false);
});
