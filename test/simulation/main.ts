import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { SAFEGUARDS } from "../../src/core/safeguards.ts";
import type { Safeguard } from "../../src/core/safeguards.ts";
import { real } from "./real.ts";
import { seedOf } from "./random.ts";
import { runSchedule } from "./schedule.ts";
import type { Ending } from "./schedule.ts";

const USAGE = `usage: npm run simulate -- [--schedules N] [--seed S] [--jobs J] [--verbose] [--all] [--only SEED] [--off SAFEGUARD]`;

interface Tally {
  schedules: number;
  wakes: number;
  outcomes: Record<string, number>;
  failures: { seed: number; index: number; promise: string; text: string }[];
}

const { values } = parseArgs({
  options: {
    schedules: { type: "string" },
    seed: { type: "string" },
    jobs: { type: "string" },
    verbose: { type: "boolean" },
    only: { type: "string" },
    off: { type: "string" },
    share: { type: "string" },
    all: { type: "boolean" },
  },
});

const off = safeguards(values.off);
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9));
const schedules = Number(values.schedules ?? 5000);
if (values.only !== undefined) await replay(Number(values.only));
else if (values.share !== undefined) console.log(JSON.stringify(await share(values.share)));
else await lead(Number(values.jobs ?? availableParallelism()));

function safeguards(name: string | undefined): ReadonlySet<Safeguard> {
  if (name === undefined) return new Set();
  const found = SAFEGUARDS.find((s) => s === name);
  if (!found) {
    console.error(`${USAGE}\nsafeguards: ${SAFEGUARDS.join(" ")}`);
    process.exit(2);
  }
  return new Set([found]);
}

/** Part `k/n` of the schedules, in this process. */
async function share(part: string): Promise<Tally> {
  const [k, n] = part.split("/").map(Number) as [number, number];
  const tally: Tally = { schedules: 0, wakes: 0, outcomes: {}, failures: [] };
  for (let index = k; index < schedules; index += n) {
    const ending = await runSchedule(real, seedOf(seed, index), { off });
    tally.schedules++;
    tally.wakes += ending.wakes;
    const outcome = ending.violation ? `broken ${ending.violation.promise}` : ending.outcome;
    tally.outcomes[outcome] = (tally.outcomes[outcome] ?? 0) + 1;
    if (!ending.violation) continue;
    // What breaks with every safeguard on proves nothing about this one.
    if (off.size > 0 && (await runSchedule(real, ending.seed)).violation) continue;
    tally.failures.push({ seed: ending.seed, index, promise: ending.violation.promise, text: ending.violation.text });
    if (!values.all) break;
  }
  return tally;
}

async function lead(jobs: number): Promise<void> {
  const began = performance.now();
  const parts =
    jobs === 1
      ? [await share("0/1")]
      : await Promise.all(Array.from({ length: jobs }, (_, k) => worker(`${k}/${jobs}`)));
  const seconds = (performance.now() - began) / 1000;
  const count = parts.reduce((sum, p) => sum + p.schedules, 0);
  const wakes = parts.reduce((sum, p) => sum + p.wakes, 0);
  const failures = parts.flatMap((p) => p.failures).toSorted((a, b) => a.index - b.index);
  const outcomes = new Map<string, number>();
  for (const part of parts)
    for (const [name, n] of Object.entries(part.outcomes)) outcomes.set(name, (outcomes.get(name) ?? 0) + n);
  console.log(
    `seed ${seed}: ${count} schedules in ${seconds.toFixed(1)} s, ${(count / seconds).toFixed(0)} per second (${(count / seconds / jobs).toFixed(0)} per core), ${(wakes / count).toFixed(0)} events each`,
  );
  for (const [name, n] of [...outcomes].toSorted((a, b) => b[1] - a[1]))
    console.log(`  ${String(n).padStart(7)}  ${name}`);
  const [first] = failures;
  if (values.off !== undefined) {
    console.log(
      first
        ? `--off ${values.off}: killed after ${first.index + 1} schedules by ${first.promise}: ${first.text}`
        : `--off ${values.off}: SURVIVES ${count} schedules`,
    );
    if (first && values.verbose) await replay(first.seed);
    process.exitCode = first ? 0 : 1;
  } else if (first) {
    if (values.all)
      for (const f of failures.slice(0, 40)) console.log(`  ${f.seed}  ${f.promise}  ${f.text.split("\n")[0]}`);
    await replay(first.seed);
  }
}

/** A worker is this very program, told its part. */
function worker(part: string): Promise<Tally> {
  const args = [
    ...process.execArgv,
    process.argv[1] as string,
    "--seed",
    String(seed),
    "--schedules",
    String(schedules),
    "--share",
    part,
  ];
  if (values.off !== undefined) args.push("--off", values.off);
  if (values.all) args.push("--all");
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.on("exit", (code) =>
      code === 0 ? resolve(JSON.parse(out) as Tally) : reject(new Error(`a worker ended with ${code}`)),
    );
  });
}

async function replay(one: number): Promise<void> {
  const ending: Ending = await runSchedule(real, one, { off, tracing: true });
  const lines = values.verbose ? ending.trace : ending.trace.slice(-60);
  for (const line of lines) console.log(line);
  if (ending.violation) {
    console.log(
      `\nseed ${one}: ${ending.violation.promise} is broken at ${(ending.violation.at / 1000).toFixed(3)} s: ${ending.violation.text}`,
    );
    console.log(
      `again: npm run simulate -- --only ${one}${values.off === undefined ? "" : ` --off ${values.off}`} --verbose`,
    );
    process.exitCode = 1;
  } else console.log(`\nseed ${one}: ${ending.outcome}, ${ending.wakes} events, fingerprint ${ending.fingerprint}`);
}
