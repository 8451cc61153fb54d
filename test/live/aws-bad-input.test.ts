import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { motoPython, REGION, startMoto, type Moto } from "../support/moto.ts";
import { awsError } from "../support/moto-lane.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { TwoStores } from "../support/two-stores.ts";
import type { WireAnswer, WireCall } from "../support/wire.ts";

const there = (await motoPython()) !== null && (await baoProgram()) !== null;
interface Case {
  /** Makes a policy, or what it stands on, bad. */
  readonly spoil: (made: TwoStores, servers: Servers) => unknown;
  readonly code: typeof UNREACHED | typeof MISTAKEN | typeof BLOCKED;
  /** The one line that says what failed. */
  readonly says: RegExp;
  readonly hint: RegExp;
}
interface Servers {
  /** With a certificate that nobody here trusts. */
  readonly secure: Bao;
  readonly sealed: Bao;
}

/** Nobody answered, or nobody let us in: the same command may succeed without a word of a person's changing. */
const UNREACHED = 1;
/** The policy contradicts itself; nobody was asked. */
const MISTAKEN = 2;
/** Preflight was answered, and what it found needs a person. */
const BLOCKED = 3;
/** The line is about the policy's text, and says what is wrong there: a hint may stand below. */
const ITSELF = /^/;
const SIGN_IN = /sign in again/;

const CASES: Readonly<Record<string, Case>> = {
  "no credentials for AWS": {
    spoil: (made) => env(made, { AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "" }),
    code: UNREACHED,
    says: /failed: AWS: no usable credentials$/,
    hint: /aws sso login/,
  },
  "an expired session": {
    spoil: ({ aws }) => (aws.wire.instead = (call) => awsSays(call, "ExpiredToken")),
    code: UNREACHED,
    says: /failed: sts:GetCallerIdentity: ExpiredToken \(403\)$/,
    hint: SIGN_IN,
  },
  "a region without the secret": {
    spoil: (made) => made.policy({ stores: manager(made.name, "us-west-2") }),
    code: BLOCKED,
    says: /blocked: there is no secret prod\/\S+ in us-west-2$/,
    hint: /check the region/,
  },
  "a region that does not exist": {
    spoil: (made) => {
      const endpoint = "http://secretsmanager.eu-nowhere-1.invalid";
      made.policy({ stores: manager(made.name, "eu-nowhere-1", `, endpoint: "${endpoint}"`) });
    },
    code: UNREACHED,
    says: /failed: POST http:\/\/secretsmanager\.eu-nowhere-1\.invalid: no such host$/,
    hint: /is there a region eu-nowhere-1/,
  },
  "no name of a region": {
    spoil: (made) => made.policy({ stores: manager(made.name, "europe") }),
    code: MISTAKEN,
    says: /rotation\.config\.yaml:\d+:\d+: .*region: is no region such as eu-west-1$/,
    hint: ITSELF,
  },
  "throttling that goes on": {
    spoil: ({ aws }) => (aws.wire.instead = (call) => awsSays(call, "Throttling")),
    code: UNREACHED,
    says: /failed: sts:GetCallerIdentity: Throttling \(400\)$/,
    hint: /no more of these calls for now/,
  },
  "a certificate for AWS that is not trusted": {
    spoil: (made, { secure }) => env(made, { AWS_ENDPOINT_URL: secure.address }),
    code: UNREACHED,
    says: /failed: POST https:\S+: its certificate is not trusted \([A-Z_]+\)$/,
    hint: /AWS_CA_BUNDLE/,
  },
  "a certificate of Vault that is not trusted": {
    spoil: (made, { secure }) => env(made, { VAULT_ADDR: secure.address, VAULT_TOKEN: secure.rootToken }),
    code: UNREACHED,
    says: /failed: GET https:\S+: its certificate is not trusted \([A-Z_]+\)$/,
    hint: /VAULT_CACERT/,
  },
  "a proxy that refuses": {
    spoil: (made) => {
      const refusing = "http://127.0.0.1:1";
      env(made, { HTTPS_PROXY: refusing, HTTP_PROXY: refusing, AWS_ENDPOINT_URL: "https://aws.invalid" });
    },
    code: UNREACHED,
    says: /failed: POST https:\/\/aws\.invalid: the proxy cannot be reached \(ECONNREFUSED\)$/,
    hint: /HTTPS_PROXY.*NO_PROXY/,
  },
  "no token for Vault": {
    spoil: (made) => env(made, { VAULT_TOKEN: "" }),
    code: UNREACHED,
    says: /failed: no token for Vault: neither VAULT_TOKEN nor ~\/\.vault-token$/,
    hint: /vault login/,
  },
  "a token that Vault refuses": {
    spoil: (made) => env(made, { VAULT_TOKEN: "s.refused" }),
    code: UNREACHED,
    says: /failed: Vault refuses the token: expired, revoked, or without the default policy$/,
    hint: /vault token lookup/,
  },
  "a Vault that is down": {
    spoil: (made) => env(made, { VAULT_ADDR: "http://127.0.0.1:1" }),
    code: UNREACHED,
    says: /failed: GET http:\/\/127\.0\.0\.1:1: connection refused$/,
    hint: /VAULT_ADDR/,
  },
  "a Vault that is sealed": {
    spoil: (made, { sealed }) => env(made, { VAULT_ADDR: sealed.address, VAULT_TOKEN: sealed.rootToken }),
    code: UNREACHED,
    says: /failed: asking for the cluster: Vault is sealed, or no node is active$/,
    hint: /vault operator unseal/,
  },
  "a standby of another cluster": {
    spoil: (made) => (made.vaultWire.instead = () => ({ status: 473, body: '{"errors":[]}' })),
    code: UNREACHED,
    says: /failed: asking for the mount secret: this is a standby of another cluster$/,
    hint: /primary cluster/,
  },
  "a namespace that is not there": {
    spoil: (made) => env(made, { VAULT_NAMESPACE: "nowhere" }),
    code: BLOCKED,
    says: /blocked: asking for the mount secret: there is no namespace nowhere$/,
    hint: /VAULT_NAMESPACE/,
  },
  "a user that is not there": {
    spoil: (made) => made.aws.place.policy(made.aws.place.read().replace(/user: \S+,/, "user: nobody-of-ours,")),
    code: BLOCKED,
    says: /blocked: the account has no IAM user nobody-of-ours$/,
    hint: /check `user`/,
  },
  "a secret that is not there": {
    spoil: (made) => made.policy({ stores: manager("prod/nothing-there", REGION) }),
    code: BLOCKED,
    says: /blocked: there is no secret prod\/nothing-there in eu-west-1$/,
    hint: /create: true/,
  },
  "a mount that is not there": {
    spoil: (made) => made.policy({ stores: "[{ type: vault-kv, mount: nowhere, path: a/b }]" }),
    code: BLOCKED,
    says: /blocked: there is no mount nowhere\/ that the token may use$/,
    hint: /check `mount:`/,
  },
  "two secrets that write one field of a store": {
    spoil: (made) => twice(made, "somebody-else", made.name),
    code: MISTAKEN,
    says: /rotation\.config\.yaml:\d+:\d+: secrets\.two\.stores\[0\]: writes the same field .* as secrets\.one\.stores\[0\]$/,
    hint: ITSELF,
  },
  "one user in two secrets": {
    spoil: (made) => twice(made, made.aws.user, "prod/elsewhere"),
    code: MISTAKEN,
    says: /rotation\.config\.yaml:\d+:\d+: secrets\.two\.issuer: is the same owner as that of one: /,
    hint: ITSELF,
  },
};

describe.runIf(there).concurrent("a rotation over AWS and Vault that cannot be", { timeout: 120_000 }, () => {
  let moto: Moto;
  let bao: Bao;
  let servers: Servers;
  let commands: CommandLine;
  const open: TwoStores[] = [];
  let users = 0;
  beforeAll(async () => {
    const [secure, sealed] = await Promise.all([startBao({ tls: true }), startBao()]);
    [moto, bao] = await Promise.all([startMoto({ auth: true }), startBao()]);
    await sealed.must("PUT", "sys/seal");
    servers = { secure, sealed };
    commands = new CommandLine();
  });
  afterAll(async () => {
    await Promise.all(open.map((lane) => lane.close()));
    await Promise.all([moto, bao, servers?.secure, servers?.sealed].map((server) => server?.stop()));
    commands?.remove();
  });

  const lane = async (): Promise<TwoStores> => {
    const made = await TwoStores.open(`bad-${++users}`, moto, bao, commands);
    open.push(made);
    return made;
  };
  /** What there is of keys and values, anybody's. */
  const world = async (made: TwoStores) => [await made.aws.keys(), await made.theirs(), await made.labels()];

  // First, so that the others pass meanwhile.
  test("throttled for a minute: it is waited out, and one key is made", async () => {
    const made = await lane();
    made.policy({ verify: "{ successes: 1, spread: 0s, deadline: 3m }" });
    const until = Date.now() + 60_000;
    const throttled: number[] = [];
    made.aws.wire.instead = (call) => {
      if (Date.now() >= until) return null;
      throttled.push(Date.now());
      return awsSays(call, "Throttling");
    };
    const { code, stderr, stdout } = await made.aws.run("rotate", "one", "--verbose");
    expect(code, stderr + stdout).toBe(0);
    expect(Date.now()).toBeGreaterThan(until);
    expect(stderr).toMatch(/sts eu-west-1: throttled, now [\d.]+ calls a second/);
    expect(stderr).toMatch(/ one issuing: sts:GetCallerIdentity: Throttling \(400\)\n/);
    // Asked again every few seconds, also by those who wait but shortly; at full speed it would be hundreds.
    expect(throttled.length).toBeGreaterThan(10);
    expect(throttled.length).toBeLessThan(150);
    expect(made.aws.mutations()).toEqual(["CreateAccessKey"]);
    expect(Object.keys(await made.aws.keys())).toEqual([(await made.keyInManager())?.id]);
  });

  test.each(Object.keys(CASES))("%s: one line, a hint, nothing minted", async (name) => {
    const { spoil, code, says, hint } = CASES[name] as Case;
    const made = await lane();
    const before = await world(made);
    await spoil(made, servers);
    const ended = await made.aws.run("rotate", "one");
    refused(ended, code, says, hint);
    expect(made.aws.mutations()).toEqual([]);
    made.aws.wire.reset();
    expect(await world(made)).toEqual(before);
  });

  test("a session that expires in the overlap: nothing is revoked, and with a new one it goes on", async () => {
    const made = await lane();
    sane(await made.aws.run("rotate", "one", "--wait"));
    made.policy({ minimum: "1h" });
    sane(await made.aws.run("rotate", "one"));
    made.policy();
    const before = await world(made);
    expect(Object.keys(await made.aws.keys())).toHaveLength(2);
    made.aws.wire.reset();
    made.watch();
    made.aws.wire.instead = (call) => awsSays(call, "ExpiredToken");
    const failed = /failed: .*iam:ListAccessKeys: ExpiredToken \(403\)/;
    refused(await made.aws.run("run", "one", "--wait", "--wait-max", "3s"), UNREACHED, failed, SIGN_IN);
    expect(await world(made)).toEqual(before);
    made.aws.wire.reset();
    sane(await made.aws.run("run", "one", "--wait"));
    expect(await made.faults()).toEqual([]);
  });

  test("a token of Vault's that cannot be renewed: told beforehand; ended in the overlap, nothing is revoked", async () => {
    const made = await lane();
    made.aws.place.env["VAULT_TOKEN"] = await bao.tokenFor(
      'path "secret/*" { capabilities = ["create", "read", "update", "delete", "list"] }',
      { ttl: "10m", renewable: false },
    );
    const doctor = await made.aws.run("doctor", "one");
    sane(doctor);
    expect(doctor.stdout).toMatch(
      /warning +store vault-kv: .*our token for Vault ends in 10 min and cannot be renewed/,
    );
    sane(await made.aws.run("rotate", "one", "--wait"));
    made.policy({ minimum: "1h" });
    sane(await made.aws.run("rotate", "one"));
    made.policy();
    made.watch();
    await bao.must("POST", "auth/token/revoke", { token: made.aws.place.env["VAULT_TOKEN"] });
    made.aws.wire.reset();
    const gone = await made.aws.run("run", "one", "--wait", "--wait-max", "3s");
    refused(gone, UNREACHED, /failed: Vault refuses the token: expired, revoked/, /vault login/);
    expect(made.aws.mutations()).toEqual([]);
    made.aws.place.env["VAULT_TOKEN"] = bao.rootToken;
    sane(await made.aws.run("run", "one", "--wait"));
    expect(await made.faults()).toEqual([]);
  });

  test("another namespace than the policy expects: nothing is minted", async () => {
    const made = await lane();
    await bao.must("POST", `sys/namespaces/${made.aws.user}`, {});
    await bao.must(
      "POST",
      "sys/mounts/secret",
      { type: "kv", options: { version: "2" } },
      { namespace: made.aws.user },
    );
    made.policy({ stores: `[{ type: vault-kv, path: ${made.path}, expect: { namespace: payments } }]` });
    made.aws.place.env["VAULT_NAMESPACE"] = made.aws.user;
    const wrong = new RegExp(`blocked: the namespace of Vault is ${made.aws.user}, the policy expects payments$`);
    refused(await made.aws.run("rotate", "one"), BLOCKED, wrong, /VAULT_NAMESPACE/);
    expect(await made.aws.keys()).toEqual({});
  });
});

function awsSays({ action }: WireCall, code: string): WireAnswer {
  if (!/Secret/.test(action)) return awsError(code === "Throttling" ? 400 : 403, code);
  const body = JSON.stringify({ __type: `${code}Exception`, message: "no" });
  return { status: 400, body, headers: { "content-type": "application/x-amz-json-1.1" } };
}

function env(made: TwoStores, more: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(more)) {
    if (value === "") delete made.aws.place.env[name];
    else made.aws.place.env[name] = value;
  }
}

function manager(name: string, region: string, more = ""): string {
  return `[{ type: aws-secrets-manager, region: ${region}, name: ${name}${more} }]`;
}

/** A second secret `two` in the policy. */
function twice(made: TwoStores, user: string, name: string): void {
  const issuer = `{ type: aws-iam, user: ${user}, expect: { account: "123456789012" } }`;
  made.aws.place.policy(
    `${made.aws.place.read()}  two:\n    issuer: ${issuer}\n    stores: ${manager(name, REGION)}\n`,
  );
}

function sane({ code, stdout, stderr }: Ended): void {
  expect(code, stderr + stdout).toBe(0);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}

function refused({ code, stdout, stderr }: Ended, wanted: number, says: RegExp, hint: RegExp): void {
  expect(code, stderr + stdout).toBe(wanted);
  const lines = stderr.split("\n").filter((line) => line.startsWith("keyturn: "));
  expect(lines).toEqual([expect.stringMatching(says)]);
  const hints = stderr.split("\n").flatMap((line) => (line.startsWith("hint: ") ? [line.slice(6)] : []));
  expect(hints.length).toBeLessThanOrEqual(1);
  expect(hints.join("")).toMatch(hint);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}
