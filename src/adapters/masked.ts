import { SecretValue } from "../core/secret-value.ts";
import type { Issuer } from "../ports/issuer.ts";
import type { Store } from "../ports/store.ts";

/** Hands a text of one line to the CI runner, which takes it out of its log from then on. */
export type Mask = (text: string) => void;

/** They name a key or its owner, stand in every report, and open nothing by themselves. */
const NAMES: ReadonlySet<string> = new Set(["accessKeyId", "roleId"]);

/** Shorter texts stand everywhere: a log without them cannot be read. */
const SHORTEST = 4;

/** The same, with each value masked before anybody else has it: as soon as it is issued or read. */
export function masked<T extends Issuer | Store>(adapter: T, mask: Mask): T {
  // Classes have private members, so what is called has to be the adapter itself.
  return new Proxy(adapter, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return (...args: unknown[]): unknown => {
        const answer: unknown = Reflect.apply(member, target, args);
        return answer instanceof Promise ? answer.then((given: unknown) => seen(given, mask)) : answer;
      };
    },
  });
}

/** Values come back alone (`read`), with a ref (`current`) or with their key id (`issue`). */
function seen(answer: unknown, mask: Mask): unknown {
  const { value = answer, keyId = null } = (answer ?? {}) as { readonly value?: unknown; readonly keyId?: unknown };
  if (value instanceof SecretValue) {
    for (const [name, text] of Object.entries(value.reveal())) {
      if (NAMES.has(name) || text === keyId) continue;
      // Logs have lines: a certificate is masked line by line.
      for (const line of text.split(/\r?\n|\r/)) if (line.trim().length >= SHORTEST) mask(line);
    }
  }
  return answer;
}
