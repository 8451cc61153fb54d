import { cpus } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { startUp } from "./start-up.ts";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "15" }, json: { type: "boolean", default: false } },
});

const results = {
  node: process.version,
  cpus: cpus().length,
  startUp: startUp(resolve("bin/keyturn.js"), Number(values.rounds)),
};

if (values.json) {
  console.log(JSON.stringify(results, null, 2));
} else {
  console.log(`node ${results.node}, ${results.cpus} CPUs, ${values.rounds} rounds; ratios to \`node -e 0\``);
  for (const { name, ms, ratio, goal } of results.startUp) {
    const verdict = ratio <= goal ? "" : "  OVER";
    console.log(
      `${name.padEnd(24)} ${ms.toFixed(0).padStart(6)} ms ${ratio.toFixed(2).padStart(7)}  goal ${goal}${verdict}`,
    );
  }
}
