import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { registry } from "../../src/adapters/registry.ts";
import { jsonSchema } from "../../src/config/json-schema.ts";
import { HOOK_POINTS } from "../../src/core/rules.ts";
import { formatDuration } from "../../src/core/duration.ts";
import type { Permission } from "../../src/ports/context.ts";
import { Wiring } from "../../src/wire.ts";
import { expectGenerated, page, table } from "./generated.ts";
import { examplesOf, policyOf } from "./parts.ts";

interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema | false>>;
  readonly required?: readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly default?: unknown;
  readonly items?: Schema;
  readonly prefixItems?: readonly Schema[];
  readonly additionalProperties?: Schema | boolean;
  readonly pattern?: string;
  readonly $ref?: string;
}

const schema = (await jsonSchema()) as unknown as Schema & { readonly $defs: Readonly<Record<string, Schema>> };

/** What the schema itself does not say. */
const MEANINGS: Readonly<Record<string, string>> = {
  issuer: "Who makes and kills the keys.",
  soak: "`soak: 72h` is `soak: { for: 72h }`.",
  type: "The issuer's own answer.",
};

/** The map among the forms that a key may have. */
function mapOf(part: Schema): Schema {
  return part.anyOf?.find(({ properties }) => properties) ?? part.items ?? part;
}

function at(from: Schema, ...path: readonly string[]): Schema {
  return path.reduce((part, key) => {
    const next = mapOf(part).properties?.[key];
    if (!next) throw new Error(`the schema has no ${path.join(".")}`);
    return next;
  }, from);
}

/** A form in a word or two. */
function form(part: Schema): string {
  if (part.$ref !== undefined) return part.$ref.replace("#/$defs/", "");
  const forms = part.anyOf ?? part.oneOf;
  if (forms !== undefined) return [...new Set(forms.map(form))].join(" or ");
  if (part.const !== undefined) return `\`${String(part.const)}\``;
  if (part.enum !== undefined) return part.enum.map((one) => `\`${String(one)}\``).join(" ");
  if (part.pattern?.includes("env|file")) return "reference";
  if (part.pattern?.includes("ms)?$")) return "duration";
  if (part.type === "array") return part.items ? `list of ${form(part.items)}` : "list";
  if (part.type === "object") return "map";
  return { string: "text", integer: "number", number: "number", boolean: "yes or no" }[part.type ?? ""] ?? "any";
}

/** One row for each leaf; maps of the policy's own are opened. */
function rows(part: Schema, skip: readonly string[] = [], depth = Infinity, under = ""): string[][] {
  const { properties = {}, required = [] } = mapOf(part);
  return Object.entries(properties).flatMap(([key, value]) => {
    if (value === false || skip.includes(key)) return [];
    const name = under === "" ? key : `${under}.${key}`;
    const isMap =
      mapOf(value).properties !== undefined && form(value) !== "list of any" && mapOf(value) !== value.items;
    const opened = isMap && depth > 1 ? rows(value, [], depth - 1, name) : [];
    const described =
      !isMap || opened.length === 0 || value.description !== undefined || value.anyOf !== undefined || name in MEANINGS;
    if (!described) return opened;
    const { description = "", default: usual } = value;
    const said = [description, usual === undefined || typeof usual === "object" ? "" : `Default: ${String(usual)}.`];
    const meaning = [...new Set(said)].filter((text) => text !== "");
    const once = meaning.length > 1 && meaning[0]?.includes("Default:") ? meaning.slice(0, 1) : meaning;
    const own = [
      `\`${name}\`${required.includes(key) ? ` (required${under === "" ? "" : " there"})` : ""}`,
      form(value),
      once.map(sentence).join(" ") || meant(name),
    ];
    return [own, ...opened];
  });
}

function meant(name: string): string {
  const text = MEANINGS[name];
  if (text === undefined) throw new Error(`nothing says what ${name} means`);
  return text;
}

function sentence(text: string): string {
  return text.endsWith(".") ? text : `${text}.`;
}

const reference = (part: Schema, skip?: readonly string[], depth?: number) =>
  table(["key", "form", "meaning"], rows(part, skip, depth));
const secret = (at(schema, "secrets") as { additionalProperties: Schema }).additionalProperties;
const RULES = Object.keys(at(schema, "defaults").properties ?? {});
const policy = (name: string, text: string) => expectGenerated("docs/policy.md", name, text);

test("docs/policy.md has every key of the schema", () => {
  policy("top", reference(schema, [], 1));
  policy("secret", reference(secret, RULES, 1));
  policy("rules", reference(at(schema, "defaults")));
  policy("consumer", reference(at(secret, "consumers").items as Schema));
  const delivery = schema.$defs["delivery"]?.anyOf?.[0] as Schema;
  policy("delivery", reference(delivery, ["timing"]));
  policy("usage", reference(schema.$defs["usage"]?.anyOf?.[0] as Schema));
  policy("timing", reference(at(delivery, "timing")));
  expect(Object.keys(at(secret, "hooks").properties ?? {})).toEqual(HOOK_POINTS);
  policy("hook", reference(at(secret, "hooks", "beforeRotate").items as Schema));
});

const PROVIDERS = (["issuer", "store", "usage", "notifier", "state"] as const).flatMap((kind) =>
  Object.keys(registry[kind]).map((type) => ({ kind, type, file: `docs/providers/${type}.md` })),
);

/** One type of a kind as `$defs` has it. */
function formOf(kind: string, type: string): Schema {
  const forms = (schema.$defs[kind]?.anyOf ?? []) as readonly Schema[];
  return forms.find(({ properties }) => (properties?.["type"] as Schema | undefined)?.const === type) as Schema;
}

test.each(PROVIDERS)("$file says what the $kind $type may be told, and the delays that it counts on", async (one) => {
  const { kind, type, file } = one;
  // A page tells of each kind that goes by its type.
  const prefix = PROVIDERS.filter((other) => other.type === type).length > 1 ? `${kind}-` : "";
  const adapter = await (registry[kind] as Readonly<Record<string, { load(): Promise<Loaded> }>>)[type]?.load();
  const { published, asks = [] } = adapter ?? {};
  const mine = formOf(kind, type);
  const elsewhere = ["granularity", "lag", "optional"].filter((key) => !asks.includes(key));
  const skip = ["type", "timing", "events", "lease", ...(kind === "usage" ? elsewhere : [])];
  expectGenerated(
    file,
    `${prefix}settings`,
    reference({ ...mine, required: [...(mine.required ?? []), ...asks] }, skip),
  );
  if (kind === "store") {
    const shared = Object.keys(mine.properties ?? {});
    expectGenerated(file, `${prefix}delivery`, reference(formOf("delivery", type), [...shared, ...skip]));
  }
  if (published !== undefined) {
    const delays = Object.entries(published).map(([name, ms]) => [`\`${name}\``, formatDuration(ms)]);
    expectGenerated(file, "delays", table(["delay", "is"], delays));
  }
});

interface Loaded {
  readonly published?: Readonly<Record<string, number>>;
  readonly asks?: readonly string[];
}

const world = { env: {}, now: () => 0, debug: () => {}, announce: () => {}, say: () => {} };

/** What the part of that type asks for, in the policy that the page's first example is a part of. */
async function permissionsOf(kind: string, type: string, file: string): Promise<readonly Permission[]> {
  const { policy } = await policyOf(examplesOf(file)[0] ?? "");
  const [secret] = policy.secrets.values();
  if (secret === undefined) throw new Error("the example has no secret");
  const { issuer, stores, monitors } = await new Wiring(policy, world).ports(secret);
  const entries = secret.usage === "none" ? [] : secret.usage;
  const parts = {
    issuer: [issuer],
    store: secret.deliveries.flatMap(({ id, type: its }) => (its === type ? [stores.get(id)] : [])),
    usage: entries.flatMap(({ type: its }, index) => (its === type ? [monitors.get(String(index))] : [])),
  };
  return (parts[kind as keyof typeof parts] ?? []).flatMap((part) => part?.permissions?.() ?? []);
}

const needs = PROVIDERS.map(async (one) => ({ ...one, needed: await permissionsOf(one.kind, one.type, one.file) }));
const PRIVILEGED = (await Promise.all(needs)).filter(({ needed }) => needed.length > 0);

test.each(PRIVILEGED)("$file says what the $kind $type of its first example has to be allowed", ({ file, needed }) => {
  const code = (items: readonly string[]) => items.map((item) => `\`${item}\``).join(" ");
  const lines = needed.map((line) =>
    line.for === "aws"
      ? [code(line.actions), code(line.resources), line.why]
      : [code(line.capabilities), code([line.path]), line.why],
  );
  const head = needed[0]?.for === "aws" ? ["action", "resource", "why"] : ["capability", "path", "why"];
  expectGenerated(file, "permissions", table(head, lines));
});

test("no other page has a place for permissions", () => {
  const files = [...new Set(PROVIDERS.map(({ file }) => file))];
  const placed = files.filter((file) => page(file).includes("generated:permissions"));
  expect(placed).toEqual([...new Set(PRIVILEGED.map(({ file }) => file))]);
});

test("docs/providers/vault-kv.md has every way to log in to Vault", () => {
  const { auth } = formOf("store", "vault-kv").properties ?? {};
  const ways = (auth as Schema).anyOf ?? (auth as Schema).oneOf ?? [];
  const lines = ways.flatMap((way) => {
    const method = `\`${String((way.properties?.["method"] as Schema | undefined)?.const)}\``;
    return rows(way, ["method"]).map(([key = "", ...rest]) => [method, key, ...rest]);
  });
  expectGenerated("docs/providers/vault-kv.md", "auth", table(["method", "key", "form", "meaning"], lines));
});

test("every page is of a type that this version brings", () => {
  const pages = readdirSync(new URL("../../docs/providers", import.meta.url));
  expect(pages.sort()).toEqual([...new Set(PROVIDERS.map(({ type }) => `${type}.md`))].sort());
});
