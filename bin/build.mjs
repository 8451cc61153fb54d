// Bundles the command line and the two libraries into dist/.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));

const { outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: {
    cli: "src/cli.ts",
    client: "src/client/index.ts",
    "api-keys": "src/api-keys/index.ts",
    "demo-client": "src/demo/client.ts",
  },
  outdir: "dist",
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20",
  mainFields: ["module", "main"],
  // Few files to read instead of hundreds: a fifth of the start-up. Minifying gains nothing more and spoils stack traces.
  // libsql brings a native part and stays outside.
  external: ["libsql"],
  define: { KEYTURN_VERSION: JSON.stringify(version) },
  // CommonJS packages inside the bundle still ask for node's own modules by `require`.
  banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
  legalComments: "external",
  logLevel: "warning",
  write: false,
});

// Chunks are named after their contents, so old ones would pile up. A build that failed leaves the last one as it was.
rmSync(`${root}dist/chunks`, { recursive: true, force: true });
for (const { path, contents } of outputFiles) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, contents);
}
