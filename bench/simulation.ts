import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SAFEGUARDS } from "../src/core/safeguards.ts";

const root = process.cwd();
const run = promisify(execFile);

/** One call of the simulation; its output whatever its exit code, which only says whether something was found. */
async function simulate(...args: readonly string[]): Promise<string> {
  const command = ["bin/ts.mjs", "test/simulation/main.ts", ...args];
  try {
    return (await run(process.execPath, command, { cwd: root, maxBuffer: 1 << 28 })).stdout;
  } catch (error) {
    return (error as { readonly stdout?: string }).stdout ?? "";
  }
}

const [schedules = "100000", seed = String(Math.floor(Math.random() * 1e9)), most = "20000"] = process.argv.slice(2);
const base = await simulate("--schedules", schedules, "--seed", seed, "--all");
const head = base.split("\n").filter((line) => /per second|^ +\d+ {2}(done|blocked|broken)|^ +\d+ {2}P\d/.test(line));
const rows: string[] = [];
for (const name of Number(most) > 0 ? SAFEGUARDS : []) {
  const last = (await simulate("--schedules", most, "--seed", seed, "--off", name)).trim().split("\n").at(-1) ?? "";
  rows.push(
    `| \`${name}\` | ${last
      .replace(/^--off [^:]+: /, "")
      .replaceAll("|", "/")
      .slice(0, 160)} |`,
  );
  process.stderr.write(`${name}: ${last}\n`);
}

const file = fileURLToPath(new URL(`file://${root}/bench/SIMULATION.md`));
await writeFile(
  file,
  `# The simulation

Written by \`npm run bench:simulation\` on ${new Date().toISOString().slice(0, 10)}: Node ${process.version}, ${cpus().length} cores. The seed replays it exactly.

\`\`\`
${head.join("\n")}
\`\`\`

Each safeguard switched off in turn (up to ${most} schedules; a kill counts only where the same schedule holds with every safeguard on):

| safeguard off | what the simulation found |
| --- | --- |
${rows.join("\n")}
`,
);
process.stdout.write(`${file}\n`);
