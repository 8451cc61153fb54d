import { UserError } from "../core/errors.ts";
import { formatPath, type Path } from "./path.ts";

/** One thing wrong with a policy. Texts are our own and never quote a value. */
export interface Issue {
  /** Where: of the key, or of what stands behind it. */
  readonly path: Path;
  readonly mark: "key" | "value";
  /** Complete: names the place in the policy itself, for example `secrets.payments.overlap.quiet: is no duration`. */
  readonly message: string;
  readonly hint?: string;
  /** A variable or file that a reference names is not there. */
  readonly unresolved?: true;
}

/** An issue and where it stands: `rotation.config.yaml:12:5`; only the file where nothing more is known. */
export interface PlacedIssue extends Omit<Issue, "path" | "mark"> {
  readonly at: string;
}

/** A policy that cannot be used: code `policy-invalid`, or `credentials-missing` where only references fail. `message` has one line an issue, each opening with its place. */
export class PolicyError extends UserError {
  constructor(
    readonly issues: readonly PlacedIssue[],
    more = 0,
  ) {
    const lines = issues.map((issue) => `${issue.at}: ${issue.message}`);
    if (more > 0) lines.push(`and ${more} more`);
    const hints = [...new Set(issues.flatMap((issue) => issue.hint ?? []))];
    const code = issues.every((issue) => issue.unresolved) ? "credentials-missing" : "policy-invalid";
    super(code, lines.join("\n"), { exit: 2, hints, ...(issues[0] && { at: issues[0].at }) });
  }
}

export function valueIssue(path: Path, text: string, hint?: string): Issue {
  return {
    path,
    mark: "value",
    message: `${formatPath(path) || "the policy"}: ${text}`,
    ...(hint !== undefined && { hint }),
  };
}

export function missingIssue(path: Path, key: string): Issue {
  return { path, mark: "key", message: `${formatPath(path) || "the policy"}: ${key} is missing` };
}

export function keyIssue(path: Path, text: string): Issue {
  return { path, mark: "key", message: text };
}
