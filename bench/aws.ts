// Measures against moto and OpenBao, prints and writes bench/AWS.md: node bin/ts.mjs bench/aws.ts
import { writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../test/simulation/random.ts";
import { CommandLine, type Ended } from "../test/support/command-line.ts";
import { Fleet } from "../test/support/fleet.ts";
import { startMoto, type Moto } from "../test/support/moto.ts";
import { startBao, type Bao } from "../test/support/openbao.ts";
import { inTrouble } from "../test/support/trouble.ts";
import { TwoStores } from "../test/support/two-stores.ts";

const SECRETS = 100;
const USERS = 50;
const DUE_AFTER = 30_000;
/** Calls a second that Secrets Manager takes of these together, in one region of one account. */
const WRITES = { actions: ["PutSecretValue", "UpdateSecretVersionStage"], quota: 50 };

const [moto, bao] = await Promise.all([startMoto({ auth: true }), startBao()]);
const commands = new CommandLine();
try {
  console.error("one rotation");
  const calls = told(await oneRotation(moto, bao));
  console.error(`${SECRETS} secrets in one run`);
  const many = told(await manySecrets(moto));
  console.error(`an emergency over ${USERS} users`);
  const emergency = told(await anEmergency(moto));
  const conditions = `${new Date().toISOString().slice(0, 10)}, node ${process.version}, ${availableParallelism()} cores, load ${(loadavg()[0] as number).toFixed(1)}; moto and OpenBao on the same machine`;
  const text = `# AWS and Vault

Written by \`npm run bench:aws\`: ${conditions}. Delays and quiet times are set to nothing, so that the work is all there is.

\`\`\`
${[...calls, "", ...many, "", ...emergency].join("\n")}
\`\`\`
`;
  writeFileSync(resolve("bench/AWS.md"), text);
  console.log(text);
} finally {
  commands.remove();
  await Promise.all([moto.stop(), bao.stop()]);
}

/** Calls by API, of a rotation of an IAM user's key into Secrets Manager and Vault, from begin to deleted old key. */
async function oneRotation(aws: Moto, vault: Bao): Promise<string[]> {
  const made = await TwoStores.open("bench", aws, vault, commands);
  try {
    done(await made.aws.run("rotate", "one", "--wait"));
    made.aws.wire.reset();
    made.vaultWire.reset();
    done(await made.aws.run("rotate", "one", "--wait"));
    const counts = new Map<string, number>();
    const count = (api: string): void => void counts.set(api, (counts.get(api) ?? 0) + 1);
    for (const { action } of made.aws.wire.calls) count(action);
    for (const { action } of made.vaultWire.calls) count(vaultApi(action, made));
    const total = made.aws.wire.calls.length + made.vaultWire.calls.length;
    return [`one rotation, IAM user to Secrets Manager and Vault KV: ${total} calls`, ...listed(counts)];
  } finally {
    await made.close();
  }
}

function vaultApi(action: string, { path }: TwoStores): string {
  return action.replace("/v1/", "").replace(path, "PATH");
}

async function manySecrets(aws: Moto): Promise<string[]> {
  const fleet = await Fleet.of(SECRETS, aws, { lease: "15s" });
  try {
    done(await commands.run(fleet.place, "rotate", "--all", "--wait"));
    // Long enough that none is due a second time before the run has ended.
    fleet.place.policy(fleet.place.read().replace("every: 30d", `every: ${DUE_AFTER}ms, spread: 0s`));
    await sleep(DUE_AFTER);
    fleet.wire.reset();
    const began = performance.now();
    done(await commands.run(fleet.place, "run", "--wait", "--wait-max", "1m"));
    const seconds = (performance.now() - began) / 1000;
    const counts = fleet.calls();
    const writes = WRITES.actions.reduce((sum, action) => sum + (counts.get(action) ?? 0), 0);
    const rotated = counts.get("CreateAccessKey") ?? 0;
    const floor = writes / WRITES.quota / SECRETS;
    return [
      `${rotated} of ${SECRETS} secrets rotated in one run: ${seconds.toFixed(1)} s, ${(seconds / SECRETS).toFixed(3)} s a secret`,
      `  the floor that quotas allow: ${floor.toFixed(3)} s a secret (${writes / SECRETS} writes each to Secrets Manager, ${WRITES.quota} a second)`,
      ...listed(counts),
    ];
  } finally {
    await fleet.close();
  }
}

/** Every tag `prod`, a proxy that answers 429 and 500 here and there, a kill half-way, and the rest. */
async function anEmergency(aws: Moto): Promise<string[]> {
  const fleet = await Fleet.of(USERS, aws, { prefix: "leaked" });
  try {
    done(await commands.run(fleet.place, "rotate", "--all", "--wait"));
    const leaked = await fleet.allKeys();
    fleet.consume();
    const trouble = inTrouble(fleet.wire, new Random(1));
    const began = performance.now();
    const since = (): string => `${((performance.now() - began) / 1000).toFixed(1)} s`;
    const emergency = ["emergency", "--tag", "prod", "--yes"];
    const first = commands.start(fleet.place, emergency);
    await trouble.until(() => trouble.deleted.length >= USERS / 2);
    first.child.kill("SIGKILL");
    await first.ended;
    const half = since();
    await commands.run(fleet.place, ...emergency);
    const dead = since();
    done(await commands.run(fleet.place, "run", "--tag", "prod", "--wait", "--wait-max", "2m"));
    const left = (await fleet.allKeys()).filter((key) => leaked.includes(key));
    return [
      `an emergency over ${USERS} users, default grace: killed after ${half}, typed again, every leaked key dead after ${dead}, deleted after ${since()}`,
      `  ${left.length} leaked keys left, ${trouble.created.size} keys made (the answers to ${trouble.untold.length} were lost), ${fleet.refusals.length} of ${fleet.reads} reads refused; ${trouble.told()}`,
    ];
  } finally {
    await fleet.close();
  }
}

/** As soon as it is known, for the whole takes minutes. */
function told(lines: string[]): string[] {
  console.error(lines.join("\n"));
  return lines;
}

function listed(counts: ReadonlyMap<string, number>): string[] {
  return [...counts].toSorted(([, a], [, b]) => b - a).map(([api, count]) => `${String(count).padStart(6)} ${api}`);
}

function done({ code, stderr }: Ended): void {
  if (code !== 0) throw new Error(stderr.replace(/^warning.*\n/gm, ""));
}
