import { isAbsolute, relative } from "node:path";
import type { Env, Runner } from "./runner.ts";
import { markdownOf, notesOf, type Note, type Told } from "./told.ts";

/** A step's outputs go into the same megabyte. */
const LONGEST_DOCUMENT = 900_000;

/**
 * GitHub Actions, and what speaks its language (Gitea, Forgejo). The runner reads commands from stdout and stderr,
 * and takes an `add-mask` out of the log before it stores anything.
 */
export const github: Runner = {
  name: "GitHub Actions",
  mask: (text) => `::add-mask::${data(text)}`,
  publish: (told, env, unique) => {
    const { GITHUB_STEP_SUMMARY: summary = "", GITHUB_OUTPUT: output = "" } = env;
    return {
      files: [
        ...(told.summary && summary !== "" ? [{ path: summary, text: markdownOf(told), append: true }] : []),
        ...(output === "" ? [] : [{ path: output, text: outputs(told, unique), append: true }]),
      ],
      lines: notesOf(told).map((note) => `::${note.level} ${properties(note, env)}::${data(note.message)}`),
    };
  },
};

function outputs({ outcome, nextDue, document }: Told, unique: string): string {
  const json = document.length > LONGEST_DOCUMENT ? "" : document;
  return Object.entries({ outcome, "next-due": nextDue ?? "", json })
    .map(([name, value]) => `${name}<<keyturn-${unique}\n${value}\nkeyturn-${unique}\n`)
    .join("");
}

function properties({ title, place }: Note, env: Env): string {
  const at = place && { file: shown(place.file, env), line: String(place.line), col: String(place.column) };
  return Object.entries({ title, ...at })
    .map(([name, value]) => `${name}=${property(value)}`)
    .join(",");
}

/** A file of the repository by its path there, which is how a change's page finds it. */
function shown(file: string, { GITHUB_WORKSPACE: workspace = "" }: Env): string {
  const path = workspace === "" ? file : relative(workspace, file);
  return path.startsWith("..") || isAbsolute(path) ? file : path;
}

function data(text: string): string {
  return text.replaceAll("%", "%25").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
}

function property(text: string): string {
  return data(text).replaceAll(":", "%3A").replaceAll(",", "%2C");
}
