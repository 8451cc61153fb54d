import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { UserError } from "../core/errors.ts";
import { EVERYTHING } from "./choose.ts";
import { text, usageError } from "./options.ts";
import { contentOf, restore } from "./state-content.ts";
import { exported, exportText, type Content } from "./state-form.ts";
import { move } from "./state-move.ts";
import { verb, type Report } from "./verb.ts";
import { count } from "../ui/text.ts";
import { iso } from "../ui/time.ts";

/** Copies everything to another place; what is left behind says where it went, and answers nothing else. */
export const migrate = verb({
  parse: (_, options) => {
    const to = text(options, "--to");
    if (to === null) throw usageError("state migrate needs --to URL, such as --to postgres://host/database");
    return { to };
  },
  run: async ({ to }, session) => {
    const [source, target] = [await session.stateAsItIs(), await session.stateAt(to)];
    if (source.location === target.location)
      throw new UserError("usage", `the state is in ${source.location} already`, { exit: 2 });
    const { content, before } = await move(source, target, await session.engineOn(source));
    return reportOf(content, before ? "had migrated" : "migrated", `${source.location} to ${target.location}`, [
      `name ${target.address ?? target.location} in the policy, or by --state; the old state is kept, and says where it went`,
    ]);
  },
});

/** The whole state as one JSON document. No value is in it, as in any state. */
export const exportState = verb({
  parse: () => ({}),
  run: async (_, session) => {
    const { documents, audit } = await contentOf(await session.stateAsItIs());
    const content = { documents: documents.map(({ age, state }) => ({ age, state })), audit };
    const at = iso(session.now()) ?? "";
    return { ...reportOf(content, "exported", at, []), instead: exportText(content, at) };
  },
});

export const importState = verb({
  parse: ([file = ""]) => ({ file }),
  run: async ({ file }, session) => {
    const content = await contentIn(resolve(session.process.cwd, file));
    const target = await session.stateAsItIs();
    await restore(target, content);
    return reportOf(content, "imported", target.location, ["keyturn doctor; it says what the copy does not know of"]);
  },
});

async function contentIn(file: string): Promise<Content> {
  const refuse = (why: string): UserError => new UserError("state-file", `${file}: ${why}`, { exit: 2 });
  const written = await readFile(file, "utf8").catch(({ code }: NodeJS.ErrnoException) => {
    throw refuse(code === "ENOENT" ? "is not there" : `cannot be read (${code ?? "unknown reason"})`);
  });
  let json: unknown;
  try {
    json = JSON.parse(written);
  } catch {
    throw refuse("is no JSON");
  }
  const found = exported.safeParse(json);
  if (found.success) return found.data;
  const at = found.error.issues[0]?.path.join(".") ?? "";
  throw refuse(`is no export of a state${at === "" ? "" : ` (${at})`}`);
}

function reportOf({ documents, audit }: Content, done: string, where: string, hints: readonly string[]): Report {
  const secrets = documents.filter(({ state }) => state.name !== EVERYTHING).length;
  const entries = audit.length;
  const what = `${count(secrets, "secret")}, ${count(entries, "line")} of the audit log`;
  return {
    outcome: "done",
    secrets: [],
    member: { state: { done, where, secrets, entries } },
    text: () => `${done} ${what}: ${where}`,
    ...(hints.length > 0 && { complaints: [{ line: null, hints }] }),
  };
}
