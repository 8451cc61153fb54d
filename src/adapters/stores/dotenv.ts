import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import * as z from "zod";
import { path, type AdapterDeps, type Found, type StoreAdapter } from "../../ports/adapter.ts";
import { TextFileStore, type Dialect } from "../text-file-store.ts";
import { KEY, edit, parse } from "./dotenv-text.ts";

const dialect: Dialect = {
  scheme: "dotenv",
  place: "",
  parse,
  edit,
  refusal: "some combinations of quotes, backslashes, $ and line ends are read differently by different programs",
  isName: (name) => KEY.test(name),
};

/** Some keys of a `.env` file; every other byte of it stays. */
export class DotenvStore extends TextFileStore {
  /** @param fields key in the file → field of the issuer */
  constructor(file: string, fields: Readonly<Record<string, string>>, deps: AdapterDeps) {
    super(resolve(deps.folder, file), fields, dialect, deps);
  }
}

const settings = z.strictObject({
  path: path().describe("The file, relative to the policy's folder; a link is followed"),
});

const delivery = z.strictObject({});

export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "dotenv",
  settings,
  delivery,
  nameOf: (options) => options.path,
  discover: async ({ folder }) => ({ where: "this folder", found: dotenvFiles(folder) }),
  create: (options, _delivery, target, deps) => new DotenvStore(options.path, target.fields, deps),
};

/** What is checked in for people to copy holds no keys. */
const FILE = /^\.env(\.(?!example$|sample$|template$|dist$)[\w-]+)*$/;
const BIGGEST_LOOK = 200;

/** The `.env` files of a folder and of the folders in it, with the names that stand in them. */
function dotenvFiles(folder: string): Found[] {
  const below = entries(folder).filter((one) => one.isDirectory() && /^[^.]/.test(one.name));
  const folders = ["", ...below.map(({ name }) => name).filter((name) => name !== "node_modules")];
  return folders.slice(0, BIGGEST_LOOK).flatMap((place) =>
    entries(join(folder, place))
      .filter((one) => !one.isDirectory() && FILE.test(one.name))
      .map((one) => join(place, one.name))
      .map((file) => ({ label: file, name: file, settings: { path: file }, fields: namesIn(join(folder, file)) })),
  );
}

function entries(folder: string) {
  try {
    return readdirSync(folder, { withFileTypes: true }).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  } catch {
    return [];
  }
}

function namesIn(file: string): string[] {
  try {
    return [...parse(readFileSync(file, "latin1")).keys()];
  } catch {
    return [];
  }
}
