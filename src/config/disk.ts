import { registry as allAdapters, type Registry } from "../adapters/registry.ts";
import type { DeliveryPolicy, Policy, SecretPolicy } from "./model.ts";
import { resolveState } from "./state.ts";

/** Those of these secrets that are delivered to files of one machine, with these deliveries. */
export type Files = ReadonlyMap<string, readonly DeliveryPolicy[]>;

/**
 * What is on this machine's disk although other machines go by the same state, and find nothing on theirs.
 *
 * @param url of the state, where the policy's does not hold
 */
export async function filesBesideSharedState(
  policy: Policy,
  url: string | null,
  secrets: readonly SecretPolicy[],
  registry: Registry = allAdapters,
): Promise<Files> {
  const files = secrets.flatMap(({ name, deliveries }): [string, DeliveryPolicy[]][] => {
    const onDisk = deliveries.filter(({ type }) => registry.store[type]?.onDisk);
    return onDisk.length === 0 ? [] : [[name, onDisk]];
  });
  if (files.length === 0) return new Map();
  const { adapter } = await resolveState(policy, url, registry);
  return new Map(registry.state[adapter.type]?.onDisk ? [] : files);
}
