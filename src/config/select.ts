import { UserError } from "../core/errors.ts";
import type { Policy, SecretPolicy } from "./model.ts";
import { nearest, suggestion } from "./nearest.ts";

/** What a command line chose. */
export interface Selection {
  readonly names?: readonly string[];
  readonly tag?: string | undefined;
  /** A name under `stores`, or a type. */
  readonly store?: string | undefined;
  /** A type. */
  readonly issuer?: string | undefined;
  readonly all?: boolean | undefined;
}

/**
 * The chosen secrets in the order of the policy. Several selectors choose what all of them name; names stand alone.
 * @param nothingMeans what an empty selection stands for.
 * @throws UserError `unknown-secret` with the nearest name, `unknown-tag`, `unknown-store`, `unknown-issuer`,
 *   `usage`; exit 2.
 */
export function selectSecrets(
  policy: Policy,
  selection: Selection,
  nothingMeans: "all" | "error" = "error",
): SecretPolicy[] {
  const { names = [], tag, store, issuer, all = false } = selection;
  const secrets = [...policy.secrets.values()];
  const filtered = tag !== undefined || store !== undefined || issuer !== undefined;
  if (names.length > 0 && (filtered || all))
    throw usage("name secrets, or choose them by --tag, --store, --issuer or --all, not both");
  if (all && filtered) throw usage("--all already chooses every secret");
  if (names.length > 0) {
    for (const name of names) if (!policy.secrets.has(name)) throw unknown("secret", name, policy.secrets.keys());
    return secrets.filter((secret) => names.includes(secret.name));
  }
  if (!filtered && !all && nothingMeans === "error")
    throw usage("no secret named", "name one, or use --tag, --store, --issuer or --all");

  const storesOf = (secret: SecretPolicy) =>
    secret.deliveries.flatMap(({ use, type }) => (use === null ? [type] : [use, type]));
  const matches = <T extends string>(
    kind: string,
    wanted: T | undefined,
    of: (secret: SecretPolicy) => readonly string[],
  ) => {
    if (wanted === undefined) return () => true;
    const known = new Set(secrets.flatMap(of));
    if (!known.has(wanted)) throw unknown(kind, wanted, known);
    return (secret: SecretPolicy) => of(secret).includes(wanted);
  };
  const tests = [
    matches("tag", tag, (secret) => secret.tags),
    matches("store", store, storesOf),
    matches("issuer", issuer, (secret) => [secret.issuer.type]),
  ];
  return secrets.filter((secret) => tests.every((test) => test(secret)));
}

function usage(message: string, ...hints: string[]): UserError {
  return new UserError("usage", message, { exit: 2, hints });
}

function unknown(kind: string, name: string, known: Iterable<string>): UserError {
  const names = [...known];
  const near = nearest(name, names);
  const hints =
    near === null ? (suggestion(name, names) ? [suggestion(name, names).slice(2)] : []) : [`did you mean "${near}"?`];
  return new UserError(`unknown-${kind}`, `unknown ${kind} "${name}"`, { exit: 2, hints });
}
