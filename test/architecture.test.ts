import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const LONGEST_FILE = 400;

const CORE = "src/core/";
const PORTS = "src/ports/";
const CLI = "src/cli.ts";
const REGISTRY = "src/adapters/registry.ts";
/** The files beside the registry are what adapters share; folders hold one provider a file. */
const SHARED = /^src\/adapters\/(?!registry\.)[^/]+$/;
const ANY_PACKAGE = "*";

/** A file, a folder that ends in `/`, `node:`, or what a pattern matches. */
type Place = string | RegExp;

/** What the files of a folder may import: files and folders of the tree, `node:`, packages. The first that fits holds. */
const LAYERS: readonly { readonly of: string; readonly may: readonly Place[]; readonly butNot?: readonly Place[] }[] = [
  { of: CORE, may: [CORE] },
  { of: "src/ports/adapter.ts", may: [CORE, PORTS, "zod"] },
  { of: PORTS, may: [CORE, PORTS] },
  { of: "src/engine/", may: [CORE, PORTS, "src/engine/", "node:"] },
  { of: REGISTRY, may: [CORE, PORTS] },
  { of: "src/adapters/", may: [CORE, PORTS, SHARED, "node:", ANY_PACKAGE] },
  { of: "src/config/", may: [CORE, PORTS, REGISTRY, "src/config/", "node:", ANY_PACKAGE] },
  { of: "src/api-keys/", may: [CORE, "src/api-keys/", "node:", "libsql", "zod"] },
  { of: "src/client/", may: ["src/client/", "node:", "age-encryption"] },
  { of: "src/ui/", may: [CORE, PORTS, "src/ui/", "node:", ANY_PACKAGE] },
  { of: "src/wire.ts", may: ["src/", "node:", ANY_PACKAGE], butNot: ["src/commands/", CLI] },
  { of: CLI, may: ["src/", "node:", ANY_PACKAGE], butNot: ["src/adapters/"] },
  { of: "src/", may: ["src/", "node:", ANY_PACKAGE], butNot: ["src/adapters/", CLI] },
];

/** Words that only some files may use. */
const WORDS: readonly { readonly word: RegExp; readonly name: string; readonly in: readonly string[] }[] = [
  { word: /(?<![.\w])process\.exit\(/, name: "process.exit", in: [CLI] },
  { word: /(?<![.\w])process\.env\b/, name: "process.env", in: [CLI] },
  { word: /\.reveal\(/, name: ".reveal()", in: ["src/adapters/", "src/client/"] },
];

interface Import {
  /** A path from the root, `node:…` or a package. */
  readonly target: string;
  readonly lazy: boolean;
}

const STATEMENT = /^(?:import|export)\s+(?:[\w$*{},\s]+?\s+from\s+)?"([^"\n]+)"/gm;
const LAZY = /\bimport\(\s*(?:"([^"\n]+)"\s*\))?/g;

/** The imports of a file; an import that this scanner cannot read is an error, so that none goes unseen. */
function importsOf(file: string, code: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: string, lazy: boolean) => {
    const target = specifier.startsWith(".") ? posix.join(posix.dirname(file), specifier) : specifier;
    found.push({ target, lazy });
  };
  for (const [, specifier] of code.matchAll(STATEMENT)) add(specifier as string, false);
  const statements = code.match(/^import\b(?!\()/gm)?.length ?? 0;
  const reexports = code.match(/^export\s+(?:type\s+)?(?:\*|\{[^}]*\}\s*from)/gm)?.length ?? 0;
  if (found.length !== statements + reexports) add("<an import that cannot be read>", false);
  for (const [, specifier] of code.matchAll(LAZY)) add(specifier ?? "<a computed import>", true);
  return found;
}

/** Comments on lines of their own are no code. */
function withoutComments(text: string): string {
  return text.replace(/^\s*(?:\/\/.*|\/\*[\s\S]*?\*\/)\s*$/gm, "");
}

function within(path: string, place: Place): boolean {
  if (place instanceof RegExp) return place.test(path);
  return place.endsWith("/") || place.endsWith(":") ? path.startsWith(place) : path === place;
}

/** `sqlite.ts` and `sqlite-migrations.ts` are one family. */
function isFamily(file: string, target: string): boolean {
  const [short = "", long = ""] = [file, target].map((path) => path.replace(/\.ts$/, "")).toSorted();
  return posix.dirname(short) !== "src/adapters" && long.startsWith(`${short}-`);
}

function isAllowed(file: string, { target, lazy }: Import): boolean {
  if (target.startsWith("<")) return false;
  if (file === REGISTRY && lazy) return target.startsWith("src/adapters/");
  if (file.startsWith("src/adapters/") && isFamily(file, target)) return true;
  const layer = LAYERS.find(({ of }) => within(file, of));
  if (layer === undefined || layer.butNot?.some((place) => within(target, place))) return false;
  const isPackage = !target.startsWith("src/") && !target.startsWith("node:") && !target.startsWith("..");
  return layer.may.some((place) => (place === ANY_PACKAGE ? isPackage : within(target, place)));
}

/** One line for each rule that a file of `root`/src breaks. */
function violations(root: string): string[] {
  const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  return files.toSorted().flatMap((name) => {
    const file = `src/${name}`;
    const text = readFileSync(join(root, file), "utf8");
    const code = withoutComments(text);
    const length = text.trimEnd().split("\n").length;
    return [
      ...importsOf(file, code)
        .filter((found) => !isAllowed(file, found))
        .map(({ target }) => `${file} must not import ${target}`),
      ...WORDS.filter(({ word, in: places }) => word.test(code) && !places.some((place) => within(file, place))).map(
        ({ name: word }) => `${file} must not use ${word}`,
      ),
      ...(length > LONGEST_FILE ? [`${file} has ${length} lines, more than ${LONGEST_FILE}`] : []),
    ];
  });
}

test("every file keeps to its layer", () => {
  expect(violations(ROOT)).toEqual([]);
});

/** Files that break a rule, each with what is reported of it; null: nothing. */
const PLANTED: readonly (readonly [file: string, code: string, reported: string | null])[] = [
  ["src/core/a.ts", 'import { x } from "./b.ts";', null],
  ["src/core/b.ts", 'import { hash } from "node:crypto";', "must not import node:crypto"],
  ["src/core/c.ts", 'import type { Store } from "../ports/store.ts";', "must not import src/ports/store.ts"],
  ["src/core/d.ts", 'export * from "../engine/run.ts";', "must not import src/engine/run.ts"],
  ["src/ports/adapter.ts", 'import * as z from "zod";', null],
  ["src/ports/store.ts", 'import * as z from "zod";', "must not import zod"],
  [
    "src/engine/a.ts",
    'import {\n  a,\n  type B,\n} from "../adapters/http.ts";',
    "must not import src/adapters/http.ts",
  ],
  ["src/engine/b.ts", 'const x = await import("../wire.ts");', "must not import src/wire.ts"],
  ["src/engine/c.ts", 'import { a as b } from "zod"; // why not', "must not import zod"],
  ["src/engine/d.ts", "// import nothing\n/** import(\n * process.exit(1) */\nexport const a = 1;", null],
  ["src/engine/e.ts", "export const b = value.reveal();", "must not use .reveal()"],
  ["src/adapters/hooks.ts", 'import { spawn } from "node:child_process";\nvalue.reveal();', null],
  ["src/adapters/stores/one.ts", 'import { b } from "./two.ts";', "must not import src/adapters/stores/two.ts"],
  ["src/adapters/stores/two.ts", 'import { h } from "../http.ts";\nimport "./two-parts.ts";', null],
  ["src/adapters/stores/two-parts.ts", 'import lib, { type X } from "lib";\nimport { b } from "./two.ts";', null],
  ["src/adapters/state/s.ts", 'import { c } from "../../config/load.ts";', "must not import src/config/load.ts"],
  ["src/adapters/state/t.ts", "export const home = process.env.HOME;", "must not use process.env"],
  [REGISTRY, 'const lazy = () => import("./stores/one.ts");\nexport type { Store } from "../ports/store.ts";', null],
  ["src/adapters/http.ts", 'import { a } from "./registry.ts";', "must not import src/adapters/registry.ts"],
  [
    "src/config/load.ts",
    'import { a } from "../adapters/stores/one.ts";',
    "must not import src/adapters/stores/one.ts",
  ],
  ["src/config/any.ts", "export const any = import(name);", "must not import <a computed import>"],
  ["src/config/odd.ts", "import x from 'zod';", "must not import <an import that cannot be read>"],
  ["src/commands/run.ts", 'import { wire } from "../wire.ts";\nimport c from "commander";', null],
  ["src/commands/plan.ts", 'import { a } from "../adapters/http.ts";', "must not import src/adapters/http.ts"],
  ["src/commands/end.ts", "process.exit(0);", "must not use process.exit"],
  ["src/client/index.ts", 'import { S } from "../core/secret-value.ts";', "must not import src/core/secret-value.ts"],
  ["src/wire.ts", 'import { run } from "./commands/run.ts";', "must not import src/commands/run.ts"],
  [CLI, 'import { run } from "./commands/run.ts";\nprocess.exit(run(process.env));', null],
  ["src/ui/long.ts", "\n".repeat(LONGEST_FILE) + "export {};", "has 401 lines, more than 400"],
];

test("a file that breaks a rule is reported, and no other", () => {
  const root = mkdtempSync(join(tmpdir(), "keyturn-architecture-"));
  try {
    for (const [file, code] of PLANTED) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), `${code}\n`);
    }
    const expected = PLANTED.filter(([, , reported]) => reported !== null).map(
      ([file, , reported]) => `${file} ${reported}`,
    );
    expect(violations(root).toSorted()).toEqual(expected.toSorted());
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});

test("the real registry does import its adapters, lazily", () => {
  const code = withoutComments(readFileSync(join(ROOT, REGISTRY), "utf8"));
  const adapters = importsOf(REGISTRY, code).filter(({ target }) => target.startsWith("src/adapters/"));
  expect(adapters.length).toBeGreaterThan(0);
  expect(adapters.every(({ lazy }) => lazy)).toBe(true);
});
