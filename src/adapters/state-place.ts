import { ProviderError, UserError } from "../core/errors.ts";
import type { SecretState } from "../core/model.ts";
import type { AuditEntry } from "../ports/state.ts";

/** The newest form of a document that this version reads. */
const DOCUMENT_SCHEMA: SecretState["schema"] = 1;

const RESTORE =
  'keyturn never deletes or repairs it: put a backup in its place, or do without; docs/operations.md, "Restoring state"';

/** One place that several machines keep state in: its errors, and the checks of what is read there. */
export class StatePlace {
  /** @param location for people, without a password */
  constructor(readonly location: string) {}

  newer(): UserError {
    return new UserError("state-newer", `the state in ${this.location} was written by a newer version`, {
      exit: 3,
      hints: ["upgrade keyturn"],
    });
  }

  damaged(why: string, hint = RESTORE): UserError {
    return new UserError("state-damaged", `the state in ${this.location} is damaged: ${why}`, {
      exit: 3,
      hints: [hint],
    });
  }

  unwritable(why: string, hint: string): UserError {
    const message = `the state in ${this.location} cannot be written: ${why}`;
    return new UserError("state-unwritable", message, { exit: 1, hints: [hint] });
  }

  /** Nothing happened there. */
  unavailable(why: string, hint?: string): ProviderError {
    return this.failure("unavailable", why, hint);
  }

  failure(kind: ProviderError["kind"], why: string, hint?: string): ProviderError {
    return new ProviderError(kind, "no", `the state in ${this.location}: ${why}`, hint === undefined ? {} : { hint });
  }

  /**
   * What went wrong on the way to the state, told as such: the same provider may hold secrets as well.
   *
   * @param hint for what could not be reached, where the error has none of its own
   */
  told(error: unknown, hint: string): unknown {
    if (!(error instanceof ProviderError)) return error;
    const { kind, applied, message, detail } = error;
    const more = kind === "unavailable" ? { hint, ...detail } : detail;
    return new ProviderError(kind, applied, `the state in ${this.location}: ${message}`, more);
  }

  /** @throws UserError `state-damaged`, `state-newer` */
  document(name: string, text: string): SecretState {
    return this.checked(name, this.json(text, `the document of "${name}"`));
  }

  /** The same, of what was parsed already. */
  checked(name: string, content: unknown): SecretState {
    const state = content as SecretState | null | undefined;
    if (typeof state?.schema === "number" && state.schema > DOCUMENT_SCHEMA) throw this.newer();
    if (state?.schema !== DOCUMENT_SCHEMA) throw this.foreign(name);
    if (state.name !== name) throw this.damaged(`in the place of the document of "${name}" is that of another secret`);
    return state;
  }

  /** Somebody else's, where a document should be. */
  foreign(name: string): UserError {
    return this.damaged(`what is in the place of the document of "${name}" was not written by keyturn`);
  }

  json(text: string, what: string): unknown {
    try {
      return JSON.parse(text);
    } catch {
      throw this.damaged(`${what} cannot be read`);
    }
  }

  /** The entry that is there under this one's sequence has another hash. */
  forged({ secret, seq }: Pick<AuditEntry, "secret" | "seq">): UserError {
    return this.damaged(`audit entry ${seq} of "${secret}" is another one than the state tells of`);
  }
}
