import type { Paint } from "./table.ts";

/** How texts are set off. Without colours each leaves its text as it is. */
export interface Style {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly good: Paint;
  readonly warn: Paint;
  readonly bad: Paint;
}

const same: Paint = (text) => text;
export const PLAIN: Style = { bold: same, dim: same, good: same, warn: same, bad: same };

type Env = Readonly<Record<string, string | undefined>>;

/** Whether a stream gets colours: `--no-color` and NO_COLOR forbid, then FORCE_COLOR decides, then the terminal. */
export function wantsColour(env: Env, noColour: boolean, isTerminal: boolean): boolean {
  if (noColour || (env["NO_COLOR"] ?? "") !== "") return false;
  const force = env["FORCE_COLOR"];
  if (force !== undefined) return force !== "0" && force !== "false";
  return isTerminal && env["TERM"] !== "dumb";
}

/** Chalk is only loaded where there are colours to make. */
export async function colours(): Promise<Style> {
  const { Chalk } = await import("chalk");
  const chalk = new Chalk({ level: 1 });
  return { bold: chalk.bold, dim: chalk.dim, good: chalk.green, warn: chalk.yellow, bad: chalk.red };
}
