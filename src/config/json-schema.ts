import * as z from "zod";
import { registry as allAdapters, type Registry } from "../adapters/registry.ts";
import { strictly } from "./parts.ts";
import { NAME } from "./path.ts";
import { deliveryKeys, notifierKeys, partKeys, policySchema, stateKeys, usageKeys } from "./schema.ts";

type Json = Record<string, unknown>;

/** What schemas carry for this file and {@link file://./credentials.ts}; none of it is JSON Schema. */
interface Marks {
  readonly scalar?: string;
  readonly part?: string;
  readonly named?: boolean;
  readonly credential?: boolean;
  readonly duration?: boolean;
}

/** As `parseDuration` reads it: whole numbers, the largest unit first. */
const DURATION = "^(?=\\d)(\\d+w)?(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?(\\d+ms)?$";

/** JSON Schema (2020-12) of the policy file with the settings of every adapter, for editors. */
export async function jsonSchema(registry: Registry = allAdapters): Promise<Json> {
  const parts = await partSchemas(registry);
  const schema = convert(policySchema, (kind) => ({ $ref: `#/$defs/${kind}` }));
  return { ...schema, title: "keyturn rotation policy", $defs: parts };
}

/** For each place where an adapter's map may stand, one alternative for each type. */
async function partSchemas(registry: Registry): Promise<Json> {
  const parts: Record<"issuer" | "store" | "delivery" | "usage" | "notifier" | "state", Json[]> = {
    issuer: [],
    store: [],
    delivery: [],
    usage: [],
    notifier: [],
    state: [],
  };
  const of = (type: string, own: z.ZodObject, ...schemas: z.ZodObject[]) =>
    merge(
      [own, ...schemas].map((schema) => convert(strictly(schema))),
      { type: { const: type } },
      ["type"],
    );

  for (const [type, { load }] of Object.entries(registry.issuer))
    parts.issuer.push(of(type, partKeys, (await load()).settings));
  parts.delivery.push(merge([convert(deliveryKeys)], { type: false }, ["use"], true));
  for (const [type, { load }] of Object.entries(registry.store)) {
    const adapter = await load();
    parts.store.push(of(type, partKeys, adapter.settings));
    parts.delivery.push(of(type, deliveryKeys.omit({ use: true }), adapter.settings, adapter.delivery));
  }
  parts.usage.push(of("issuer", usageKeys));
  for (const [type, { load }] of Object.entries(registry.usage))
    parts.usage.push(of(type, usageKeys, (await load()).settings));
  for (const [type, { load }] of Object.entries(registry.notifier))
    parts.notifier.push(of(type, notifierKeys, (await load()).settings));
  parts.state.push(merge([convert(stateKeys)], { type: false }, ["url"]));
  for (const [type, { load }] of Object.entries(registry.state))
    parts.state.push(of(type, stateKeys.omit({ url: true }), (await load()).settings));
  return Object.fromEntries(Object.entries(parts).map(([kind, anyOf]) => [kind, { anyOf }]));
}

/** One object schema out of several that describe the same map. */
function merge(schemas: readonly Json[], properties: Json, required: readonly string[], open = false): Json {
  const { type: _, ...rest } = Object.assign({}, ...schemas.map((schema) => schema.properties)) as Json;
  const needed = new Set([
    ...required,
    ...schemas.flatMap((schema) => (schema.required as string[] | undefined) ?? []),
  ]);
  return {
    type: "object",
    properties: { ...properties, ...rest },
    required: [...needed],
    ...(!open && { additionalProperties: false }),
  };
}

function convert(schema: z.ZodType, partAt: (kind: string) => Json = () => ({})): Json {
  const { $schema, ...converted } = z.toJSONSchema(schema, {
    io: "input",
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema: json }) => {
      const { scalar, part, named, credential, duration } = ((zodSchema as unknown as z.ZodType).meta() ?? {}) as Marks;
      if (part !== undefined) replace(json, partAt(part));
      if (credential) Object.assign(json, { credential: undefined, pattern: "\\$\\{(env|file):[^}]+\\}" });
      if (duration) Object.assign(json, { duration: undefined, pattern: DURATION });
      if (scalar !== undefined) {
        const { scalar: _, description, ...map } = json as Json;
        // Filled in place once its turn comes.
        const plain = (map.properties as Record<string, Json> | undefined)?.[scalar] ?? { type: "string" };
        replace(json, { ...(description !== undefined && { description }), anyOf: [plain, map] });
      }
      if (named) Object.assign(json, { named: undefined, propertyNames: { pattern: NAME.source } });
    },
  }) as Json;
  return JSON.parse(JSON.stringify($schema === undefined ? converted : { $schema, ...converted })) as Json;
}

function replace(target: object, next: Json): void {
  for (const key of Object.keys(target)) delete (target as Json)[key];
  Object.assign(target, next);
}
