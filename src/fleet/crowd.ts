import type { SecretPolicy } from "../config/model.ts";
import type { Wake } from "../ports/queue.ts";

/**
 * Secrets that came while others of their issuer's type had all its places here. Each comes again by itself, for then
 * another worker may have a place; whoever leaves a place lets in the one that has waited longest.
 */
export class Crowd {
  readonly #wakes = new Map<string, { readonly type: string; readonly wake: Wake }>();

  get size(): number {
    return this.#wakes.size;
  }

  join({ name, issuer }: SecretPolicy, wake: Wake): void {
    this.#wakes.set(name, { type: issuer.type, wake });
  }

  leave({ name }: SecretPolicy): void {
    this.#wakes.delete(name);
  }

  /** @returns the wake to set for whoever is let in; null: nobody waits for a place of that type */
  letIn({ issuer }: SecretPolicy): Wake | null {
    for (const [name, { type, wake }] of this.#wakes) {
      if (type !== issuer.type) continue;
      this.#wakes.delete(name);
      return { ...wake, in: 0 };
    }
    return null;
  }
}
