import { readFileSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, Place, type Ended } from "../support/command-line.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { startWire } from "../support/wire.ts";

const there = await baoProgram();
const SIBLINGS = { url: "https://pay.example.com", retries: 3 };

/** What keyturn itself may do, and no more: DESIGN's least policy for a path, and an AppRole's. */
const policyFor = (role: string, path: string): string => `
path "secret/data/${path}" { capabilities = ["create", "read", "update"] }
path "secret/metadata/${path}" { capabilities = ["read"] }
path "secret/data/keyturn/payments/*" { capabilities = ["create", "read"] }
path "secret/metadata/keyturn/payments/*" { capabilities = ["delete"] }
path "auth/approle/role/${role}" { capabilities = ["read"] }
path "auth/approle/role/${role}/role-id" { capabilities = ["read"] }
path "auth/approle/role/${role}/secret-id" { capabilities = ["list", "update"] }
path "auth/approle/role/${role}/secret-id-accessor/lookup" { capabilities = ["update"] }
path "auth/approle/role/${role}/secret-id/lookup" { capabilities = ["update"] }
path "auth/approle/role/${role}/secret-id-accessor/destroy" { capabilities = ["update"] }
`;

describe.runIf(there)("secret ids of an AppRole, delivered to Vault and a .env file", () => {
  let bao: Bao;
  let commands: CommandLine;
  const open: (() => Promise<void>)[] = [];
  let opened = 0;
  beforeAll(async () => {
    bao = await startBao();
    commands = new CommandLine();
    await bao.must("POST", "sys/auth/approle", { type: "approle" });
  });
  afterAll(async () => {
    for (const close of open) await close();
    await bao?.stop();
    commands?.remove();
  });

  /** One role with a stranger's secret id, a path with siblings, and a consumer who logs in with what it reads there. */
  async function lane() {
    const role = `app-${++opened}`;
    const path = `team-${opened}/payments`;
    await bao.must("POST", `auth/approle/role/${role}`, { token_ttl: "1m", token_policies: ["default"] });
    const stranger = await bao.must("POST", `auth/approle/role/${role}/secret-id`, {});
    await bao.must("POST", `secret/data/${path}`, { data: SIBLINGS });
    const own = `keyturn-${opened}`;
    await bao.must("PUT", `sys/policies/acl/${own}`, { policy: policyFor(role, path) });
    await bao.must("POST", `auth/approle/role/${own}`, { token_ttl: "20m", token_policies: [own] });
    const { role_id: roleId } = await bao.must("GET", `auth/approle/role/${own}/role-id`);
    const { secret_id: secretId } = await bao.must("POST", `auth/approle/role/${own}/secret-id`, {});
    const wire = await startWire(() => bao.address);
    const place = new Place({ VAULT_ADDR: wire.url, OWN_SECRET_ID: secretId, DEBUG: "*" });
    const auth = `{ method: approle, roleId: "${roleId}", secretId: "\${env:OWN_SECRET_ID}" }`;
    place.policy(`version: 1
state: { type: sqlite, path: .keyturn/state.db, lease: 4s }
defaults:
  verify: { successes: 2, spread: 0s, deadline: 5s }
  overlap: { minimum: 300ms, quiet: 0s, maximum: 1d }
  soak: { for: 0s }
  retry: { attempts: 5, backoff: 100ms }
stores:
  vault: { type: vault-kv, auth: ${auth}, timing: { propagation: 0s, settle: 0s } }
secrets:
  payments:
    issuer: { type: vault-approle, role: ${role}, auth: ${auth}, timing: { listSettle: 0s, propagation: 0s, settle: 0s } }
    stores:
      - { use: vault, path: ${path}, fields: { role_id: roleId, secret_id: secretId } }
      - { type: dotenv, path: app.env, fields: { SECRET_ID: secretId } }
    usage: none
    consumers: [{ name: app, required: true }]
`);
    const run = (...args: string[]): Promise<Ended> => commands.run(place, ...args);
    const served = async () => (await bao.must("GET", `secret/data/${path}`)).data;
    const logIn = async (id: string): Promise<number> => {
      const { role_id } = await bao.must("GET", `auth/approle/role/${role}/role-id`);
      return (await bao.api("POST", "auth/approle/login", { role_id, secret_id: id })).status;
    };
    const failures: number[] = [];
    const end = new AbortController();
    const consumer = (async () => {
      while (!end.signal.aborted) {
        const { secret_id: read } = await served();
        const status = read === undefined ? 200 : await logIn(read);
        if (status !== 200 && (await served()).secret_id === read) failures.push(status);
        await sleep(30);
      }
    })();
    open.push(async () => {
      end.abort();
      await consumer;
      await wire.close();
      place.remove();
    });
    return {
      role,
      stranger: stranger.secret_id_accessor as string,
      wire,
      place,
      run,
      start: (...args: string[]) => commands.start(place, args),
      json: (...args: string[]) => commands.json(place, ...args),
      served,
      logIn,
      failures,
      accessors: async () => (await bao.must("LIST", `auth/approle/role/${role}/secret-id`)).keys as string[],
      staged: async () => (await bao.api("LIST", "secret/metadata/keyturn/payments")).body?.data?.keys ?? [],
      dotenv: () => {
        const file = place.path("app.env");
        if (!statSync(file, { throwIfNoEntry: false })) return null;
        return /^SECRET_ID=['"]?([^'"\n]+)/m.exec(readFileSync(file, "utf8"))?.[1] ?? null;
      },
    };
  }

  function sane({ code, stderr }: Ended, wanted: number): void {
    expect(code, stderr).toBe(wanted);
    expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
  }

  test("from policy to deleted old secret id: nobody fails, neighbours and strangers stay", async () => {
    const one = await lane();
    sane(await one.run("doctor", "payments"), 0);
    expect(await one.accessors()).toEqual([one.stranger]);
    sane(await one.run("rotate", "payments", "--wait"), 0);
    const first = await one.served();
    expect(first).toMatchObject(SIBLINGS);
    expect(one.dotenv()).toBe(first.secret_id);
    expect(await one.logIn(first.secret_id)).toBe(200);

    sane(await one.run("rotate", "payments", "--verbose"), 0);
    const second = await one.served();
    expect(second.secret_id).not.toBe(first.secret_id);
    expect(one.dotenv()).toBe(second.secret_id);
    await sleep(800);
    const waiting = await one.json("run");
    expect(waiting.document.secrets[0]).toMatchObject({ outcome: "waiting", reason: "not-adopted" });
    expect(await one.logIn(first.secret_id)).toBe(200);

    sane(await one.run("ack", "payments", "--consumer", "app"), 0);
    const done = await one.json("run", "--wait", "--wait-max", "20s");
    expect(done.document.secrets[0]).toMatchObject({ outcome: "done", phase: "idle", debt: [] });
    expect(await one.logIn(first.secret_id)).toBe(400);
    expect(await one.logIn(second.secret_id)).toBe(200);
    const { current } = done.document.secrets[0];
    expect((await one.accessors()).toSorted()).toEqual([one.stranger, current.keyId].toSorted());
    expect(await one.staged()).toEqual([current.version]);
    expect(await one.served()).toEqual({ ...SIBLINGS, role_id: second.role_id, secret_id: second.secret_id });
    const bytes = one.place.stateBytes();
    const printed = commands.printed.join("");
    for (const value of [first.secret_id, second.secret_id, one.place.env["OWN_SECRET_ID"] ?? ""])
      expect([bytes.includes(value), printed.includes(value)]).toEqual([false, false]);
    // Tokens of OpenBao.
    expect(printed).not.toMatch(/\bs\.[A-Za-z0-9]{24}/);
    expect(one.failures).toEqual([]);
  });

  test("killed when a secret id was issued and nobody was told: the next run finds it by its version, and one lives", async () => {
    const one = await lane();
    sane(await one.run("rotate", "payments", "--wait"), 0);
    const [old] = (await one.accessors()).filter((accessor) => accessor !== one.stranger);
    const issues = `POST /v1/auth/approle/role/${one.role}/secret-id`;
    const running = one.start("rotate", "payments");
    one.wire.answer = (call, answer) => {
      if (call.action !== issues) return answer;
      running.child.kill("SIGKILL");
      return "hang";
    };
    expect((await running.ended).signal).toBe("SIGKILL");
    const orphan = (await one.accessors()).find((accessor) => accessor !== one.stranger && accessor !== old) ?? "";
    expect(orphan).not.toBe("");
    one.wire.reset();

    const most: number[] = [];
    const count = setInterval(
      () =>
        void one.accessors().then(
          (found) => most.push(found.length),
          () => {},
        ),
      20,
    );
    for (const began = Date.now(); Date.now() - began < 25_000; await sleep(200)) {
      const { document } = await one.json("run", "--wait", "--wait-max", "5s");
      const [secret] = document.secrets;
      if (secret.phase === "overlap") sane(await one.run("ack", "payments", "--consumer", "app"), 0);
      if (secret.outcome === "done") break;
    }
    clearInterval(count);
    const { document } = await one.json("status", "payments");
    const [secret] = document.secrets;
    expect(secret).toMatchObject({ phase: "idle", debt: [] });
    expect([old, orphan]).not.toContain(secret.current.keyId);
    expect((await one.accessors()).toSorted()).toEqual([one.stranger, secret.current.keyId].toSorted());
    // Never more than the old one, one new one and the stranger's.
    expect(Math.max(...most)).toBe(3);
    const mints = one.wire.calls.filter(({ action }) => action === issues);
    expect(mints).toHaveLength(1);
    const { secret_id: served } = await one.served();
    expect(await one.logIn(served)).toBe(200);
    expect(one.dotenv()).toBe(served);
    expect(one.failures).toEqual([]);
  });

  test("a permission of the last step that is missing blocks before anything is minted", async () => {
    const one = await lane();
    const name = `keyturn-${opened}`;
    const whole = policyFor(one.role, `team-${opened}/payments`);
    await bao.must("PUT", `sys/policies/acl/${name}`, { policy: whole.replace(/^.*accessor\/destroy.*$/m, "") });
    const { code, document } = await one.json("rotate", "payments");
    expect([code, document.secrets[0].reason]).toEqual([3, "permission-missing"]);
    expect(document.secrets[0].message).toContain(`auth/approle/role/${one.role}/secret-id-accessor/destroy`);
    expect(one.wire.calls.filter(({ action }) => /^POST .*(secret-id|v1\/secret\/.*)$/.test(action))).toEqual([]);
    await bao.must("PUT", `sys/policies/acl/${name}`, { policy: whole });
    sane(await one.run("rotate", "payments", "--wait"), 0);
  });
});
