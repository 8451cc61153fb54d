import type { Event } from "@aws-sdk/client-cloudtrail";
import * as z from "zod";
import type { Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import type { AdapterDeps, UsageAdapter } from "../../ports/adapter.ts";
import type { AwsPermission, Ctx } from "../../ports/context.ts";
import type { KeyId } from "../../ports/issuer.ts";
import type { KeyUsage, UsageMonitor, UsageTraits } from "../../ports/usage.ts";
import { textAt } from "../json-path.ts";
import { awsAt, place, region, type Aws } from "../aws.ts";
import { duration, ms } from "../settings.ts";
import { answers, Sightings } from "../sightings.ts";

const ACTION = "cloudtrail:LookupEvents";
const PAGE = 50;
/** IAM, STS' global endpoint and the like are recorded there whatever the region of the caller. */
const GLOBAL_REGION = "us-east-1";
/** The user agent of our own calls begins so. */
const OWN = "keyturn";
/** So far ahead of our clock may CloudTrail's be. */
const SKEW = 60_000;
const WHY = "CloudTrail's events are management events only: its silence proves nothing";

/** CloudTrail usually delivers within five minutes, and promises fifteen. */
const TRAITS: UsageTraits = {
  granularity: 1000,
  lag: 15 * 60_000,
  names: "consumer",
  history: "events",
  seesDenied: false,
};

const settings = z.strictObject({
  ...place,
  region: region().optional().describe("Where `regions` does not say otherwise. Default: AWS_REGION."),
  regions: z
    .array(region())
    .min(1)
    .optional()
    .describe("Regions whose events are looked up. Default: the region above and us-east-1."),
  who: z
    .enum(["sourceIPAddress", "userAgent", "userName"])
    .default("sourceIPAddress")
    .describe("What of an event names the caller. Default: sourceIPAddress."),
  history: duration(1).default("7d").describe("How far back is looked; CloudTrail keeps 90 days. Default: 7d."),
  pages: z
    .int()
    .min(1)
    .max(100)
    .default(4)
    .describe("How many pages of 50 events, the newest first, are read for each key and region. Default: 4."),
});

type Settings = z.output<typeof settings>;

/**
 * Who calls AWS with a key, out of CloudTrail's event history (LookupEvents by access key id).
 *
 * It has management events only (no GetObject, no Query), so it may say that a key is used and by whom, and its
 * answer is never more than that: every key is `unknown`. Beside another monitor, usually the issuer's own, it
 * therefore is `optional` by default.
 */
export const adapter: UsageAdapter<typeof settings> = {
  type: "cloudtrail",
  settings,
  published: { granularity: TRAITS.granularity, lag: TRAITS.lag },
  optional: true,
  create: (options, _secret, deps) => new CloudTrail(options, deps),
};

class CloudTrail implements UsageMonitor {
  readonly traits = TRAITS;
  readonly #regions: readonly Aws[];

  constructor(
    private readonly options: Settings,
    private readonly deps: AdapterDeps,
  ) {
    const { region, profile, endpoint, regions } = options;
    const home = awsAt({ region, profile, endpoint }, deps);
    const names = regions ?? [home.region, GLOBAL_REGION];
    this.#regions = [...new Set(names)].map((region) => awsAt({ region, profile, endpoint }, deps));
  }

  permissions(): readonly AwsPermission[] {
    return [{ for: "aws", why: "see who uses the keys", actions: [ACTION], resources: ["*"] }];
  }

  async usageOf(keyIds: readonly KeyId[], since: Instant, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>> {
    const { account } = this.options.expect ?? {};
    const home = this.#regions[0] as Aws;
    if (account !== undefined && (await home.identity(ctx)).account !== account) {
      const hint = "check `profile`, AWS_PROFILE and the credentials that this process runs under";
      throw new ProviderError("denied", "no", `${ACTION}: the credentials are not those of account ${account}`, {
        hint,
      });
    }
    const now = this.deps.now();
    const from = Math.max(since, now - ms(this.options.history));
    const looks = this.#regions.flatMap((aws) =>
      keyIds.map(async (keyId) => ({ keyId, calls: await this.#lookUp(aws, keyId, from, now, ctx) })),
    );
    const sightings = new Sightings();
    for (const { keyId, calls } of await Promise.all(looks)) {
      // What lies between two of these events is no silence: none of them shares a stretch with another.
      for (const { who, at, isOwn } of calls) sightings.add(keyId, isOwn ? OWN : who, "ok", at, NaN);
    }
    return answers(keyIds, sightings, { why: WHY }, now, (who) => who === OWN);
  }

  async #lookUp(aws: Aws, keyId: KeyId, from: Instant, until: Instant, ctx: Ctx): Promise<Call[]> {
    const { LookupEventsCommand } = await import("@aws-sdk/client-cloudtrail");
    const found: Event[] = [];
    let next: string | undefined;
    for (let page = 1; page <= this.options.pages; page++) {
      const command = new LookupEventsCommand({
        LookupAttributes: [{ AttributeKey: "AccessKeyId", AttributeValue: keyId }],
        StartTime: new Date(from),
        EndTime: new Date(until + SKEW),
        MaxResults: PAGE,
        ...(next !== undefined && { NextToken: next }),
      });
      const { Events = [], NextToken } = await aws.send(ACTION, command, { ctx, mutates: false });
      found.push(...Events);
      next = NextToken;
      if (next === undefined) break;
    }
    if (next !== undefined)
      this.deps.debug(`cloudtrail: ${aws.region}: older events than ${found.length} are not read`);
    // The newest come first.
    return found.toReversed().flatMap((event) => this.#call(event) ?? []);
  }

  /** null: an event without a time. */
  #call({ EventTime, EventSource = "", CloudTrailEvent = "" }: Event): Call | null {
    const at = EventTime?.getTime();
    if (at === undefined || Number.isNaN(at)) return null;
    const { sourceIPAddress, userAgent, userName } = detail(CloudTrailEvent);
    const who = { sourceIPAddress, userAgent, userName }[this.options.who] ?? EventSource;
    return { who, at, isOwn: userAgent?.startsWith(`${OWN}/`) ?? false };
  }
}

interface Call {
  readonly who: string;
  readonly at: Instant;
  readonly isOwn: boolean;
}

interface Detail {
  readonly sourceIPAddress?: string | undefined;
  readonly userAgent?: string | undefined;
  readonly userName?: string | undefined;
}

/** The event as CloudTrail records it: JSON in a text. What cannot be read names nobody. */
function detail(text: string): Detail {
  try {
    const event: unknown = JSON.parse(text);
    const read = (path: string) => textAt(event, path) ?? undefined;
    // SDKs and consoles put brackets around the agent at times.
    const userAgent = read("userAgent")?.replace(/^\[(.*)\]$/, "$1");
    return { sourceIPAddress: read("sourceIPAddress"), userAgent, userName: read("userIdentity.userName") };
  } catch {
    return {};
  }
}
