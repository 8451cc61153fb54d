import type { Told } from "./told.ts";

export type Env = Readonly<Record<string, string | undefined>>;

/** A file that the runner reads, or is to read; `append`: others write there too. */
export interface RunnerFile {
  readonly path: string;
  readonly text: string;
  readonly append: boolean;
}

/** What a runner is told: lines for stderr, in its own language, and files, which come first. */
export interface Publication {
  readonly files: readonly RunnerFile[];
  readonly lines: readonly string[];
}

/** What one CI system understands. Texts are made here; whoever calls has the effects. */
export interface Runner {
  readonly name: string;
  /** Why it is told nothing, for the log. */
  readonly silence?: string;
  /** The command that has a text of one line taken out of the log from then on. Left out: there is none. */
  readonly mask?: (text: string) => string;
  /**
   * How the end of a command is told.
   * @param unique stands in no text
   */
  readonly publish: (told: Told, env: Env, unique: string) => Publication;
}

/** A variable that only this system sets, to `true`. */
const RUNNERS: readonly (readonly [sign: string, load: () => Promise<Runner>])[] = [
  ["GITHUB_ACTIONS", async () => (await import("./github.ts")).github],
  ["GITLAB_CI", async () => (await import("./gitlab.ts")).gitlab],
  ["TF_BUILD", async () => (await import("./azure.ts")).azure],
];

/**
 * The CI system that this process runs in; null: none, or one that keyturn has no words for. With the signs of several
 * nobody knows which of them reads what is printed, and a mask that it does not take out is the value in clear.
 */
export async function runnerOf(env: Env): Promise<Runner | null> {
  const signs = RUNNERS.filter(([sign]) => env[sign]?.toLowerCase() === "true");
  const [runner = null, ...others] = await Promise.all(signs.map(([, load]) => load()));
  return runner === null || others.length === 0 ? runner : severalOf([runner, ...others], signs);
}

function severalOf(runners: readonly Runner[], signs: typeof RUNNERS): Runner {
  const name = runners.map((one) => one.name).join(" and ");
  const variables = signs.map(([sign]) => sign).join(" and ");
  const silence = `${variables} are set at once: nothing is masked, and neither ${name.replaceAll(" and ", " nor ")} is told anything; unset what is not so`;
  return { name, silence, publish: () => ({ files: [], lines: [] }) };
}
