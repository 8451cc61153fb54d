import { AssumeRoleCommand, STSClient } from "@aws-sdk/client-sts";
import { CreateRoleCommand, IAMClient, PutRolePolicyCommand } from "@aws-sdk/client-iam";
import { readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Random } from "../simulation/random.ts";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, Place, policyText, type Ended } from "../support/command-line.ts";
import { startProxy, type Proxy } from "../support/proxy.ts";
import { machine } from "../support/machine.ts";
import { ACCOUNT, REGION } from "../support/moto.ts";
import { servers, SHARED, startShared, stopShared } from "../support/shared-state.ts";

/** Of each backend, at least. */
const KILLS = 12;

const seed = Number(process.env["KEYTURN_SEED"] ?? Date.now() % 1_000_000);
let authority: TestAuthority;
let commands: CommandLine;
let opened = 0;

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
  await startShared({ auth: true });
}, 120_000);
afterAll(async () => {
  await authority?.close();
  commands?.remove();
  await stopShared();
});

/** What one job is given: where the state is, and credentials that no other job has. */
interface Pass {
  readonly state: string;
  readonly env: Readonly<Record<string, string>>;
  /** Once the job has ended: nobody gets in with them any more. */
  readonly revoke: () => Promise<unknown>;
}
type Passes = () => Promise<Pass>;

const PASSES: Readonly<Record<string, (name: string) => Promise<Passes>>> = {
  s3: async (name) => {
    const { moto, bucket } = servers();
    const state = `s3://${await bucket()}`;
    const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = moto.env;
    const client = {
      endpoint: moto.url,
      region: REGION,
      maxAttempts: 1,
      credentials: { accessKeyId, secretAccessKey },
    };
    const iam = new IAMClient(client);
    const allow = (...Action: string[]) =>
      JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action, Resource: "*" }] });
    await iam.send(new CreateRoleCommand({ RoleName: name, AssumeRolePolicyDocument: allow("sts:AssumeRole") }));
    const PolicyDocument = allow("s3:GetObject", "s3:PutObject", "s3:ListBucket");
    await iam.send(new PutRolePolicyCommand({ RoleName: name, PolicyName: "state", PolicyDocument }));
    let session = 0;
    return async () => {
      const role = { RoleArn: `arn:aws:iam::${ACCOUNT}:role/${name}`, RoleSessionName: `job-${++session}` };
      const { Credentials: made } = await new STSClient(client).send(
        new AssumeRoleCommand({ ...role, DurationSeconds: 900 }),
      );
      const env = {
        ...moto.env,
        AWS_ACCESS_KEY_ID: made?.AccessKeyId ?? "",
        AWS_SECRET_ACCESS_KEY: made?.SecretAccessKey ?? "",
        AWS_SESSION_TOKEN: made?.SessionToken ?? "",
      };
      // Sessions end by themselves.
      return { state, env, revoke: async () => undefined };
    };
  },
  postgres: async (name) => {
    const { postgres } = servers();
    const database = await postgres.database();
    const owner = `owner_${name.replace("-", "_")}`;
    await postgres.sql(database, `CREATE ROLE ${owner}; GRANT CREATE ON DATABASE ${database} TO ${owner}`);
    let job = 0;
    return async () => {
      const user = `${owner}_job_${++job}`;
      await postgres.sql(
        database,
        `CREATE ROLE ${user} LOGIN PASSWORD 'pass-${job}' IN ROLE ${owner}; ALTER ROLE ${user} SET role = '${owner}'`,
      );
      const revoke = () => postgres.sql(database, `ALTER ROLE ${user} NOLOGIN`);
      return { state: postgres.url({ database, user, password: `pass-${job}` }), env: {}, revoke };
    };
  },
  "vault-kv": async (name) => async () => ({
    state: `vault-kv:state-${name}`,
    env: {},
    revoke: async () => undefined,
  }),
};

/** What a job's token may do in Vault, as the store's and the state's pages have it. */
const policyOf = (name: string): string => `
path "secret/data/team/${name}" { capabilities = ["create", "read", "update"] }
path "secret/metadata/team/${name}" { capabilities = ["read"] }
path "secret/data/staged-${name}/one/*" { capabilities = ["create", "read"] }
path "secret/metadata/staged-${name}/one/*" { capabilities = ["delete"] }
path "secret/data/state-${name}/*" { capabilities = ["create", "read", "update"] }
path "secret/metadata/state-${name}/secrets/*" { capabilities = ["create", "update"] }
path "secret/metadata/state-${name}/*" { capabilities = ["list"] }
path "secret/metadata/state-${name}/secrets" { capabilities = ["list"] }
`;

interface Job {
  readonly ended: Ended;
  /** Keys that the authority issued to it. */
  readonly minted: number;
}

/** One secret, whose value is in Vault alone, and jobs that come with nothing but the policy and leave nothing behind. */
class Journey {
  /** Moments at which Vault served, before and after, a key that was refused in between. */
  readonly outages: string[] = [];
  /** What jobs wrote to their disks. */
  readonly leftovers: string[] = [];
  /** Keys whose value nobody has: whoever was told it was killed before it was kept. */
  lost = 0;
  kills = 0;
  jobs = 0;
  readonly #end = new AbortController();
  readonly #watch: Promise<void>;

  private constructor(
    readonly name: string,
    readonly stranger: string,
    readonly proxy: Proxy,
    private readonly passes: Passes,
  ) {
    this.#watch = this.#consume();
  }

  static async begin(backend: string): Promise<Journey> {
    const name = `journey-${++opened}`;
    await authority.addClient(name, { maxKeys: 5 });
    const { id } = await authority.addKey(name, { label: "somebody else's" });
    const passes = await (PASSES[backend] as (typeof PASSES)[string])(name);
    return new Journey(name, id, await startProxy(() => authority.url), passes);
  }

  /** @param after ms until it is killed, if it still runs then; null: never */
  async job(args: readonly string[], after: number | null = null): Promise<Job> {
    const { bao } = servers();
    const pass = await this.passes();
    const token = await bao.tokenFor(policyOf(this.name), { ttl: "15m" });
    const place = new Place({ ADMIN: authority.adminToken, VAULT_ADDR: bao.address, VAULT_TOKEN: token, ...pass.env });
    place.env["STATE_URL"] = pass.state;
    const stores = `[{ type: vault-kv, path: team/${this.name}, staging: staged-${this.name}, timing: { propagation: 0s, settle: 0s } }]`;
    const secret = { name: "one", client: this.name, maxKeys: 5, stores };
    place.policy(policyText(this.proxy.url, [secret], { minimum: "1s", soak: "1s", state: 'url: "${env:STATE_URL}"' }));
    const [issued, staged] = [this.proxy.issued.size, await this.staged()];
    const running = commands.start(place, args, { prefix: machine(`job-${++this.jobs}`) });
    const timer = after === null ? undefined : setTimeout(() => running.child.kill("SIGKILL"), after);
    const ended = await running.ended;
    clearTimeout(timer);
    if (ended.signal === "SIGKILL") {
      this.kills++;
      // What it had sent arrives.
      await sleep(100);
    }
    const minted = this.proxy.issued.size - issued;
    const kept = (await this.staged()).filter((version) => !staged.includes(version)).length;
    if (ended.signal === "SIGKILL") this.lost += Math.max(0, minted - kept);
    this.leftovers.push(...readdirSync(place.folder).filter((file) => file !== "rotation.config.yaml"));
    await Promise.all([pass.revoke(), bao.must("POST", "auth/token/revoke", { token })]);
    place.remove();
    return { ended, minted };
  }

  /** The versions that wait, or are served, in Vault. */
  async staged(): Promise<string[]> {
    return (await servers().bao.api("LIST", `secret/metadata/staged-${this.name}/one`)).body?.data?.keys ?? [];
  }

  async served(): Promise<string | null> {
    return (await servers().bao.api("GET", `secret/data/team/${this.name}`)).body?.data?.data?.apiKey ?? null;
  }

  async #consume(): Promise<void> {
    while (!this.#end.signal.aborted) {
      const value = await this.served();
      if (value !== null) {
        const { status } = await authority.whoami(value, "app");
        if (status !== 200 && (await this.served()) === value) this.outages.push(`served, and answered ${status}`);
      }
      await sleep(200);
    }
  }

  async close(): Promise<void> {
    this.#end.abort();
    await this.#watch;
    await this.proxy.close();
  }
}

function sane({ code, stderr }: Ended): void {
  expect([0, 4], stderr).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}

/** One rotation, by as many jobs as it takes. */
async function rotation(journey: Journey, fate: () => number | null): Promise<void> {
  let begun = false;
  for (const until = Date.now() + 60_000; Date.now() < until;) {
    // Once a key is minted a scheduler's ordinary runs do the rest.
    const { ended, minted } = await journey.job([begun ? "run" : "rotate", "one", "--json"], fate());
    begun ||= minted > 0;
    if (ended.signal !== null) continue;
    sane(ended);
    const [secret] = JSON.parse(ended.stdout).secrets;
    if (begun && secret.outcome === "done" && secret.phase === "idle") return;
  }
  throw new Error("it was not done in a minute");
}

describe.concurrent("jobs that begin with an empty disk and credentials of their own", { timeout: 150_000 }, () => {
  test.each(SHARED.filter(({ name, there }) => there && name in PASSES))(
    `killed at random, with their state in $name (seed ${seed})`,
    async ({ name: backend }) => {
      const random = new Random(seed);
      const journey = await Journey.begin(backend);
      try {
        const began = performance.now();
        sane((await journey.job(["rotate", "one"])).ended);
        const lifetime = performance.now() - began;
        await rotation(journey, () => null);
        let rotations = 0;
        for (; journey.kills < KILLS; rotations++) {
          const before = { lost: journey.lost, minted: journey.proxy.issued.size };
          await rotation(journey, () => (journey.kills < KILLS ? lifetime * random.next() : null));
          // A value that died with its process cannot be delivered: its key is deleted, and another takes its place.
          expect(journey.proxy.issued.size - before.minted).toBe(1 + journey.lost - before.lost);
        }
        const { ended } = await journey.job(["status", "one", "--json"]);
        const [secret] = JSON.parse(ended.stdout).secrets;
        expect(secret).toMatchObject({ phase: "idle", debt: [] });
        const keys = await authority.list(journey.name);
        expect(keys.map(({ id, status }) => [id, status]).toSorted()).toEqual(
          [
            [journey.stranger, "enabled"],
            [secret.current.keyId, "enabled"],
          ].toSorted(),
        );
        expect(await authority.whoami((await journey.served()) ?? "")).toMatchObject({
          status: 200,
          body: { keyId: secret.current.keyId },
        });
        expect(await journey.staged()).toEqual([secret.current.version]);
        expect([journey.outages, journey.leftovers]).toEqual([[], []]);
        const everything = (await journey.job(["state", "export"])).ended.stdout;
        expect(everything).toContain(secret.current.keyId);
        const told = [everything, ...commands.printed].join("\n");
        expect([...journey.proxy.issued].filter((value) => told.includes(value))).toEqual([]);
        console.log(
          `${backend}: ${rotations} rotations by ${journey.jobs} jobs, ${journey.kills} killed, ${journey.lost} values lost`,
        );
      } finally {
        await journey.close();
      }
    },
  );
});
