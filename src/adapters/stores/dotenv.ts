import { resolve } from "node:path";
import * as z from "zod";
import { path, type AdapterDeps, type StoreAdapter } from "../../ports/adapter.ts";
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
  create: (options, _delivery, target, deps) => new DotenvStore(options.path, target.fields, deps),
};
