// Measures, prints and writes bench/RESULTS.md: node bin/ts.mjs bench/run.ts [--rounds N] [--runs N]
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { commits } from "./commits.ts";
import { latency, type LatencyRun } from "./latency.ts";
import { simulate } from "./simulate.ts";
import { startUp } from "./start-up.ts";

/** One line of the results. */
interface Line {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** null: nothing is promised, it is only watched. */
  readonly goal: { readonly at: "most" | "least"; readonly value: number } | null;
  readonly note: string;
}

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "15" }, runs: { type: "string", default: "5" } },
});
const files = { cli: resolve("dist/cli.js"), client: resolve("dist/demo-client.js") };
const most = (value: number) => ({ at: "most", value }) as const;
const least = (value: number) => ({ at: "least", value }) as const;

const runs: LatencyRun[] = [];
for (let run = 0; run < Number(values.runs); run += 1) {
  console.error(`latency during a rotation, run ${run + 1} of ${values.runs}`);
  runs.push(await latency(files));
}
const { documents } = runs[0] as LatencyRun;
const ratios = runs.map(({ ratio }) => ratio.toFixed(2)).join(", ");
const [before, during] = (["before", "during"] as const).map((when) => median(runs.map((run) => run[when].p99)));
const requests = runs.reduce((sum, run) => sum + run.before.requests + run.during.requests, 0);
const failed = runs.reduce((sum, run) => sum + run.failed, 0);

console.error("start-up");
const starts = await startUp(resolve("bin/keyturn.js"), Number(values.rounds), documents);
console.error("commits, simulation");
const size = `${(JSON.stringify(documents.overlapping).length / 1024).toFixed(1)} KiB`;
const lines: Line[] = [
  ...starts.map(({ name, ms, ratio, goal }) => ({
    what: `\`${name}\``,
    value: ratio,
    unit: "× `node -e 0`",
    goal: goal === null ? null : most(goal),
    note: `${ms.toFixed(0)} ms`,
  })),
  {
    what: "p99 latency of clients during a rotation",
    value: median(runs.map(({ ratio }) => ratio)),
    unit: "× before it",
    goal: most(1.2),
    note: `runs ${ratios}; ${before?.toFixed(1)} ms before, ${during?.toFixed(1)} ms during`,
  },
  { what: "failed requests meanwhile", value: failed, unit: `of ${requests}`, goal: most(0), note: "" },
  {
    what: "commits of the journal (sqlite)",
    value: await commits(documents.overlapping, 500),
    unit: "per second",
    goal: null,
    note: `a document of ${size}, each synced to disk`,
  },
  {
    what: "simulated schedules",
    value: simulate(400),
    unit: "per second and core",
    goal: least(100),
    note: "",
  },
];

const conditions = [
  new Date().toISOString().slice(0, 10),
  `node ${process.version}`,
  `${availableParallelism()} cores`,
  `load ${(loadavg()[0] as number).toFixed(1)} at the end`,
].join(", ");
const blockOf = (file: string): string =>
  /^```[^]*?^```/m.exec(readFileSync(resolve("bench", file), "utf8"))?.[0] ?? "none yet";
const text = `# Results of \`npm run bench\`

${conditions}.

Medians: start-up over ${values.rounds} rounds, latency over ${values.runs} runs of 6
processes with 60 requests a second each. One secret in ten is in its overlap where nothing else is said.

| what | measured | goal | | |
|---|---|---|---|---|
${lines.map(row).join("\n")}

The last long simulation (\`npm run bench:simulation\`; SIMULATION.md also has each safeguard switched off in turn):

${blockOf("SIMULATION.md")}

The last \`npm run stress\`: two processes and one secret, on each state that machines can share:

${blockOf("STRESS.md")}

The last measurement of AWS and Vault (\`npm run bench:aws\`, against moto and OpenBao):

${blockOf("AWS.md")}

The last measurement of workers (\`npm run bench:fleet\`, over PostgreSQL):

${blockOf("FLEET.md")}
`;
writeFileSync(resolve("bench/RESULTS.md"), text);
console.log(text);

function row({ what, value, unit, goal, note }: Line): string {
  const shown = value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(2);
  const bound = goal === null ? "" : `${goal.at === "most" ? "≤" : "≥"} ${goal.value}`;
  const met = goal === null || (goal.at === "most" ? value <= goal.value : value >= goal.value);
  return `| ${what} | ${shown} ${unit} | ${bound} | ${goal === null ? "" : met ? "ok" : "**over**"} | ${note} |`;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}
