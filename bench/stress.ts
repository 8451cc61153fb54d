// Races on every backend of shared state, written to bench/STRESS.md: node bin/ts.mjs bench/stress.ts [REPETITIONS]
import { writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { resolve } from "node:path";
import { startTestAuthority } from "../test/support/authority.ts";
import { CommandLine } from "../test/support/command-line.ts";
import type { Lane } from "../test/support/lane.ts";
import { outslept, together, type Contest } from "../test/support/races.ts";
import { laneOn, SHARED, startShared, stopShared, type Shared } from "../test/support/shared-state.ts";

interface Line {
  readonly what: string;
  readonly contests: readonly Contest[];
}

const repetitions = Number(process.argv[2] ?? 50);
const authority = await startTestAuthority();
const commands = new CommandLine();
try {
  await startShared();
  // Backends side by side in time; of each one contest after the other.
  const lines = (await Promise.all(SHARED.filter(({ there }) => there).map(contestsOn))).flat();
  const wrong = lines.flatMap(({ what, contests }) =>
    contests.flatMap((one) => one.wrong.map((why) => `${what}: ${why}`)),
  );
  const conditions = `${new Date().toISOString().slice(0, 10)}, node ${process.version}, ${availableParallelism()} cores, load ${(loadavg()[0] as number).toFixed(1)}; servers on the same machine`;
  const text = `# Two processes, one secret

Written by \`npm run stress\`: ${conditions}.

\`together\`: two rotations started at once. \`outslept\`: one is stopped (SIGSTOP) in a call past its lease of 1 s, another
takes over and ends the job, and the first is woken. Where the stopped one alone was told a new key's value, that key is
lost and replaced, so two are minted.

\`\`\`
${table(lines)}
\`\`\`
`;
  writeFileSync(resolve("bench/STRESS.md"), text);
  console.log(text);
  for (const one of wrong) console.error(one);
  if (wrong.length > 0) process.exitCode = 1;
} finally {
  commands.remove();
  await authority.close();
  await stopShared();
}

async function contestsOn(backend: Shared): Promise<Line[]> {
  const lane = await laneOn(backend, authority, commands);
  try {
    return [
      { what: `${backend.name}, together`, contests: await repeated(lane, together) },
      { what: `${backend.name}, outslept`, contests: await repeated(lane, outslept) },
    ];
  } finally {
    await lane.close();
    console.error(`${backend.name}: done`);
  }
}

async function repeated(lane: Lane, contest: (lane: Lane, nth: number) => Promise<Contest>): Promise<Contest[]> {
  const found: Contest[] = [];
  // What cannot even be played to its end is wrong, and no reason to leave out the others.
  const failed = (error: unknown): Contest => ({ minted: 0, refused: 0, wrong: [String(error)] });
  for (let nth = 0; nth < repetitions; nth++) found.push(await contest(lane, nth).catch(failed));
  return found;
}

function table(lines: readonly Line[]): string {
  const width = Math.max(...lines.map(({ what }) => what.length));
  const sum = (numbers: readonly number[]): string => String(numbers.reduce((a, b) => a + b, 0)).padStart(11);
  return [
    `${"".padEnd(width)}${["repetitions", "minted", "exits 4", "wrong"].map((head) => head.padStart(12)).join("")}`,
    ...lines.map(({ what, contests }) => {
      const columns = [
        contests.map(() => 1),
        contests.map(({ minted }) => minted),
        contests.map(({ refused }) => refused),
        contests.map(({ wrong }) => wrong.length),
      ];
      return `${what.padEnd(width)}${columns.map((column) => ` ${sum(column)}`).join("")}`;
    }),
  ].join("\n");
}
