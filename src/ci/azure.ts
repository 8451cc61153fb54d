import { join } from "node:path";
import type { Runner } from "./runner.ts";
import { markdownOf, notesOf } from "./told.ts";

/** Azure Pipelines. The agent reads commands from whatever a script prints; a summary is a file that it is told of. */
export const azure: Runner = {
  name: "Azure Pipelines",
  mask: (text) => `##vso[task.setsecret]${data(text)}`,
  publish: (told, env, unique) => {
    const lines = notesOf(told).map(
      ({ level, title, message }) => `##vso[task.logissue type=${level}]${data(`${title}: ${message}`)}`,
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

function data(text: string): string {
  return text.replaceAll("%", "%AZP25").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
}
