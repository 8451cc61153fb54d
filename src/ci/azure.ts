import { join } from "node:path";
import type { Runner } from "./runner.ts";
import { markdownOf, notesOf, type Note } from "./told.ts";

/** Azure Pipelines. The agent reads commands from whatever a script prints; a summary is a file that it is told of. */
export const azure: Runner = {
  name: "Azure Pipelines",
  mask: (text) => `##vso[task.setsecret]${data(text)}`,
  publish: (told, env, unique) => {
    const lines = notesOf(told).map(
      (note) => `##vso[task.logissue ${properties(note)}]${data(`${note.title}: ${note.message}`)}`,
    );
    const folder = env["AGENT_TEMPDIRECTORY"] ?? "";
    if (!told.summary || folder === "") return { files: [], lines };
    const path = join(folder, `keyturn-${unique}.md`);
    return {
      files: [{ path, text: markdownOf(told), append: false }],
      lines: [...lines, `##vso[task.uploadsummary]${data(path)}`],
    };
  },
};

function properties({ level, place }: Note): string {
  const at = place && { sourcepath: place.file, linenumber: place.line, columnnumber: place.column };
  return Object.entries({ type: level, ...at })
    .map(([name, value]) => `${name}=${data(String(value)).replaceAll(";", "%3B").replaceAll("]", "%5D")}`)
    .join(";");
}

function data(text: string): string {
  return text.replaceAll("%", "%AZP25").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
}
