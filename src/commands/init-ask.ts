import { NAME } from "../config/path.ts";
import { parseDuration } from "../core/duration.ts";
import type { IssuerAdapter, StoreAdapter } from "../ports/adapter.ts";
import type { Asker, Choice } from "../ui/ask.ts";
import type { Catalogue } from "../wire.ts";
import type { Look, Target } from "./init-look.ts";
import {
  descriptionOf,
  isCredential,
  requiredKeys,
  valueOf,
  type DeliveryWish,
  type IssuerWish,
  type KnownStore,
  type Wish,
} from "./init-wish.ts";

export interface Interview {
  readonly ask: Asker;
  readonly all: Catalogue;
  readonly looks: readonly Look[];
  /** Of the policy that is there already. */
  readonly stores: ReadonlyMap<string, KnownStore>;
  readonly secrets: ReadonlySet<string>;
  /** Names that stand in a place of delivery already; none where nobody can look. */
  readonly namesAt: (adapter: StoreAdapter, target: Target) => Promise<readonly string[]>;
}

/** What the command line has said already; the rest is asked. */
export type Answered = { readonly [K in keyof Wish]: Wish[K] | undefined };

const INTERVALS: readonly Choice<string | null>[] = [
  { name: "90d   every 90 days", value: "90d" },
  { name: "30d   every 30 days", value: "30d" },
  { name: "180d  every 180 days", value: "180d" },
  { name: "by hand only", value: null },
];

export async function interview(with_: Interview, said: Answered): Promise<Wish> {
  const { ask, all } = with_;
  const [issuer, usual] = said.issuer === undefined ? await askIssuer(with_) : [said.issuer, null];
  const name =
    said.name ?? (await ask.input("What is it called in the policy?", usual, (text) => nameProblem(text, with_)));
  const adapter = all.issuer.get(issuer.type) as IssuerAdapter;
  const deliveries = said.deliveries ?? (await askDeliveries(with_, name, adapter.fields));
  const every = said.every === undefined ? await ask.choose("When is a key to be replaced?", INTERVALS) : said.every;
  return { name, issuer, deliveries, every };
}

export function nameProblem(name: string, { secrets }: Pick<Interview, "secrets">): string | null {
  if (!NAME.test(name)) return "letters, digits, dot, dash and underscore, at most 63, the first a letter or digit";
  return secrets.has(name) ? "the policy has a secret of that name" : null;
}

export function everyProblem(text: string): string | null {
  return (parseDuration(text) ?? 0) > 0 ? null : "is no duration above zero: write 90d";
}

/** The issuer, and a name for its secret. */
async function askIssuer({ ask, all, looks }: Interview): Promise<[IssuerWish, string | null]> {
  const found = looks.flatMap(({ kind, type, seen }) =>
    kind === "issuer" ? (seen?.found ?? []).map((one) => ({ type, ...one })) : [],
  );
  const choices: Choice<IssuerWish & { readonly name: string | null }>[] = [
    ...found.map((one) => ({ name: one.label, value: one })),
    ...[...all.issuer.keys()].map((type) => {
      return { name: `${type}: one that is not listed`, value: { type, name: null, settings: {} } };
    }),
  ];
  const { type, name, settings } = await ask.choose("Whose key is to be rotated?", choices);
  const whole = await complete(ask, all.issuer.get(type) as IssuerAdapter, "settings", settings, null);
  return [{ type, settings: whole }, name === null ? null : name.replace(/[^A-Za-z0-9._-]+/g, "-").slice(0, 63)];
}

type Place = Omit<DeliveryWish, "fields"> & { readonly names: readonly string[] };

async function askDeliveries(with_: Interview, secret: string, fields: readonly string[]): Promise<DeliveryWish[]> {
  const { ask, all, looks, stores } = with_;
  const places: Choice<Place | null>[] = [
    ...[...stores].map(([use, { type, settings }]) => {
      return { name: `store ${use} (${type})`, value: { use, type, settings, delivery: {}, names: [] } };
    }),
    ...looks.flatMap(({ kind, type, seen }) =>
      kind === "issuer"
        ? []
        : (seen?.found ?? []).map(({ label, settings, delivery = {}, fields: names = [] }) => {
            return { name: `${label} (${type})`, value: { use: null, type, settings, delivery, names } };
          }),
    ),
    ...[...all.store.keys()].map((type) => {
      const value = { use: null, type, settings: {}, delivery: {}, names: [] };
      return { name: `${type}: one that is not listed`, value };
    }),
  ];
  const wishes: DeliveryWish[] = [];
  for (;;) {
    const isFirst = wishes.length === 0;
    const question = isFirst ? "Where do its consumers read it?" : "And where else?";
    const place = await ask.choose(question, isFirst ? places : [{ name: "nowhere else", value: null }, ...places]);
    if (place === null) return wishes;
    wishes.push(await deliveryTo(place, with_, secret, fields));
  }
}

async function deliveryTo(
  { names: seen, ...place }: Place,
  { ask, all, namesAt }: Interview,
  secret: string,
  fields: readonly string[],
): Promise<DeliveryWish> {
  const adapter = all.store.get(place.type) as StoreAdapter;
  const settings = place.use === null ? await complete(ask, adapter, "settings", place.settings, null) : place.settings;
  const delivery = await complete(ask, adapter, "delivery", place.delivery, secret);
  const names = seen.length > 0 ? seen : await namesAt(adapter, { settings, delivery });
  const mapped: [string, string][] = [];
  for (const field of fields) {
    const usual = [field, ...names].find((name) => names.includes(name) && sameWord(name, field)) ?? field;
    const problem = (text: string) => (text === "" ? "it needs a name" : null);
    mapped.push([await ask.input(`Under which name do they read ${field} there?`, usual, problem), field]);
  }
  const isPlain = mapped.every(([name, field]) => name === field);
  return { ...place, settings, delivery, fields: isPlain ? null : Object.fromEntries(mapped) };
}

/** `AWS_ACCESS_KEY_ID` is `accessKeyId`, as far as words go. */
function sameWord(name: string, field: string): boolean {
  const word = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  return word(name).endsWith(word(field));
}

/** Asks for the settings that are missing. A credential's variable is asked for, never the credential. */
async function complete<A extends IssuerAdapter | StoreAdapter>(
  ask: Asker,
  adapter: A,
  part: "settings" | "delivery",
  known: Readonly<Record<string, unknown>>,
  usual: string | null,
): Promise<Record<string, unknown>> {
  const schema = part === "settings" ? adapter.settings : (adapter as StoreAdapter).delivery;
  const settings: Record<string, unknown> = { ...known };
  for (const key of requiredKeys(schema).filter((one) => !Object.hasOwn(known, one))) {
    const about = (descriptionOf(schema, key) ?? key).replace(/\.$/, "");
    if (isCredential(schema, key)) {
      const isVariable = (text: string) =>
        /^[A-Za-z_]\w*$/.test(text) ? null : "the name of a variable, not its value";
      const variable = await ask.input(`${key}: which environment variable holds it? (${about})`, null, isVariable);
      settings[key] = `\${env:${variable}}`;
    } else {
      const isFine = (text: string) => {
        const { error } = (schema.shape[key] as { safeParse(value: unknown): { error?: unknown } }).safeParse(
          valueOf(schema, key, text),
        );
        return error === undefined ? null : `no ${key}: ${about}`;
      };
      settings[key] = valueOf(schema, key, await ask.input(`${key}: ${about}`, usual, isFine));
    }
  }
  return settings;
}
