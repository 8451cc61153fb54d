import * as z from "zod";
import type { Instant } from "../core/duration.ts";
import type { Ctx } from "../ports/context.ts";
import type { KeyId } from "../ports/issuer.ts";
import type { KeyUsage, UsageEvent, UsageMonitor, UsageTraits } from "../ports/usage.ts";
import type { Program } from "./exec.ts";
import { parseInstant } from "./instants.ts";

/** A time as a program writes it: ms since 1970, or a text with a zone. */
export const instant = z
  .union([z.number(), z.string()])
  .transform((time, context) => parseInstant(time) ?? (context.addIssue("is no time"), z.NEVER));

/** What a program can say of who uses keys, beside how exact and how late. */
export const signalSettings = {
  names: z
    .enum(["consumer", "service", "none"])
    .default("consumer")
    .describe("What its `who` names. Default: consumer."),
  history: z
    .enum(["events", "last-only"])
    .default("events")
    .describe("Whether it tells of uses, or of the last one only. Default: events."),
  seesDenied: z.boolean().default(false).describe("Whether it tells of refused uses. Default: false."),
};

const event = z.object({
  who: z.string().default(""),
  first: instant,
  last: instant,
  count: z.int().min(1).default(1),
  outcome: z.enum(["ok", "denied"]).default("ok"),
  longestGap: z.number().nonnegative().optional(),
  own: z.boolean().optional(),
});

const answer = z.object({
  usage: z.array(
    z.object({
      keyId: z.string(),
      status: z.enum(["covered", "unknown"]),
      from: instant,
      until: instant,
      why: z.string().max(300).optional(),
      events: z.array(event).default([]),
    }),
  ),
});

/** `usage { keyIds, since }` → `{ usage: [{ keyId, status, from, until, why?, events }] }`. */
export class ExecUsage implements UsageMonitor {
  constructor(
    readonly traits: UsageTraits,
    private readonly program: Program,
    private readonly now: () => Instant,
  ) {}

  async usageOf(keyIds: readonly KeyId[], since: Instant, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>> {
    const now = this.now();
    const { usage } = await this.program.call("usage", answer, { ctx, mutates: false, request: { keyIds, since } });
    return new Map(
      keyIds.map((keyId): [KeyId, KeyUsage] => {
        const told = usage.find((one) => one.keyId === keyId);
        const why = "the program did not answer for this key";
        if (told === undefined) return [keyId, { status: "unknown", from: now, until: now, why, events: [] }];
        const { status, from, until } = told;
        const reason = status === "unknown" ? { why: told.why ?? "the program says so" } : {};
        return [keyId, { status, from, until, ...reason, events: told.events.map(plain) }];
      }),
    );
  }
}

function plain({ longestGap, own, ...rest }: z.output<typeof event>): UsageEvent {
  return { ...rest, ...(longestGap !== undefined && { longestGap }), ...(own !== undefined && { own }) };
}
