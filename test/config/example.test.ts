import { expect, test } from "vitest";
import { registry } from "../../src/adapters/registry.ts";
import { jsonSchema } from "../../src/config/json-schema.ts";
import { loadPolicy } from "../../src/config/load.ts";

const cwd = new URL("../..", import.meta.url).pathname;

test("the example policy is valid", async () => {
  const { policy, warnings } = await loadPolicy({ cwd, file: "rotation.config.example.yaml", env: {} });
  expect(warnings).toEqual([]);
  expect([...policy.secrets.values()].map(({ name, deliveries }) => [name, deliveries.map(({ id }) => id)])).toEqual([
    ["payments", ["vault-room/payments", "backend-env/./services/backend/.env"]],
    ["search", ["local/search", "dotenv/./services/search/.env"]],
    ["uploads", ["aws/prod/uploads", "vault/secret/uploads/aws"]],
  ]);
});

test("every registered adapter loads under its own name", async () => {
  for (const kind of ["issuer", "store", "usage", "notifier", "state"] as const) {
    for (const [type, entry] of Object.entries(registry[kind])) expect((await entry.load()).type).toBe(type);
  }
});

test("the JSON Schema has the policy's keys and every adapter's settings", async () => {
  const schema = (await jsonSchema()) as {
    properties: object;
    $defs: Record<string, { anyOf: { properties: Record<string, unknown>; required: string[] }[] }>;
  };
  expect(Object.keys(schema.properties)).toEqual([
    "version",
    "include",
    "state",
    "maxConcurrent",
    "blackouts",
    "defaults",
    "stores",
    "notifiers",
    "secrets",
  ]);
  const issuer = schema.$defs.issuer?.anyOf.find(
    (one) => (one.properties.type as { const: string }).const === "api-keys",
  );
  expect(issuer?.required).toEqual(expect.arrayContaining(["type", "url", "client", "adminToken"]));
  expect(issuer?.required).not.toContain("maxKeys");
  expect(issuer?.properties.adminToken).toMatchObject({
    type: "string",
    pattern: expect.stringContaining("env|file"),
    description: expect.any(String),
  });
  expect(issuer?.properties.timing).toBeDefined();
  expect(schema.$defs.delivery?.anyOf).toHaveLength(1 + Object.keys(registry.store).length);
  // A duration is told as one, whatever else is said of its key.
  expect(JSON.stringify(schema.properties)).toContain(
    '"description":"Both keys live at least so long. Default: 24h.","type":"string","pattern":"^',
  );
  // Every reference leads somewhere, and no mark of ours is left.
  const text = JSON.stringify(schema);
  for (const [, name] of text.matchAll(/"#\/\$defs\/(\w+)"/g)) expect(schema.$defs).toHaveProperty(name as string);
  expect(text).not.toMatch(/"(scalar|part|named|credential|duration)":/);
});
