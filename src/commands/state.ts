import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { UserError } from "../core/errors.ts";
import { say } from "../engine/say.ts";
import { EVERYTHING } from "./choose.ts";
import { text, usageError } from "./options.ts";
import { contentOf, fill, mustBeFree } from "./state-content.ts";
import { exported, exportText, type Content } from "./state-form.ts";
import { verb, type Report } from "./verb.ts";
import { iso } from "../ui/time.ts";

const MOVED = "the state has moved to ";

/** Copies everything to another place. What is left behind stays whole, and paused, so that two never go on at once. */
export const migrate = verb({
  parse: (_, options) => {
    const to = text(options, "--to");
    if (to === null) throw usageError("state migrate needs --to URL, such as --to postgres://host/database");
    return { to };
  },
  run: async ({ to }, session) => {
    const [source, target, deps] = [await session.state(), await session.stateAt(to), await session.engine()];
    if (source.location === target.location)
      throw new UserError("usage", `the state is in ${source.location} already`, { exit: 2 });
    const { documents } = await contentOf(source);
    if (documents.length === 0) throw new UserError("no-state", `there is no state in ${source.location}`, { exit: 2 });
    mustBeFree(documents, deps);
    const before = (await source.load(EVERYTHING))?.state.paused?.reason ?? null;
    const reason = `${MOVED}${target.location}`;
    // A person's own pause stays, and one of an earlier attempt to the same place.
    const isOurs = before === null || (before.startsWith(MOVED) && before !== reason);
    if (isOurs) await say(deps, EVERYTHING, { word: "pause", reason });
    try {
      const content = await contentOf(source);
      mustBeFree(content.documents, deps);
      await fill(target, { ...content, documents: content.documents.map(unpaused) });
      // A word, or a run that had begun before the pause.
      await mustBeTheSame(content, await contentOf(source));
      return reportOf(content, "migrated", `${source.location} to ${target.location}`, [
        `name ${target.location} in the policy, or by --state; the old state is kept, and paused`,
      ]);
    } catch (error) {
      if (isOurs) await say(deps, EVERYTHING, before === null ? { word: "resume" } : { word: "pause", reason: before });
      throw error;
    }
  },
});

/** The whole state as one JSON document. No value is in it, as in any state. */
export const exportState = verb({
  parse: () => ({}),
  run: async (_, session) => {
    const content = await contentOf(await session.state());
    const at = iso(session.now()) ?? "";
    return { ...reportOf(content, "exported", at, []), instead: exportText(content, at) };
  },
});

export const importState = verb({
  parse: ([file = ""]) => ({ file }),
  run: async ({ file }, session) => {
    const content = await contentIn(resolve(session.process.cwd, file));
    const target = await session.state();
    await fill(target, content);
    return reportOf(content, "imported", target.location, ["keyturn doctor; it says what the copy does not know of"]);
  },
});

async function contentIn(file: string): Promise<Content> {
  const refuse = (why: string): UserError => new UserError("state-file", `${file}: ${why}`, { exit: 2 });
  const written = await readFile(file, "utf8").catch(() => {
    throw refuse("cannot be read");
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

function unpaused(one: Content["documents"][number]): Content["documents"][number] {
  const { state } = one;
  return state.name === EVERYTHING && state.paused?.reason.startsWith(MOVED)
    ? { ...one, state: { ...state, paused: null } }
    : one;
}

function mustBeTheSame(before: Content, after: Content): void {
  const commits = new Map(before.documents.map(({ state }) => [state.name, state.commitId]));
  const moved = after.documents.find(({ state }) => commits.get(state.name) !== state.commitId);
  if (moved === undefined) return;
  throw new UserError("locked", `${moved.state.name}: it changed while the state was copied`, {
    exit: 4,
    hints: ["stop whoever works on it, and migrate to another, empty place"],
  });
}

function reportOf({ documents, audit }: Content, done: string, where: string, hints: readonly string[]): Report {
  const count = { secrets: documents.filter(({ state }) => state.name !== EVERYTHING).length, entries: audit.length };
  return {
    outcome: "done",
    secrets: [],
    member: { state: { done, where, ...count } },
    text: () => `${done} ${count.secrets} secrets and ${count.entries} entries of the audit log: ${where}`,
    ...(hints.length > 0 && { complaints: [{ line: null, hints }] }),
  };
}
