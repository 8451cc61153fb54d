import type { Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import type { Ctx, Permission } from "../../ports/context.ts";
import type { KeyId, Listing } from "../../ports/issuer.ts";
import type { KeyUsage, UsageEvent, UsageMonitor, UsageTraits } from "../../ports/usage.ts";
import type { Aws } from "../aws.ts";

/**
 * One register for each key. IAM writes it when a key is used for the first time in a quarter of an hour, with the
 * service and the region; how late is nowhere published, the hour is ours. A refused use of an inactive key is not
 * in it.
 */
export const USAGE: UsageTraits = {
  granularity: 15 * 60_000,
  lag: 60 * 60_000,
  names: "service",
  history: "last-only",
  seesDenied: false,
};

/** Uses before 22 April 2015 are nowhere. */
const TRACKED_SINCE: Instant = Date.UTC(2015, 3, 22);
const ACTION = "iam:GetAccessKeyLastUsed";

/**
 * What IAM remembers of each key's last use. The register goes back to the key's creation, so an empty one is a
 * silence since then; a key younger than the window that is asked for stays unknown to the core.
 */
export class LastUsed implements UsageMonitor {
  readonly traits = USAGE;

  constructor(
    private readonly aws: Aws,
    private readonly list: (ctx: Ctx) => Promise<Listing>,
    readonly permissions: () => readonly Permission[],
  ) {}

  async usageOf(keyIds: readonly KeyId[], _since: Instant, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>> {
    const { keys, asOf } = await this.list(ctx);
    const usage = new Map<KeyId, KeyUsage>();
    for (const keyId of keyIds) {
      const key = keys.find((listed) => listed.keyId === keyId);
      if (key === undefined) {
        const why = "the user has no such key";
        usage.set(keyId, { status: "unknown", why, from: asOf, until: asOf, events: [] });
        continue;
      }
      const event = await this.#lastUse(keyId, ctx);
      const from = Math.min(Math.max(key.createdAt, TRACKED_SINCE), asOf);
      usage.set(keyId, { status: "covered", from, until: asOf, events: event === null ? [] : [event] });
    }
    return usage;
  }

  /** null: never, as far as IAM knows. */
  async #lastUse(keyId: KeyId, ctx: Ctx): Promise<UsageEvent | null> {
    const { GetAccessKeyLastUsedCommand } = await import("@aws-sdk/client-iam");
    const command = new GetAccessKeyLastUsedCommand({ AccessKeyId: keyId });
    const { AccessKeyLastUsed: used } = await this.aws.send(ACTION, command, { ctx, mutates: false });
    if (used === undefined) throw new ProviderError("unavailable", "no", `${ACTION}: not an answer of AWS`);
    const last = used.LastUsedDate?.getTime();
    if (last === undefined || Number.isNaN(last)) return null;
    return { who: whoOf(used.ServiceName, used.Region), first: last, last, count: 1, outcome: "ok" };
  }
}

/** `s3 (eu-west-1)`; IAM writes N/A for what it does not know. */
function whoOf(service: string | undefined, region: string | undefined): string {
  const known = (text: string | undefined): string => (text === undefined || text === "N/A" ? "" : text);
  return known(region) === "" ? known(service) : `${known(service)} (${known(region)})`.trim();
}
