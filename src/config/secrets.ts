import type { z } from "zod";
import type { IssuerAdapter, UsageAdapter } from "../ports/adapter.ts";
import { HOOK_POINTS, type HookPoint } from "../core/rules.ts";
import { stringIssues } from "./credentials.ts";
import { missingIssue, valueIssue } from "./issues.ts";
import type { ConsumerPolicy, HookPolicy, IssuerPolicy, Schedule, SecretPolicy, UsagePolicy } from "./model.ts";
import { nearest } from "./nearest.ts";
import { isRecord, own, type Path } from "./path.ts";
import { adapterOf, asMap, checkSettings, ownKeys, resolveNow, warnTiming, type Gathered } from "./parts.ts";
import { partKeys, secretSchema, usageKeys, type defaultsSchema } from "./schema.ts";
import { buildDelivery, implicitLocal, type DeliveryDraft, type StoreDraft } from "./stores.ts";
import { check, unknownKey } from "./zod-issues.ts";

export type Defaults = z.output<typeof defaultsSchema>;

export interface SecretDraft {
  readonly policy: SecretPolicy;
  /** In the order of the file, the implicit one last. */
  readonly deliveries: readonly DeliveryDraft[];
  readonly issuer: IssuerAdapter;
}

const S = 1000;
const HOUR = 3600 * S;
const DAY = 24 * HOUR;

/** For production, where a nightly job exists. */
const BUILT_IN = {
  verify: { successes: 3, spread: 30 * S, deadline: 300 * S },
  overlap: { minimum: 24 * HOUR, quiet: 26 * HOUR, maximum: 14 * DAY, onMaximum: "block", remind: 24 * HOUR },
  soak: { for: 72 * HOUR, onFailedUse: "reenable" },
  retry: { attempts: 5, backoff: 30 * S },
  preflight: "warn",
} as const;
const HOOK_TIMEOUT = 600 * S;

/** What adapters check, and hooks, which sh reads, keep their references until they are used. */
const KEPT = ["issuer", "stores", "usage", "hooks"];

export async function buildSecret(
  name: string,
  raw: unknown,
  defaults: Defaults,
  stores: ReadonlyMap<string, StoreDraft | null>,
  gathered: Gathered,
): Promise<SecretDraft | null> {
  const at = ["secrets", name];
  const map = asMap(raw, at, gathered);
  if (!map) return null;
  const now: Record<string, unknown> = { ...map };
  for (const key of Object.keys(map)) if (!KEPT.includes(key)) now[key] = resolveNow(map[key], [...at, key], gathered);
  const { data, issues } = check(secretSchema, now, at);
  gathered.issues.push(...issues, ...stringIssues(own(map, "hooks"), [...at, "hooks"]));

  // Parts are looked at even where the rest is wrong, so that everything is told at once.
  const issuer = isRecord(map.issuer) ? await buildIssuer(map.issuer, [...at, "issuer"], gathered) : null;
  const fields = issuer?.adapter.fields ?? null;
  const deliveries: (DeliveryDraft | null)[] = [];
  for (const [index, item] of (Array.isArray(map.stores) ? map.stores : []).entries()) {
    if (isRecord(item))
      deliveries.push(await buildDelivery(item, [...at, "stores", index], name, fields, stores, gathered));
  }
  const isMisspelt =
    own(map, "usage") === undefined && Object.keys(map).some((key) => nearest(key, ["usage"]) !== null);
  const usage = isMisspelt ? null : await buildUsage(map.usage, [...at, "usage"], issuer?.adapter ?? null, gathered);
  if (!data || !issuer || usage === null || !deliveries.every((delivery) => delivery !== null)) return null;

  if (!deliveries.some((delivery) => delivery.staged)) {
    const local = await implicitLocal([...at, "stores"], name, issuer.adapter.fields, gathered);
    if (!local) return null;
    deliveries.push(local);
  }
  const authority = deliveries.find((delivery) => delivery.staged) as DeliveryDraft;
  const ordered = withUniqueIds([authority, ...deliveries.filter((delivery) => delivery !== authority)]);
  return {
    issuer: issuer.adapter,
    deliveries,
    policy: {
      name,
      issuer: issuer.policy,
      deliveries: ordered.map((delivery, index) => ({ ...delivery.policy, authority: index === 0 })),
      usage,
      consumers: (data.consumers ?? []).map(toConsumer),
      hooks: Object.fromEntries(HOOK_POINTS.map((point) => [point, toHooks(data.hooks?.[point])])) as Record<
        HookPoint,
        HookPolicy[]
      >,
      tags: data.tags ?? [],
      owner: data.owner ?? null,
      runbook: data.runbook ?? null,
      acceptOutage: data.acceptOutage ?? false,
      enabled: data.enabled ?? true,
      schedule: toSchedule(defaults.schedule, data.schedule),
      blackouts: [],
      verify: { ...BUILT_IN.verify, ...defaults.verify, ...data.verify } as SecretPolicy["verify"],
      overlap: { ...BUILT_IN.overlap, ...defaults.overlap, ...data.overlap } as SecretPolicy["overlap"],
      soak: { ...BUILT_IN.soak, ...defaults.soak, ...data.soak } as SecretPolicy["soak"],
      retry: { ...BUILT_IN.retry, ...defaults.retry, ...data.retry } as SecretPolicy["retry"],
      preflight: data.preflight ?? defaults.preflight ?? BUILT_IN.preflight,
    },
  };
}

async function buildIssuer(
  raw: Record<string, unknown>,
  at: Path,
  gathered: Gathered,
): Promise<{ policy: IssuerPolicy; adapter: IssuerAdapter } | null> {
  const adapter = await adapterOf("issuer", raw, at, gathered);
  if (!adapter) return null;
  const { own: mine, rest } = ownKeys(partKeys, raw, at, gathered);
  const settings = checkSettings(adapter.settings, rest, at, Object.keys(partKeys.shape), gathered);
  if (mine === null || settings === null) return null;
  warnTiming(mine.timing ?? null, adapter.published, [...at, "timing"], gathered);
  return { policy: { type: adapter.type, settings: rest, timing: mine.timing ?? null, at }, adapter };
}

async function buildUsage(
  raw: unknown,
  at: Path,
  issuer: IssuerAdapter | null,
  gathered: Gathered,
): Promise<"none" | UsagePolicy[] | null> {
  if (raw === "none") return "none";
  const entries = raw === undefined ? [{ type: "issuer" }] : raw;
  if (!Array.isArray(entries)) return null;
  const built: UsagePolicy[] = [];
  for (const [index, entry] of entries.entries()) {
    const place = [...at, index];
    if (!isRecord(entry)) continue;
    const { own: mine, rest } = ownKeys(usageKeys, entry, place, gathered);
    if (mine === null) continue;
    const settings =
      mine.type === "issuer"
        ? issuerUsage(rest, place, issuer, raw === undefined ? at.slice(0, -1) : place, gathered)
        : await monitorUsage(entry, rest, place, gathered);
    if (!settings) continue;
    const { granularity = null, lag = null, optional = settings.optional ?? false } = mine;
    for (const key of settings.asks ?? []) {
      if (mine[key] === undefined) gathered.issues.push(missingIssue(place, key));
    }
    warnTiming({ granularity, lag }, settings.published, place, gathered);
    built.push({ type: mine.type, settings: rest, at: place, granularity, lag, optional });
  }
  return built.length === entries.length ? built : null;
}

type Published = Pick<UsageAdapter, "published" | "asks" | "optional">;

/** `type: issuer`: the issuer itself answers, where it can. */
function issuerUsage(
  rest: Record<string, unknown>,
  at: Path,
  issuer: IssuerAdapter | null,
  tellAt: Path,
  gathered: Gathered,
): Published | null {
  for (const key of Object.keys(rest)) gathered.issues.push(unknownKey([...at, key], Object.keys(usageKeys.shape)));
  if (issuer?.reportsUsage === false) {
    gathered.issues.push({
      ...valueIssue(tellAt, "this issuer does not report who uses its keys"),
      mark: "key",
      hint: "name a monitor under `usage`, or write `usage: none`: then acks of the required consumers stand in",
    });
  }
  return issuer && { published: issuer.published ?? {} };
}

async function monitorUsage(
  entry: Record<string, unknown>,
  rest: Record<string, unknown>,
  at: Path,
  gathered: Gathered,
): Promise<Published | null> {
  const near = typeof entry.type === "string" ? nearest(entry.type, ["issuer"]) : null;
  if (near !== null) {
    gathered.issues.push(
      valueIssue([...at, "type"], `unknown usage type "${String(entry.type)}": did you mean "issuer"?`),
    );
    return null;
  }
  const adapter = await adapterOf("usage", entry, at, gathered);
  const settings = adapter && checkSettings(adapter.settings, rest, at, Object.keys(usageKeys.shape), gathered);
  return settings && adapter;
}

type Secret = z.output<typeof secretSchema>;

function toConsumer(raw: NonNullable<Secret["consumers"]>[number]): ConsumerPolicy {
  const { name, match = [name, `${name}-*`], cadence = null, cache = null, required = true, notify = null } = raw;
  return { name, match, cadence, cache, required, notify };
}

function toHooks(
  raw: readonly { run: HookPolicy["run"]; passValue?: boolean | undefined; timeout?: number | undefined }[] | undefined,
): HookPolicy[] {
  return (raw ?? []).map(({ run, passValue = false, timeout = HOOK_TIMEOUT }) => ({ run, passValue, timeout }));
}

/** Merged key by key, but a secret's own `every` or `cron` takes the place of either. */
function toSchedule(inherited: Defaults["schedule"], mine: Defaults["schedule"]): Schedule | null {
  const when = mine?.every !== undefined || mine?.cron !== undefined ? mine : inherited;
  const { every = null, cron = null } = when ?? {};
  if (every === null && cron === null) return null;
  return {
    every,
    cron,
    zone: mine?.zone ?? inherited?.zone ?? "UTC",
    window: mine?.window ?? inherited?.window ?? null,
    spread: mine?.spread ?? inherited?.spread ?? 0,
  };
}

function withUniqueIds(deliveries: readonly DeliveryDraft[]): DeliveryDraft[] {
  const seen = new Map<string, number>();
  return deliveries.map((delivery) => {
    const { id } = delivery.policy;
    const count = (seen.get(id) ?? 0) + 1;
    seen.set(id, count);
    return count === 1 ? delivery : { ...delivery, policy: { ...delivery.policy, id: `${id}#${count}` } };
  });
}
