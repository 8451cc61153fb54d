import * as z from "zod";
import type { Instant } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import { matches } from "../../core/usage.ts";
import type { AdapterDeps, UsageAdapter } from "../../ports/adapter.ts";
import type { Ctx } from "../../ports/context.ts";
import type { KeyId } from "../../ports/issuer.ts";
import type { KeyUsage, UsageMonitor, UsageTraits } from "../../ports/usage.ts";
import { parseInstant } from "../instants.ts";
import { apiSettings, getJson } from "../json-api.ts";
import { atPath, textAt } from "../json-path.ts";
import { duration, ms } from "../settings.ts";

const KEY = "${key}";

const place = (what: string) => z.string().min(1).describe(`Where an entry says ${what}.`);

const settings = z.strictObject({
  url: z
    .string()
    .min(1)
    .describe("What is asked, by GET; `${key}` stands for a key id, without it one answer must tell of every key."),
  ...apiSettings,
  entries: z
    .string()
    .min(1)
    .optional()
    .describe("Where the answer has its entries: a path (`data.callers`, `/data/a.b`). Default: the answer itself."),
  fields: z
    .strictObject({
      last: place("when it was last; nothing there means never"),
      key: place("which key id; needed where the url has no `${key}`").optional(),
      who: place("who used the key. Default: nobody is named").optional(),
      first: place("when it was first. Default: only the last use is known").optional(),
      count: place("how often. Default: once").optional(),
      status: place("how it ended. Default: all uses were accepted").optional(),
    })
    .describe("Paths inside of an entry."),
  denied: z
    .array(z.union([z.string().min(1), z.int()]))
    .default(["401", "denied"])
    .describe("What `status` says of a use that was refused because of the key. Default: 401 and denied."),
  keeps: duration(1).describe("How long the API remembers a use: silence before that is not known."),
  from: z
    .string()
    .min(1)
    .optional()
    .describe("Where the answer says since when it has watched. Default: `keeps` alone."),
  until: z
    .string()
    .min(1)
    .optional()
    .describe("Where the answer says up to when it has seen everything. Default: the time of the answer."),
  own: z
    .array(z.string().min(1))
    .default(["keyturn", "keyturn/*"])
    .describe("What keyturn itself is called there. Default: keyturn and keyturn/*."),
});

type Settings = z.output<typeof settings>;

/**
 * Uses of a key as an HTTP API of your own tells them in JSON.
 *
 * Nobody but you knows how exact and how late it is, so the policy says `granularity` and `lag`. An answer with
 * nothing at `entries`, a time that cannot be read or an entry without a key is `unknown`; so is everything while no
 * key asked about has any use there: the API may call keys by other names.
 */
export const adapter: UsageAdapter<typeof settings> = {
  type: "http-json",
  settings,
  asks: ["granularity", "lag"],
  create: (options, _secret, deps) => new HttpJson(options, deps),
};

interface Told {
  readonly from: Instant;
  readonly until: Instant;
  /** Key → its uses; null where the answer is not what the policy says. */
  readonly events: ReadonlyMap<KeyId, KeyUsage["events"][number][]> | null;
  readonly why: string;
}

class HttpJson implements UsageMonitor {
  readonly traits: UsageTraits;
  readonly #denied: ReadonlySet<string>;

  constructor(
    private readonly options: Settings,
    private readonly deps: AdapterDeps,
  ) {
    const { fields, denied } = options;
    this.traits = {
      granularity: 0,
      lag: 0,
      names: fields.who === undefined ? "none" : "consumer",
      history: fields.first === undefined ? "last-only" : "events",
      seesDenied: fields.status !== undefined,
    };
    this.#denied = new Set(denied.map(String));
  }

  async usageOf(keyIds: readonly KeyId[], _since: Instant, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>> {
    const { url, fields } = this.options;
    const perKey = url.includes(KEY);
    if (!perKey && fields.key === undefined) {
      const hint = "write ${key} into `url`, or `fields.key`";
      throw new ProviderError("invalid", "no", "asking for usage: nothing says which key an entry is about", { hint });
    }
    const told = new Map<KeyId, Told>();
    if (!perKey) {
      const all = await this.#ask(url, null, ctx);
      for (const keyId of keyIds) told.set(keyId, all);
    } else {
      for (const keyId of keyIds)
        told.set(
          keyId,
          await this.#ask(
            url.replaceAll(KEY, () => encodeURIComponent(keyId)),
            keyId,
            ctx,
          ),
        );
    }
    const seen = keyIds.some((keyId) => (told.get(keyId)?.events?.get(keyId) ?? []).length > 0);
    return new Map(keyIds.map((keyId) => [keyId, usageOf(told.get(keyId) as Told, keyId, seen)]));
  }

  async #ask(url: string, keyId: KeyId | null, ctx: Ctx): Promise<Told> {
    const { entries, keeps, from, until } = this.options;
    const now = this.deps.now();
    const not = (why: string): Told => ({ from: now, until: now, events: null, why });
    const asked = await getJson(this.options, url, "asking for usage", this.deps.env, ctx).catch((error: unknown) => {
      if (error instanceof ProviderError && error.kind === "not-found" && keyId !== null) return null;
      throw error;
    });
    if (asked === null) return not("the API answered 404 for this key");
    const { document, answer } = asked;
    const answered = parseInstant(answer.headers.date) ?? now;
    const watermark = until === undefined ? answered : parseInstant(atPath(document, until));
    const since = from === undefined ? -Infinity : parseInstant(atPath(document, from));
    if (watermark === null) return not(`the answer has no time at ${until ?? ""}`);
    if (since === null) return not(`the answer has no time at ${from ?? ""}`);
    const found = entries === undefined ? document : atPath(document, entries);
    if (typeof found !== "object" || found === null) return not(`the answer has no entries at ${entries ?? "its top"}`);
    const events = this.#events(Array.isArray(found) ? found : [found], keyId);
    if (events === null) return not("an entry cannot be read: its times or its key are not where `fields` says");
    return { from: Math.min(watermark, Math.max(watermark - ms(keeps), since)), until: watermark, events, why: "" };
  }

  #events(entries: readonly unknown[], asked: KeyId | null): Told["events"] {
    const { fields, own } = this.options;
    const events = new Map<KeyId, KeyUsage["events"][number][]>();
    for (const entry of entries) {
      const keyId = asked === null || fields.key !== undefined ? textAt(entry, fields.key ?? "") : asked;
      if (keyId === null) return null;
      const last = instantAt(entry, fields.last);
      const first = fields.first === undefined ? last : instantAt(entry, fields.first);
      if (last === "unreadable" || first === "unreadable") return null;
      if (last === null) continue;
      const who = fields.who === undefined ? "" : (textAt(entry, fields.who) ?? "");
      const count = Number(fields.count === undefined ? 1 : (textAt(entry, fields.count) ?? 1));
      const status = fields.status === undefined ? null : textAt(entry, fields.status);
      const event = {
        who,
        first: Math.min(first ?? last, last),
        last,
        count: Number.isFinite(count) && count >= 1 ? Math.floor(count) : 1,
        outcome: status !== null && this.#denied.has(status) ? ("denied" as const) : ("ok" as const),
        own: own.some((glob) => matches(glob, who)),
      };
      events.set(keyId, [...(events.get(keyId) ?? []), event]);
    }
    return events;
  }
}

function usageOf({ from, until, events, why }: Told, keyId: KeyId, seen: boolean): KeyUsage {
  if (events === null) return { status: "unknown", from, until, why, events: [] };
  if (seen) return { status: "covered", from, until, events: events.get(keyId) ?? [] };
  return { status: "unknown", from: until, until, why: "none of this secret's keys was ever used there", events: [] };
}

/** null: nothing stands there, which is how APIs say "never". */
function instantAt(entry: unknown, path: string): Instant | null | "unreadable" {
  const found = atPath(entry, path);
  if (found === undefined || found === null || found === "" || found === 0) return null;
  return parseInstant(found) ?? "unreadable";
}
