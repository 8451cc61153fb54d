import { plain } from "../ui/text.ts";
import { isReadByRunner } from "./publish.ts";
import { runnerOf, type Env } from "./runner.ts";

/**
 * What has a text of one line taken out of the job's log; to be called before anything else has the text.
 * @param line takes one line for stderr
 * @returns null where no runner would take that line out: there it would be the value in clear
 */
export async function maskingOf(env: Env, line: (text: string) => void): Promise<((text: string) => void) | null> {
  const command = (await runnerOf(env))?.mask;
  if (command === undefined || !isReadByRunner()) return null;
  const told = new Set<string>();
  return (text) => {
    const said = command(text);
    // A control character would not reach the runner: what it masked then would be another text.
    if (told.has(text) || plain(said) !== said) return;
    told.add(text);
    line(said);
  };
}
