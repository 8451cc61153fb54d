// Workers over PostgreSQL, prints and writes bench/FLEET.md: node bin/ts.mjs bench/fleet.ts [--chaos N] [--size N]
import { writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { startTestAuthority } from "../test/support/authority.ts";
import { CommandLine, type Place } from "../test/support/command-line.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { SHARED, startShared, stopShared } from "../test/support/shared-state.ts";
import { onceIn, WorkerFleet, type Worker } from "../test/support/workers.ts";

const { values } = parseArgs({
  options: { chaos: { type: "string", default: "500" }, size: { type: "string", default: "10000" } },
});
const [chaos, size] = [Number(values.chaos), Number(values.size)];
const A_WHILE = 30 * 60_000;
const KILLS = 6;
const WORKER = ["--sweep", "15s", "--concurrency", "16"];

const authority = await startTestAuthority();
const commands = new CommandLine();
const postgres = await startPostgres();
try {
  console.error(`${chaos} secrets, two workers, killed and their server restarted`);
  const killed = said(await underFire());
  console.error(`${size} secrets, one worker`);
  const one = await workedOff(1);
  said([told(one)]);
  console.error(`${size} secrets, two workers`);
  const two = await workedOff(2);
  said([told(two)]);
  console.error("nothing due");
  const nothing = await nothingDue(two.fleet);
  const ratio = (two.rate / one.rate).toFixed(2);
  const conditions = `${new Date().toISOString().slice(0, 10)}, node ${process.version}, ${availableParallelism()} cores, load ${(loadavg()[0] as number).toFixed(1)}; PostgreSQL and the API-key authority on the same machine`;
  const lines = [
    ...killed,
    "",
    `${size} first keys, each issued, tried and delivered to one store:`,
    `  one worker   ${told(one)}`,
    `  two workers  ${told(two)}, ${ratio} × one`,
    "",
    `a run over ${size} secrets with nothing due:`,
    ...nothing,
  ];
  const text = `# Workers

Written by \`npm run bench:fleet\`: ${conditions}. Delays and quiet times are set to nothing, so that the work is all there is.

\`\`\`
${lines.join("\n")}
\`\`\`
`;
  writeFileSync(resolve("bench/FLEET.md"), text);
  console.log(text);
  await Promise.all([one.fleet.close(), two.fleet.close()]);
} finally {
  commands.remove();
  await authority.close();
  await postgres.stop();
}

/** First keys, then a rotation of all that falls due in one moment; workers die at random all the time. */
async function underFire(): Promise<string[]> {
  const fleet = await WorkerFleet.of(chaos, "chaos", authority, commands, postgres);
  try {
    const lines: string[] = [];
    fleet.policy("every: 1h");
    await Promise.all([fleet.start(...WORKER, "--sweep", "2s"), fleet.start(...WORKER, "--sweep", "2s")]);
    for (const round of [1, 2]) {
      const began = performance.now();
      let [kills, restarts] = [0, 0];
      while ((await ended(fleet)) < round * chaos) {
        if (performance.now() - began > A_WHILE) throw new Error(`not done: ${chaos * round - (await ended(fleet))}`);
        await sleep(1500);
        if (kills === KILLS) continue;
        kills += 1;
        const workers = [...fleet.workers];
        await fleet.end(workers[Math.floor(Math.random() * workers.length)] as Worker, "SIGKILL");
        if (kills === KILLS / 2) {
          restarts += 1;
          await postgres.restart();
        }
        await fleet.start(...WORKER, "--sweep", "2s");
      }
      const seconds = ((performance.now() - began) / 1000).toFixed(0);
      const current = await fleet.allDone(new Map(), 60_000);
      const faults = await fleet.faults(current);
      lines.push(
        `${chaos} ${round === 1 ? "first keys" : "rotations due at once"} on two workers: ${seconds} s, ${kills} × SIGKILL, ${restarts} restart of PostgreSQL`,
        `  ${current.size} done, ${faults.length} without exactly one living key that is served`,
        ...faults.slice(0, 5).map((fault) => `  ${fault}`),
      );
      if (round === 2) continue;
      fleet.policy(onceIn(5));
      for (const { running } of fleet.workers) running.child.kill("SIGHUP");
      await sleep(5000);
    }
    return lines;
  } finally {
    await fleet.close();
  }
}

interface Worked {
  readonly fleet: WorkerFleet;
  readonly seconds: number;
  /** A second. */
  readonly rate: number;
}

async function workedOff(workers: number): Promise<Worked> {
  const fleet = await WorkerFleet.of(size, `many-${workers}`, authority, commands, postgres, "[{ type: local }]");
  fleet.policy("every: 90d");
  const began = performance.now();
  await Promise.all(Array.from({ length: workers }, () => fleet.start(...WORKER)));
  while ((await ended(fleet)) < size) {
    if (performance.now() - began > A_WHILE) throw new Error(`not done: ${size - (await ended(fleet))}`);
    await sleep(500);
  }
  const seconds = (performance.now() - began) / 1000;
  await Promise.all([...fleet.workers].map((worker) => fleet.end(worker, "SIGTERM")));
  return { fleet, seconds, rate: size / seconds };
}

/** At once as well: all of it takes a while. */
function said(lines: string[]): string[] {
  console.error(lines.join("\n"));
  return lines;
}

function told({ seconds, rate }: Worked): string {
  return `${seconds.toFixed(0)} s, ${rate.toFixed(1)} a second`;
}

/** Rotations that have ended, as the audit log has them. */
async function ended(fleet: WorkerFleet): Promise<number> {
  const rows = await fleet
    .sql("SELECT count(*)::int AS n FROM keyturn.keyturn_audit WHERE type = 'done'")
    .catch(() => [{ n: 0 }]);
  return rows[0]?.["n"] as number;
}

/** The same documents in each backend, without their audit log, which no run reads. */
async function nothingDue({ place }: WorkerFleet): Promise<string[]> {
  // Delays as published: each override costs a warning, and thirty thousand warnings cost more than the run.
  place.policy(place.read().replaceAll(/\n +timing: \{ settle: 0s \}|, granularity: 0s, lag: 0s/g, ""));
  const lines = said([await timed("postgres", place)]);
  const exported = await commands.run(place, "state", "export");
  const file = place.path("export.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(exported.stdout), audit: [] }));
  await startShared();
  try {
    const places = [{ name: "sqlite", url: `sqlite:${place.path("many.db")}`, env: {} }];
    for (const { name, there, make } of SHARED)
      if (there && !name.startsWith("postgres")) places.push({ name, ...(await make()) });
    for (const { name, url, env } of places) {
      Object.assign(place.env, env);
      const filled = await commands.run(place, "state", "import", file, "--state", url, "--yes", "--quiet");
      if (filled.code !== 0) throw new Error(`${name} could not be filled: ${filled.stderr}`);
      lines.push(...said([await timed(name, place, "--state", url)]));
    }
  } finally {
    await stopShared();
  }
  return lines;
}

async function timed(name: string, place: Place, ...args: string[]): Promise<string> {
  const seconds: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    const began = performance.now();
    const { code, stderr } = await commands.run(place, "run", "--quiet", ...args);
    if (code !== 0)
      return `  ${name.padEnd(9)} exit ${code}: ${stderr.split("\n").find((line) => /keyturn:/.test(line))}`;
    seconds.push((performance.now() - began) / 1000);
  }
  return `  ${name.padEnd(9)} ${(seconds.toSorted((a, b) => a - b)[1] as number).toFixed(1)} s`;
}
