import type { SecretPolicy } from "../config/model.ts";
import { selectSecrets, type Selection } from "../config/select.ts";
import { flag, text } from "./options.ts";
import type { Session } from "./session.ts";
import type { Options } from "./verb.ts";

/** The document that holds a pause of everything. */
export const EVERYTHING = "@all";

export function selectionOf(names: readonly string[], options: Options): Selection {
  return {
    names,
    tag: text(options, "--tag") ?? undefined,
    store: text(options, "--store") ?? undefined,
    issuer: text(options, "--issuer") ?? undefined,
    all: flag(options, "--all"),
  };
}

/** The chosen secrets of the policy. */
export async function choose(
  session: Session,
  selection: Selection,
  nothingMeans: "all" | "error",
): Promise<SecretPolicy[]> {
  return selectSecrets(await session.policy(), selection, nothingMeans);
}

/**
 * The names of chosen secrets for words that need no policy: a secret that was taken out of it can still be held,
 * unlocked or forgotten.
 */
export async function chooseNames(session: Session, selection: Selection): Promise<string[]> {
  const policy = await session.policy();
  const known: string[] = [];
  const rest: string[] = [];
  for (const name of new Set(selection.names)) {
    const isOrphan =
      !policy.secrets.has(name) && !name.startsWith("@") && (await (await session.state()).load(name)) !== null;
    (isOrphan ? known : rest).push(name);
  }
  if (known.length > 0 && rest.length === 0) return known;
  return [...known, ...selectSecrets(policy, { ...selection, names: rest }, "error").map(({ name }) => name)];
}
