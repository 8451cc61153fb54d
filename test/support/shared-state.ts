import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import type { TestAuthority } from "./authority.ts";
import type { CommandLine } from "./command-line.ts";
import { Lane } from "./lane.ts";
import { motoPython, REGION, startMoto, type Moto } from "./moto.ts";
import { baoProgram, startBao, type Bao } from "./openbao.ts";
import { postgresPrograms, startPostgres, type Postgres } from "./postgres.ts";

const hasPostgres = postgresPrograms() !== null;
const hasMoto = (await motoPython()) !== null;
const hasBao = (await baoProgram()) !== null;

let postgres: Postgres | undefined;
let bouncer = 0;
let moto: Moto | undefined;
let bao: Bao | undefined;
let made = 0;

/**
 * The servers behind {@link SHARED}, as far as this machine has them.
 *
 * @param auth whether moto holds callers to signatures and policies
 */
export async function startShared({ auth = false } = {}): Promise<void> {
  if (hasPostgres) {
    postgres = await startPostgres();
    bouncer = await postgres.bouncer();
  }
  if (hasMoto) moto = await startMoto({ auth });
  if (hasBao) bao = await startBao();
}

export async function stopShared(): Promise<void> {
  await postgres?.stop();
  await moto?.stop();
  await bao?.stop();
}

/** For tests that are about credentials; those that are not there are not asked for. */
export function servers() {
  return { postgres: postgres as Postgres, moto: moto as Moto, bao: bao as Bao, bucket };
}

/** A bucket of its own. @returns its name */
async function bucket(): Promise<string> {
  const { url, env } = moto as Moto;
  const Bucket = `shared-${++made}`;
  const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } = env;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint: url, region: REGION, credentials, forcePathStyle: true });
  const CreateBucketConfiguration = { LocationConstraint: REGION } as const;
  await client.send(new CreateBucketCommand({ Bucket, CreateBucketConfiguration }));
  client.destroy();
  return Bucket;
}

export interface Place {
  /** As `--state` takes it. */
  readonly url: string;
  /** What a process needs to reach it. */
  readonly env: Readonly<Record<string, string>>;
}

/** A kind of state that several machines share; `make` gives one of its own, empty. */
export interface Shared {
  readonly name: string;
  readonly there: boolean;
  readonly make: () => Promise<Place>;
}

export const SHARED: readonly Shared[] = [
  {
    name: "postgres",
    there: hasPostgres,
    make: async () => {
      const server = postgres as Postgres;
      return { url: server.url({ database: await server.database() }), env: {} };
    },
  },
  {
    name: "postgres behind PgBouncer",
    there: hasPostgres,
    make: async () => {
      const server = postgres as Postgres;
      return { url: server.url({ database: await server.database(), port: bouncer }), env: {} };
    },
  },
  {
    name: "s3",
    there: hasMoto,
    make: async () => {
      return { url: `s3://${await bucket()}`, env: (moto as Moto).env };
    },
  },
  {
    name: "vault-kv",
    there: hasBao,
    make: async () => {
      const { address, rootToken } = bao as Bao;
      return { url: `vault-kv:shared-${++made}`, env: { VAULT_ADDR: address, VAULT_TOKEN: rootToken } };
    },
  },
];

let lanes = 0;

/** A lane whose state is in a place of its own of that kind. */
export async function laneOn({ make }: Shared, authority: TestAuthority, commands: CommandLine): Promise<Lane> {
  const lane = await Lane.open(`shared-${++lanes}`, authority, commands, 500);
  const { url, env } = await make();
  Object.assign(lane.place.env, env, { STATE_URL: url });
  lane.write({ state: 'url: "${env:STATE_URL}"' });
  return lane;
}
