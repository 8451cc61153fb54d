import { isDeepStrictEqual } from "node:util";
import { load as parseYaml, CORE_SCHEMA } from "js-yaml";
import type * as z from "zod";
import type { Addition, Line } from "../config/extend.ts";
import { suggestion } from "../config/nearest.ts";
import type { Catalogue } from "../wire.ts";
import { usageError } from "./options.ts";

type Settings = Readonly<Record<string, unknown>>;

export interface IssuerWish {
  readonly type: string;
  readonly settings: Settings;
}

/** One place of delivery: at a store that the policy has, or at one of its own. */
export interface DeliveryWish {
  /** Of a store under `stores:`; null: `type` and `settings` are for a new one. */
  readonly use: string | null;
  readonly type: string;
  readonly settings: Settings;
  readonly delivery: Settings;
  /** Name in the store → field of the issuer; null: the issuer's names. */
  readonly fields: Readonly<Record<string, string>> | null;
}

/** A secret that is to be added to a policy. */
export interface Wish {
  readonly name: string;
  readonly issuer: IssuerWish;
  readonly deliveries: readonly DeliveryWish[];
  /** Age at which a key is replaced; null: by hand only. */
  readonly every: string | null;
}

/** A store that the policy has already, as far as it concerns a new delivery. */
export interface KnownStore {
  readonly type: string;
  readonly settings: Settings;
}

/** `aws-iam,user=payments-app`, taken apart; a comma counts where a key and `=` follow it. */
export function partsOf(
  option: string,
  text: string,
): { readonly head: string; readonly rest: ReadonlyMap<string, string> } {
  const [head = "", ...pairs] = text.split(/,(?=[\w-]+(?:\.[\w-]+)*=)/);
  if (!/^[\w.-]+$/.test(head)) throw usageError(`${option}: begin with a type`, `for example ${option} TYPE,key=value`);
  const rest = new Map(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
  return { head, rest };
}

/** `--issuer TYPE,key=value…`. */
export function issuerWish(text: string, { issuer }: Catalogue): IssuerWish {
  const { head, rest } = partsOf("--issuer", text);
  const adapter = issuer.get(head);
  if (adapter === undefined) throw usageError(`--issuer: unknown type ${head}${suggestion(head, issuer.keys())}`);
  return { type: head, settings: settingsOf(adapter.settings, rest, `--issuer ${head}`) };
}

/** `--store TYPE,key=value…` or `--store NAME,key=value…`: keys of the store and of the delivery together. */
export function deliveryWish(text: string, { store }: Catalogue, known: ReadonlyMap<string, KnownStore>): DeliveryWish {
  const { head, rest } = partsOf("--store", text);
  const there = known.get(head);
  const adapter = store.get(there?.type ?? head);
  if (adapter === undefined)
    throw usageError(`--store: unknown type or name ${head}${suggestion(head, [...store.keys(), ...known.keys()])}`);
  const isField = (key: string) => key.startsWith("fields.");
  const fields = [...rest].filter(([key]) => isField(key)).map(([key, value]) => [key.slice("fields.".length), value]);
  const others = [...rest].filter(([key]) => !isField(key));
  const isOwn = ([key]: [string, string]) => Object.hasOwn(adapter.settings.shape, key.split(".")[0] as string);
  const what = `--store ${head}`;
  return {
    use: there === undefined ? null : head,
    type: adapter.type,
    settings: there?.settings ?? settingsOf(adapter.settings, new Map(others.filter(isOwn)), what),
    delivery: settingsOf(
      adapter.delivery,
      new Map(there === undefined ? others.filter((one) => !isOwn(one)) : others),
      what,
    ),
    fields: fields.length === 0 ? null : Object.fromEntries(fields),
  };
}

/** Keys that a schema cannot do without. */
export function requiredKeys(schema: z.ZodObject): string[] {
  return Object.keys(schema.shape).filter((key) => !shapeOf(schema, key).safeParse(undefined).success);
}

export function isCredential(schema: z.ZodObject, key: string): boolean {
  return shapeOf(schema, key).meta()?.["credential"] === true;
}

export function descriptionOf(schema: z.ZodObject, key: string): string | undefined {
  return Object.hasOwn(schema.shape, key) ? shapeOf(schema, key).description : undefined;
}

/** A text as the setting's own kind: a list, a number or true where a text would not do. */
export function valueOf(schema: z.ZodObject, key: string, text: string): unknown {
  if (!Object.hasOwn(schema.shape, key) || shapeOf(schema, key).safeParse(text).success) return text;
  try {
    return parseYaml(text, { schema: CORE_SCHEMA });
  } catch {
    return text;
  }
}

function shapeOf(schema: z.ZodObject, key: string): z.ZodType {
  return schema.shape[key] as z.ZodType;
}

function settingsOf(schema: z.ZodObject, pairs: ReadonlyMap<string, string>, what: string): Settings {
  const settings: Record<string, unknown> = {};
  for (const [key, text] of pairs) {
    const [first = "", ...deeper] = key.split(".");
    if (deeper.length === 0) settings[first] = valueOf(schema, first, text);
    else settings[first] = { ...(settings[first] as object | undefined), [deeper.join(".")]: text };
  }
  const missing = requiredKeys(schema).filter((key) => !Object.hasOwn(settings, key));
  if (missing.length > 0) {
    const shown = missing.map((key) => `${key}=${isCredential(schema, key) ? "'${env:NAME}'" : "…"}`);
    throw usageError(`${what}: ${missing.join(", ")} missing`, `write ${what},${shown.join(",")}`);
  }
  return settings;
}

/** The entries that a wish adds to a policy which has these stores, each line with what it means. */
export function additionOf(wish: Wish, all: Catalogue, known: ReadonlyMap<string, KnownStore>): Addition {
  const issuer = all.issuer.get(wish.issuer.type);
  const stores: Line[] = [];
  const taken = new Map(known);
  const items = wish.deliveries.map((one): Line[] => {
    const adapter = all.store.get(one.type);
    if (adapter === undefined) throw new Error(`no store type ${one.type}`);
    const delivery = linesOf(one.delivery, adapter.delivery);
    const fields: Line[] =
      one.fields === null
        ? []
        : [{ key: "fields", about: "Name in the store: field of the issuer.", value: one.fields }];
    // What says by itself where it delivers needs no name for others to use.
    if (one.use === null && requiredKeys(adapter.delivery).length === 0)
      return [{ key: "type", value: one.type }, ...linesOf(one.settings, adapter.settings), ...delivery, ...fields];
    const name = one.use ?? nameFor(one, taken);
    if (!taken.has(name)) {
      taken.set(name, one);
      stores.push({
        key: name,
        lines: [{ key: "type", value: one.type }, ...linesOf(one.settings, adapter.settings)],
      });
    }
    return [{ key: "use", value: name }, ...delivery, ...fields];
  });
  const lines: Line[] = [
    {
      key: "issuer",
      about: "Who makes the keys, and ends them.",
      lines: [{ key: "type", value: wish.issuer.type }, ...linesOf(wish.issuer.settings, issuer?.settings ?? null)],
    },
    { key: "stores", about: "Where consumers read the key.", items },
  ];
  if (issuer?.reportsUsage === false) {
    const about =
      "This issuer does not tell who uses a key, so an old one goes after twice the least overlap; or name a monitor that tells.";
    lines.push({ key: "usage", about, value: "none" });
  }
  if (wish.every !== null)
    lines.push({ key: "schedule", about: "A key that is older is replaced by `keyturn run`.", value: wish.every });
  return { stores, secrets: [{ key: wish.name, lines }] };
}

function linesOf(settings: Settings, schema: z.ZodObject | null): Line[] {
  return Object.entries(settings).map(([key, value]) => {
    const about = schema === null ? undefined : descriptionOf(schema, key);
    return { key, value, about: about?.replace(/(?<![.?!])$/, ".") };
  });
}

/** The name of the same store, where there is one, else a new name after its type. */
function nameFor({ type, settings }: DeliveryWish, taken: ReadonlyMap<string, KnownStore>): string {
  for (const [name, one] of taken) if (one.type === type && isDeepStrictEqual(one.settings, settings)) return name;
  for (let count = 1; ; count++) {
    const name = count === 1 ? type : `${type}-${count}`;
    if (!taken.has(name)) return name;
  }
}
