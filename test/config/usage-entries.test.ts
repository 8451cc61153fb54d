import { expect, test } from "vitest";
import { ISSUER, load, policyWith, refusal, STORES } from "./support.ts";

const entry = (text: string) => policyWith(`${ISSUER}\n${STORES}\nusage:\n  - ${text}`);

test("a monitor that never proves silence is optional unless the policy says otherwise", async () => {
  const optional = async (more: string) => {
    const { policy } = await load(entry(`{ type: cloudtrail, region: eu-west-1${more} }`));
    const usage = policy.secrets.get("payments")?.usage;
    return usage !== "none" && usage?.[0]?.optional;
  };
  expect(await optional("")).toBe(true);
  expect(await optional(", optional: false")).toBe(false);
});

test("delays that nobody else knows are asked for", async () => {
  const rest = 'type: http-json, url: "https://gw/${key}", fields: { last: at }, keeps: 30d';
  const { message } = await refusal(entry(`{ ${rest} }`));
  expect(message).toMatch("usage[0]: granularity is missing");
  expect(message).toMatch("usage[0]: lag is missing");
  await expect(load(entry(`{ ${rest}, granularity: 1m, lag: 5m }`))).resolves.toBeDefined();
});

test("a token in clear is refused", async () => {
  const rest = 'type: prometheus, url: "http://p", targets: up, traffic: t, counter: \'c{key="$key"}\'';
  await expect(load(entry(`{ ${rest}, token: abc }`))).rejects.toThrow(
    "usage[0].token: a credential stands here in clear",
  );
  await expect(load(entry(`{ ${rest}, headers: { x-key: abc } }`))).rejects.toThrow("in clear");
  await expect(load(entry(`{ ${rest}, token: "\${env:T}", headers: { x-key: "\${env:K}" } }`))).resolves.toBeDefined();
});

test("less than a log is known to need is a warning", async () => {
  const { warnings } = await load(entry("{ type: access-log, files: [a.log], format: json, lag: 1s }"));
  expect(warnings.map(({ message }) => message)).toEqual([
    "secrets.payments.usage[0].lag: is less than the provider is known to need",
  ]);
});
