// Bundles the command line and the two libraries into dist/.
import { readFileSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));

rmSync(`${root}dist`, { recursive: true, force: true });

await build({
  absWorkingDir: root,
  entryPoints: { cli: "src/cli.ts", client: "src/client/index.ts", "api-keys": "src/api-keys/index.ts" },
  outdir: "dist",
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20",
  mainFields: ["module", "main"],
  // One file to read instead of hundreds is what keeps start-up short. libsql brings a native part and stays outside.
  external: ["libsql"],
  define: { KEYTURN_VERSION: JSON.stringify(version) },
  // CommonJS packages inside the bundle still ask for node's own modules by `require`.
  banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "external",
  sourcemap: false,
  logLevel: "warning",
});
