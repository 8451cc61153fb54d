import type { DeliveryId, SecretState } from "../core/model.ts";
import type { Ctx } from "../ports/context.ts";
import type { SecretPorts } from "./deps.ts";

/** Something beside a secret that keyturn has no key of yet, which consumers may be using. */
export interface Overlooked {
  /** null: at the issuer. */
  readonly delivery: DeliveryId | null;
  /** For people: the store and what is written there, or the issuer. */
  readonly where: string;
  readonly message: string;
  readonly hint: string | null;
}

const MOST_NAMES = 5;

/**
 * Before the first key: names in a store that the policy does not give, and living keys that nobody adopted. A policy
 * with other names than consumers read would have a key issued that nobody uses, beside the one that everybody does.
 *
 * @throws ProviderError where a store or the issuer cannot be read
 */
export async function overlooked(
  { rules, stores, issuer }: SecretPorts,
  state: SecretState | null,
  ctx: Ctx,
): Promise<readonly Overlooked[]> {
  if (state?.versions.some(({ status }) => status === "current")) return [];
  const adopt = `then keyturn adopt ${rules.name}`;
  const found: Overlooked[] = [];
  for (const { id, use, name, traits } of rules.deliveries) {
    const store = stores.get(id);
    if (store === undefined || traits.proof !== "value") continue;
    // What is served can be adopted, and says so by itself.
    if ((await store.current(ctx)) !== null) return [];
    const others = (await store.others?.(ctx)) ?? [];
    const message = `holds other names and none of ours: ${some(others)}`;
    const hint = `name what consumers read in \`fields: { NAME: field }\`, ${adopt}`;
    if (others.length > 0) found.push({ delivery: id, where: `${use} ${name}`, message, hint });
  }
  const ours = new Set(state?.versions.map(({ keyId }) => keyId));
  const { keys } = await issuer.list(ctx);
  const strangers = keys.flatMap((key) => (key.state === "enabled" && !ours.has(key.keyId) ? [key.keyId] : []));
  const one = strangers.length === 1;
  const message = `has ${one ? "a living key that is" : "living keys that are"} not ours: ${some(strangers)}`;
  const hint = found.length > 0 ? null : `name the store that consumers read it from, ${adopt}`;
  if (strangers.length > 0) found.push({ delivery: null, where: "the issuer", message, hint });
  return found;
}

function some(names: readonly string[]): string {
  const more = names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : "";
  return names.slice(0, MOST_NAMES).join(", ") + more;
}
