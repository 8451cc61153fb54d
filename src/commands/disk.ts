import { runnerOf } from "../ci/runner.ts";
import { filesBesideSharedState, type Files } from "../config/disk.ts";
import type { SecretPolicy } from "../config/model.ts";
import { count, plain } from "../ui/text.ts";
import type { Session } from "./session.ts";

/** What is said of a file where machines share the state. */
export const AMONG_MACHINES = {
  message: "on this machine's disk, while the state is shared: a run with another disk finds nothing here",
  hint: "deliver first to a store that all machines reach (aws-secrets-manager, vault-kv), or run it only where this disk stays",
} as const;

/** What another machine with the same state would not find. */
export async function filesOf(session: Session, secrets: readonly SecretPolicy[]): Promise<Files> {
  return filesBesideSharedState(await session.policy(), session.globals.state, secrets);
}

/** A CI runner mostly begins with an empty disk and is thrown away: there, whoever counts on files is told once. */
export async function warnOfFiles(session: Session, secrets: readonly SecretPolicy[]): Promise<void> {
  const { env } = session.process;
  if (env["CI"]?.toLowerCase() !== "true" && (await runnerOf(env)) === null) return;
  const [first, ...others] = await filesOf(session, secrets);
  if (first === undefined) return;
  const [name, files] = first;
  const places = files.map((file) => `${file.use ?? file.type} ${file.name}`).join(", ");
  const more = others.length === 0 ? "" : `, and of ${count(others.length, "other secret")}`;
  session.terminal.say(`warning: ${plain(`${name} (${places})${more}: ${AMONG_MACHINES.message}`)}`);
  session.terminal.say(`hint: ${AMONG_MACHINES.hint}`);
}
