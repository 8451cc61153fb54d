import * as z from "zod";
import { parseDuration } from "../core/duration.ts";
import { TOPICS } from "../core/events.ts";
import { HOOK_POINTS } from "../core/rules.ts";
import { isRecord, NAME } from "./path.ts";
import { parseMoment } from "./blackouts.ts";
import { isZone, parseWindow } from "./window.ts";

/**
 * The policy's own keys. What belongs to an adapter is left loose here, marked by `part`, and checked by the
 * adapter's schema. Nothing has a default: what is absent must stay absent until `defaults` are merged under it.
 */

const NO_DURATION = "is no duration: write 90d, 1h30m, 0s";

const duration = z
  .string({ error: (issue) => (issue.input === undefined ? undefined : NO_DURATION) })
  .transform((text, context) => parseDuration(text) ?? refuse(context, NO_DURATION))
  .meta({ description: "A duration: 90d, 1h30m, 30s, 0s.", duration: true });

const name = z.string().regex(NAME, { error: "is no name: letters, digits, dot, dash and underscore, at most 63" });

function refuse(context: z.core.$RefinementCtx, message: string): never {
  context.addIssue({ code: "custom", message });
  return z.NEVER;
}

/** A map for which a plain value may stand: `schedule: 90d` is `schedule: { every: 90d }`. */
function orScalar<S extends z.ZodType>(key: string, schema: S) {
  const spread = (value: unknown) =>
    value === undefined || value === null || typeof value === "object" ? value : { [key]: value };
  return z.preprocess(spread, schema).meta({ scalar: key });
}

const zone = z.string().refine(isZone, { error: "is no time zone such as Europe/Berlin" });

const schedule = orScalar(
  "every",
  z
    .strictObject({
      every: duration
        .refine((ms) => ms > 0, { error: "must be more than 0s" })
        .optional()
        .describe("Age at which a key is replaced."),
      cron: z.string().optional().describe("Cron expression, instead of `every`."),
      zone: zone.optional().describe("Time zone of `cron`. Default: UTC."),
      spread: duration
        .optional()
        .describe(
          "Starts at a moment of its own in a span this long: before the age of `every`, after a time of `cron`.",
        ),
      window: z
        .string()
        .transform((text, context) => {
          const window = parseWindow(text);
          return typeof window === "string" ? refuse(context, window) : window;
        })
        .optional()
        .describe("When a rotation may start: Mon-Fri 09:00-16:00 Europe/Berlin."),
    })
    .refine((map) => map.every === undefined || map.cron === undefined, { error: "every and cron exclude each other" })
    .refine((map) => map.every === undefined || map.spread === undefined || map.spread < map.every, {
      error: "spread is not shorter than every",
      path: ["spread"],
    }),
);

const verify = z.strictObject({
  successes: z.int().min(1).optional().describe("Consecutive successes that prove a new key. Default: 3."),
  spread: duration.optional().describe("Least time from the first of them to the last. Default: 30s."),
  deadline: duration.optional().describe("The rotation fails when the key is not proven by then. Default: 5m."),
});

const overlap = z.strictObject({
  minimum: duration.optional().describe("Both keys live at least so long. Default: 24h."),
  quiet: duration.optional().describe("So long an old key must be silent. Default: 26h."),
  maximum: duration.optional().describe("After so long a person is asked. Default: 14d."),
  onMaximum: z.enum(["block", "alert"]).optional().describe("What then. Neither ever revokes. Default: block."),
  remind: duration.optional().describe("How often stragglers are named. Default: 24h."),
});

const soak = orScalar(
  "for",
  z.strictObject({
    for: duration.optional().describe("How long an old key stays disabled before it is deleted. Default: 72h."),
    onFailedUse: z.enum(["reenable", "alert"]).optional().describe("When somebody still tries it. Default: reenable."),
  }),
);

const retry = z.strictObject({
  attempts: z.int().min(1).optional().describe("Default: 5."),
  backoff: duration.optional().describe("Wait before the second attempt; doubles. Default: 30s."),
});

const rules = {
  schedule: schedule.optional().describe("When it falls due. Default: by hand only."),
  verify: verify.optional(),
  overlap: overlap.optional(),
  soak: soak.optional(),
  retry: retry.optional(),
  preflight: z.enum(["warn", "strict"]).optional().describe("What a check that cannot tell means. Default: warn."),
};

export const defaultsSchema = z.strictObject(rules);

export const timingSchema = z.strictObject({
  listSettle: duration.optional().describe("A new key may be missing from listings for so long."),
  propagation: duration
    .optional()
    .describe("Readers, or the provider itself, may still see the old state for so long."),
  settle: duration.optional().describe("A request may still take effect so long after its sender gave up."),
  timeGranularity: duration.optional().describe("Creation times are cut to multiples of this."),
});

/** The part of an adapter's map that is the policy's. */
export const partKeys = z.strictObject({ type: z.string(), timing: timingSchema.optional() });
export const notifierKeys = z.strictObject({
  type: z.string(),
  events: z
    .array(z.enum(["*", ...TOPICS]))
    .optional()
    .describe("Which events are sent. Default: all (`*`)."),
});
export const deliveryKeys = z.strictObject({
  use: z.string().optional().describe("A name under `stores`."),
  type: z.string().optional(),
  fields: z.record(z.string(), z.string()).optional().describe("Name in the store → field of the issuer."),
  timing: timingSchema.optional(),
});
export const usageKeys = z.strictObject({
  type: z.string(),
  granularity: duration.optional().describe("Instead of the signal's own: two uses closer than this may show as one."),
  lag: duration.optional().describe("Instead of the signal's own: a use may show up so late."),
  optional: z.boolean().optional().describe("Its `unknown` does not block."),
});
export const stateKeys = z.strictObject({
  type: z.string().optional(),
  url: z.string().optional(),
  lease: duration.optional(),
});

/** A map whose further keys are an adapter's. `kind` says whose. */
function part(kind: string) {
  return z.custom<Record<string, unknown>>(isRecord, { error: "must be a map" }).meta({ part: kind });
}

const consumer = z.strictObject({
  name: name.describe("As it is called in `status` and `ack`."),
  match: z.array(z.string().min(1)).min(1).optional().describe("What monitors call it. Default: its name, and name-*."),
  cadence: duration.optional().describe("How often it runs or reads, at the least."),
  cache: duration.optional().describe("How long it keeps a value."),
  required: z.boolean().optional().describe("Revocation waits for its adoption. Default: true."),
  notify: z.string().optional().describe("A name under `notifiers`."),
});

const asHook = (value: unknown) => (typeof value === "string" || Array.isArray(value) ? { run: value } : value);
const hook = z
  .preprocess(
    asHook,
    z.strictObject({
      run: z
        .union([z.string().min(1), z.tuple([z.string()], z.string())])
        .describe("A text for sh -c, or a list of arguments."),
      passValue: z.boolean().optional().describe("Puts the value into the JSON on stdin."),
      timeout: duration.optional().describe("Default: 10m."),
    }),
  )
  .meta({ scalar: "run" });

export const secretSchema = z.strictObject({
  issuer: part("issuer"),
  stores: z.array(part("delivery")).min(1).describe("Where the key is delivered."),
  usage: z
    .union([z.literal("none"), z.array(part("usage")).min(1)], { error: "must be none or a list" })
    .optional()
    .describe("Who says whether a key is still used."),
  consumers: z.array(consumer).optional().describe("Who must not break."),
  hooks: z
    .strictObject(Object.fromEntries(HOOK_POINTS.map((point) => [point, z.array(hook).optional()])))
    .optional()
    .describe("Your commands at four points of a rotation."),
  tags: z.array(z.string().min(1)).optional().describe("For `--tag`."),
  owner: z.string().optional().describe("For people; shown in `status --json`."),
  runbook: z.string().optional().describe("For people: where to read on."),
  acceptOutage: z.boolean().optional().describe("Allows steps that may break consumers."),
  enabled: z
    .boolean()
    .optional()
    .describe("`false`: the schedule starts nothing; what is in flight is finished. Default: true."),
  ...rules,
});

const NO_MOMENT = "is no moment: write 2026-12-20 or 2026-12-20T18:00";
const moment = z.string().refine((text) => parseMoment(text, "UTC", false) !== null, { error: NO_MOMENT });
const whose = {
  zone: zone.optional().describe("Time zone of what names none. Default: UTC."),
  tags: z.array(z.string().min(1)).min(1).optional().describe("For secrets with one of these tags. Default: for all."),
};
export const blackoutSchema = z
  .strictObject({
    from: moment.optional().describe("First day, or moment."),
    to: moment.optional().describe("Last day, which is part of it, or moment."),
    reason: z.string().min(1).optional().describe("For people. Default: blackout."),
    ics: z.string().min(1).optional().describe("Instead: an iCalendar file whose events are blackouts."),
    ...whose,
  })
  .superRefine((map, context) => {
    const dated = map.from !== undefined || map.to !== undefined;
    if (map.ics !== undefined && (dated || map.reason !== undefined))
      context.addIssue({ code: "custom", message: "ics stands alone: its events have their times and names" });
    else if (map.ics === undefined && (map.from === undefined || map.to === undefined))
      context.addIssue({ code: "custom", message: "needs `from` and `to`, or `ics`" });
  });

const count = z.int().min(1);
const maxConcurrent = orScalar("overall", z.record(z.string(), count));

const named = (inner: z.ZodType) => z.record(z.string(), inner).meta({ named: true });
const shared = {
  stores: named(part("store")).optional().describe("Stores by name, for several secrets to use."),
  notifiers: named(part("notifier")).optional().describe("Whom to tell, by name."),
  secrets: named(secretSchema).optional().describe("What is rotated, by name."),
};

export const policySchema = z.strictObject({
  version: z.literal(1).describe("Of the format."),
  include: z
    .array(z.string().min(1))
    .optional()
    .describe("Files with further secrets, stores and notifiers; * stands for any part of a name."),
  state: orScalar("url", part("state"))
    .optional()
    .describe("Where the state lives. Default: sqlite at .keyturn/state.db."),
  maxConcurrent: maxConcurrent
    .optional()
    .describe("How many secrets are worked on at a time: a number, or `overall` and by issuer type. Default: 16."),
  blackouts: z
    .array(blackoutSchema)
    .optional()
    .describe("When the schedule starts nothing and nothing is revoked. Emergencies go on."),
  defaults: defaultsSchema.optional().describe("What holds for every secret that does not say otherwise."),
  ...shared,
});

/** The same keys with everything inside left for a second look, so that one bad secret does not hide the others. */
const later = z.unknown().optional();
const outer = { stores: later, notifiers: later, secrets: later };
export const mainFileSchema = policySchema.extend({ state: later, defaults: later, ...outer });
export const includedFileSchema = z.strictObject(outer);
