import { normalize } from "node:path";
import type { StoreEntry } from "../adapters/registry.ts";
import type { StoreAdapter } from "../ports/adapter.ts";
import { missingIssue, valueIssue } from "./issues.ts";
import type { DeliveryPolicy, StorePolicy } from "./model.ts";
import { nearest, suggestion } from "./nearest.ts";
import { own, type Path } from "./path.ts";
import { adapterOf, asMap, checkSettings, ownKeys, warnTiming, type Gathered } from "./parts.ts";
import { deliveryKeys, partKeys } from "./schema.ts";

/** A store of the policy and what checking it brought up. */
export interface StoreDraft {
  readonly policy: StorePolicy;
  readonly adapter: StoreAdapter;
  /** With the adapter's defaults, references unresolved. */
  readonly settings: Readonly<Record<string, unknown>>;
}

export interface DeliveryDraft {
  readonly policy: DeliveryPolicy;
  /** Whether it can be the authority. */
  readonly staged: boolean;
  /** Equal for deliveries that write the same object, as far as the policy shows. */
  readonly object: string;
  /** Names in the store that it writes. */
  readonly writes: readonly string[];
}

const STORE_KEYS = Object.keys(partKeys.shape);
const DELIVERY_KEYS = Object.keys(deliveryKeys.shape);

export async function buildStore(raw: unknown, at: Path, gathered: Gathered): Promise<StoreDraft | null> {
  const map = asMap(raw, at, gathered);
  const adapter = map && (await adapterOf("store", map, at, gathered));
  if (!map || !adapter) return null;
  const { own: mine, rest } = ownKeys(partKeys, map, at, gathered);
  const settings = checkSettings(adapter.settings, rest, at, STORE_KEYS, gathered);
  if (mine === null || settings === null) return null;
  warnTiming(mine.timing ?? null, adapter.published, [...at, "timing"], gathered);
  return { policy: { type: adapter.type, settings: rest, timing: mine.timing ?? null, at }, adapter, settings };
}

/** One item of a secret's `stores`. `issuerFields` is null where the issuer is not known. */
export async function buildDelivery(
  raw: unknown,
  at: Path,
  secret: string,
  issuerFields: readonly string[] | null,
  stores: ReadonlyMap<string, StoreDraft | null>,
  gathered: Gathered,
): Promise<DeliveryDraft | null> {
  const map = asMap(raw, at, gathered);
  if (!map) return null;
  const found = await storeOf(map, at, stores, gathered);
  if (!found) return null;
  const { store, use, settings, delivery } = found;
  const { own: mine } = ownKeys(deliveryKeys, pick(map, DELIVERY_KEYS), at, gathered);
  const parsed = checkSettings(store.adapter.delivery, delivery, at, DELIVERY_KEYS, gathered);
  if (mine === null || parsed === null) return null;
  if (mine.fields && !fieldsExist(mine.fields, [...at, "fields"], issuerFields, gathered)) return null;
  if (!mine.fields && issuerFields?.length === 0 && !store.adapter.ownObject) {
    gathered.issues.push({
      ...missingIssue(at, "fields"),
      hint: "what this issuer gives shows only when it runs: name it here, `fields: { NAME: field }`",
    });
    return null;
  }

  const fields = mine.fields ?? null;
  const target = { secret, fields: fields ?? Object.fromEntries((issuerFields ?? []).map((field) => [field, field])) };
  const name = store.adapter.nameOf(store.settings, parsed, target);
  warnTiming(mine.timing ?? null, store.adapter.published, [...at, "timing"], gathered);
  const { staged } = own(gathered.registry.store, store.policy.type) as StoreEntry;
  return {
    staged: typeof staged === "boolean" ? staged : staged(store.settings),
    policy: {
      id: `${use ?? store.policy.type}/${name}`,
      use,
      name,
      type: store.policy.type,
      settings,
      at: store.policy.at,
      delivery,
      deliveryAt: at,
      fields,
      timing: mine.timing || store.policy.timing ? { ...store.policy.timing, ...mine.timing } : null,
      authority: false,
    },
    object: JSON.stringify([store.policy.type, store.settings, name], (_, value) =>
      typeof value === "string" && value.startsWith("./") ? normalize(value) : value,
    ),
    writes: Object.keys(target.fields),
  };
}

type Found = {
  store: StoreDraft;
  use: string | null;
  settings: Record<string, unknown>;
  delivery: Record<string, unknown>;
};

async function storeOf(
  map: Record<string, unknown>,
  at: Path,
  stores: ReadonlyMap<string, StoreDraft | null>,
  gathered: Gathered,
): Promise<Found | null> {
  const { issues } = gathered;
  const use = own(map, "use");
  if (use === undefined) return inlineStore(map, at, gathered);
  if (own(map, "type") !== undefined) {
    issues.push(valueIssue([...at, "type"], "use and type exclude each other"));
  } else if (typeof use !== "string") {
    issues.push(valueIssue([...at, "use"], "must be a text"));
  } else if (!stores.has(use)) {
    const shown = nearest(use, stores.keys()) === null ? "" : ` "${use}"`;
    issues.push(valueIssue([...at, "use"], `unknown store${shown}${suggestion(use, stores.keys())}`));
  } else {
    const store = stores.get(use) ?? null;
    return store && { store, use, settings: store.policy.settings, delivery: omit(map, DELIVERY_KEYS) };
  }
  return null;
}

/** `type:` in the delivery itself: its keys are the store's and the delivery's together. */
async function inlineStore(map: Record<string, unknown>, at: Path, gathered: Gathered): Promise<Found | null> {
  if (own(map, "type") === undefined && !Object.keys(map).some((key) => nearest(key, ["type", "use"]) !== null)) {
    gathered.issues.push({
      ...missingIssue(at, "use"),
      hint: "a delivery says `use: NAME` of a store under `stores`, or its own `type:`",
    });
    return null;
  }
  const adapter = await adapterOf("store", map, at, gathered);
  if (!adapter) return null;
  const ofStore = Object.keys(adapter.settings.shape);
  const delivery = omit(map, [...DELIVERY_KEYS, ...ofStore]);
  const settings = pick(map, ofStore);
  const parsed = checkSettings(adapter.settings, settings, at, [], gathered);
  if (parsed === null) {
    // A key that is missing is often one that is misspelt: both are told.
    checkSettings(adapter.delivery, delivery, at, [...DELIVERY_KEYS, ...ofStore], gathered);
    return null;
  }
  return {
    store: { policy: { type: adapter.type, settings, timing: null, at }, adapter, settings: parsed },
    use: null,
    settings,
    delivery,
  };
}

function fieldsExist(
  fields: Record<string, string>,
  at: Path,
  issuerFields: readonly string[] | null,
  gathered: Gathered,
): boolean {
  // An issuer whose fields only show when it runs declares none.
  if (!issuerFields || issuerFields.length === 0) return true;
  const wrong = Object.entries(fields).filter(([, field]) => !issuerFields.includes(field));
  for (const [key, field] of wrong)
    gathered.issues.push(valueIssue([...at, key], `is no field of the issuer${suggestion(field, issuerFields)}`));
  if (Object.keys(fields).length === 0) gathered.issues.push(valueIssue(at, "must not be empty"));
  return wrong.length === 0;
}

/** The encrypted store on this machine, for secrets that have mirrors only. */
export async function implicitLocal(
  at: Path,
  secret: string,
  issuerFields: readonly string[],
  gathered: Gathered,
): Promise<DeliveryDraft | null> {
  return buildDelivery({ type: "local" }, at, secret, issuerFields, new Map(), gathered);
}

function pick(map: Record<string, unknown>, keys: readonly string[]): Record<string, unknown> {
  const picked: Record<string, unknown> = {};
  for (const key of keys) if (Object.hasOwn(map, key)) picked[key] = map[key];
  return picked;
}

function omit(map: Record<string, unknown>, keys: readonly string[]): Record<string, unknown> {
  const rest: Record<string, unknown> = {};
  for (const key of Object.keys(map)) if (!keys.includes(key)) rest[key] = map[key];
  return rest;
}
