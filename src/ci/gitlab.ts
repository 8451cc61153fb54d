import type { Runner } from "./runner.ts";

/**
 * GitLab CI masks what its settings hold, before a job starts: a job has no command for it. (A runner with the
 * experimental `proxy_exec` reads `::add-mask::`; any other would print the value, and a job cannot tell which it is
 * in.) There are no annotations and no summary to write to either: the log, the exit code and `--json` are it.
 */
export const gitlab: Runner = {
  name: "GitLab CI",
  publish: () => ({ files: [], lines: [] }),
};
