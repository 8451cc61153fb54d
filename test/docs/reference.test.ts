import { expect, test } from "vitest";
import { registry } from "../../src/adapters/registry.ts";
import { jsonSchema } from "../../src/config/json-schema.ts";
import { HOOK_POINTS } from "../../src/core/rules.ts";
import { formatDuration } from "../../src/core/duration.ts";
import { expectGenerated, table } from "./generated.ts";

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
    const said = [value.description ?? "", value.default === undefined ? "" : `Default: ${String(value.default)}.`];
    const meaning = [...new Set(said)].filter((text) => text !== "");
    const once = meaning.length > 1 && meaning[0]?.includes("Default:") ? meaning.slice(0, 1) : meaning;
    const own = [
      `\`${name}\`${required.includes(key) ? " (required)" : ""}`,
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

/** Each provider's page: its settings, and the delays that it counts on. */
const PROVIDERS = [
  ["issuer", "api-keys"],
  ["store", "local"],
  ["store", "dotenv"],
  ["notifier", "webhook"],
  ["state", "sqlite"],
] as const;

test.each(PROVIDERS)("docs/providers has the %s %s", async (kind, type) => {
  const forms = (schema.$defs[kind]?.anyOf ?? []) as readonly Schema[];
  const mine = forms.find(({ properties }) => (properties?.["type"] as Schema | undefined)?.const === type);
  const file = `docs/providers/${type}.md`;
  const skip = ["type", "timing", "events", "lease"];
  expectGenerated(file, "settings", reference(mine as Schema, skip));
  if (kind === "store") {
    const own = (schema.$defs["delivery"]?.anyOf ?? []).find(
      ({ properties }) => (properties?.["type"] as Schema | undefined)?.const === type,
    ) as Schema;
    const shared = Object.keys((mine as Schema).properties ?? {});
    expectGenerated(file, "delivery", reference(own, [...shared, ...skip]));
  }
  const entries = registry[kind] as Readonly<
    Record<string, { load(): Promise<{ published?: Readonly<Record<string, number>> }> }>
  >;
  const { published } = (await entries[type]?.load()) ?? {};
  if (published !== undefined) {
    const delays = Object.entries(published).map(([name, ms]) => [`\`${name}\``, formatDuration(ms)]);
    expectGenerated(file, "delays", table(["delay", "is"], delays));
  }
});

test("every type that this version brings has a page", () => {
  const all = (["issuer", "store", "usage", "notifier", "state"] as const).flatMap((kind) =>
    Object.keys(registry[kind]),
  );
  expect(all.sort()).toEqual(PROVIDERS.map(([, type]) => type as string).sort());
});
