import { readFileSync } from "node:fs";
import { basename, relative, resolve } from "node:path";
// Not cosmiconfig's public function: that one first obeys a config of its own in the current folder, which may be code.
import { ExplorerSync } from "cosmiconfig/dist/ExplorerSync.js";
import { CORE_SCHEMA, load, YAMLException } from "js-yaml";
import { UserError } from "../core/errors.ts";
import { isRecord, own, type Path } from "./path.ts";

/** One file of a policy, read and parsed. */
export interface Source {
  /** Absolute. */
  readonly file: string;
  /** For people: relative to the current folder where it lies below it. */
  readonly shown: string;
  readonly text: string;
  /** Where in the file the policy stands: `["rotation"]` in package.json. */
  readonly root: Path;
  readonly data: Record<string, unknown>;
}

const PLACES = ["rotation.config.yaml", "rotation.config.yml", "rotation.config.json", "package.json"];

/**
 * Finds and parses the policy: the named file, or the one in `cwd`. Nothing above that folder is looked at and
 * nothing that is found is run.
 * @param text stands for what `file` holds, or will
 * @throws UserError `policy-not-found`, `policy-unreadable`, `policy-syntax`, exit 2.
 */
export function readPolicy(cwd: string, file?: string, text?: string): Source {
  if (file !== undefined && text !== undefined) {
    const [path, shown] = [resolve(cwd, file), shownFile(cwd, resolve(cwd, file))];
    const draft = toSource(cwd, path, text, parse(shown, text));
    if (draft === null) throw notMap(shown, []);
    return draft;
  }
  const loader = (path: string, text: string) => {
    const source = toSource(cwd, path, text, parse(shownFile(cwd, path), text));
    // Behind a wrapper, a `$import` of the policy is none to cosmiconfig: it is an unknown key.
    return basename(path) === "package.json" ? (source ? { rotation: { source } } : {}) : { source };
  };
  const explorer = new ExplorerSync({
    moduleName: "rotation",
    searchPlaces: PLACES,
    searchStrategy: "none",
    ignoreEmptySearchPlaces: false,
    cache: false,
    loaders: { default: loader, noExt: loader },
    transform: (found) => found,
    metaConfigFilePath: null,
  });
  const found = attempt(file ?? "the policy", () =>
    file === undefined ? explorer.search(resolve(cwd)) : explorer.load(resolve(cwd, file)),
  );
  if (found === null) {
    throw file === undefined
      ? new UserError(
          "policy-not-found",
          `no policy in this folder: there is no ${PLACES.slice(0, -1).join(", ")} and no "rotation" in package.json`,
          {
            exit: 2,
            hints: ["keyturn init begins one", "or name one: keyturn -c FILE"],
          },
        )
      : new UserError("policy-not-found", `${file} has no "rotation"`, { exit: 2 });
  }
  const source = own(found.config, "source") as Source | null | undefined;
  if (!source) throw notMap(shownFile(cwd, found.filepath), ["it starts with: version: 1"]);
  return source;
}

/** Reads one included file. @throws UserError as {@link readPolicy}. */
export function readIncluded(cwd: string, file: string): Source {
  const shown = shownFile(cwd, file);
  const text = attempt(shown, () => readFileSync(file, "utf8"));
  const data = parse(shown, text);
  if (!isRecord(data)) throw notMap(shown, []);
  return { file, shown, text, root: [], data };
}

function toSource(cwd: string, file: string, text: string, data: unknown): Source | null {
  const root = basename(file) === "package.json" ? ["rotation"] : [];
  const policy = root.reduce<unknown>(own, data);
  if (policy === undefined) return null;
  const shown = shownFile(cwd, file);
  if (!isRecord(policy)) throw notMap(shown, []);
  return { file, shown, text, root, data: policy };
}

function notMap(shown: string, hints: string[]): UserError {
  return new UserError("policy-invalid", `${shown}: a policy is a map of keys, and this is none`, {
    exit: 2,
    at: shown,
    hints,
  });
}

function shownFile(cwd: string, file: string): string {
  const path = relative(cwd, file);
  return path === "" || path.startsWith("..") ? file : path;
}

function attempt<T>(shown: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof UserError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT") throw new UserError("policy-not-found", `${shown} is not there`, { exit: 2 });
    throw new UserError("policy-unreadable", `${shown} cannot be read (${code ?? "unknown reason"})`, { exit: 2 });
  }
}

/** JSON goes through the same parser: YAML contains it, and this one refuses a key that stands twice. */
function parse(shown: string, text: string): unknown {
  let data: unknown;
  try {
    data = load(text, { schema: CORE_SCHEMA });
  } catch (error) {
    const mark = error instanceof YAMLException ? error.mark : undefined;
    const at = mark ? `${shown}:${mark.line + 1}:${mark.column + 1}` : shown;
    throw new UserError("policy-syntax", `${at}: ${syntaxProblem(error)}`, { exit: 2, at });
  }
  const problem = shapeProblem(data);
  if (problem !== null) throw new UserError("policy-syntax", `${shown}: ${problem}`, { exit: 2, at: shown });
  return data;
}

/** In our own words: the parser's quote the line, and with it perhaps a credential. */
function syntaxProblem(error: unknown): string {
  const reason = String((error as { reason?: unknown }).reason ?? "");
  return WORDS.find(([pattern]) => pattern.test(reason))?.[1] ?? "is not valid YAML";
}

const WORDS: readonly (readonly [RegExp, string])[] = [
  [/duplicated mapping key/, "this key stands here for the second time"],
  [/tab char/, "a tab where YAML wants spaces"],
  [/indentation/, "wrong indentation"],
  [/alias|anchor/, "an alias (*…) without its anchor (&…), or a broken one"],
  [/tag/, "a tag (!…): a policy is plain data"],
  [/single document/, "more than one document"],
  [/end of the|closed|comma|collection/, "a bracket or quote that is not closed, or a comma that is missing"],
  [/can not read|implicit|mapping/, "neither `key: value` nor `- item`"],
];

/** Cycles, aliases of aliases of aliases, and the one key that is not like others when it is copied. */
function shapeProblem(data: unknown): string | null {
  let nodes = 0;
  const visit = (value: unknown, depth: number): string | null => {
    if (typeof value !== "object" || value === null) return null;
    if (depth > 40 || ++nodes > 1_000_000) return "it is nested too deeply, or its aliases (*…) unfold without end";
    for (const key of Object.keys(value)) {
      const problem =
        key === "__proto__"
          ? "no key may be called __proto__"
          : visit((value as Record<string, unknown>)[key], depth + 1);
      if (problem !== null) return problem;
    }
    return null;
  };
  return visit(data, 0);
}
