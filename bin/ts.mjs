// Runs one TypeScript file of the tests or benchmarks: node bin/ts.mjs FILE [ARGUMENT…]
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node bin/ts.mjs FILE [ARGUMENT…]");
  process.exit(2);
}

const root = fileURLToPath(new URL("..", import.meta.url));
// Inside node_modules, so that packages, which stay outside the bundle, are found from there.
mkdirSync(`${root}node_modules/.cache`, { recursive: true });
const folder = mkdtempSync(`${root}node_modules/.cache/keyturn-`);
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** Each file goes on knowing where it lies: some stand beside what they start. */
const ownUrls = {
  name: "own-urls",
  setup: ({ onLoad }) =>
    onLoad({ filter: /\.ts$/ }, ({ path }) => {
      const url = JSON.stringify(pathToFileURL(path).href);
      return { contents: readFileSync(path, "utf8").replaceAll("import.meta.url", url), loader: "ts" };
    }),
};

const outfile = `${folder}/main.mjs`;
await build({
  entryPoints: [file],
  outfile,
  bundle: true,
  packages: "external",
  format: "esm",
  platform: "node",
  target: "node20",
  sourcemap: "inline",
  logLevel: "warning",
  plugins: [ownUrls],
});

const child = spawn(process.execPath, ["--enable-source-maps", outfile, ...args], { stdio: "inherit" });
// The terminal has told the child already; this process only stays to clean up after it.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code) => process.exit(code ?? 1));
