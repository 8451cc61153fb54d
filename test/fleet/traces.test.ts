import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { senderOf } from "../../src/adapters/otlp.ts";
import type { SecretPolicy } from "../../src/config/model.ts";
import type { SecretPorts } from "../../src/engine/deps.ts";
import type { Progress } from "../../src/engine/result.ts";
import type { StagedStore, Store } from "../../src/ports/store.ts";
import { isTraced } from "../../src/telemetry/environment.ts";
import type { Span } from "../../src/telemetry/spans.ts";
import { Traces } from "../../src/telemetry/traces.ts";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, Place, policyText } from "../support/command-line.ts";
import { startHole } from "../support/hole.ts";

interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue: string } }[];
}

let authority: TestAuthority;
let commands: CommandLine;
let collector: Server;
let url = "";
const bodies: string[] = [];
const headers: Record<string, unknown>[] = [];

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
  collector = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      bodies.push(body);
      headers.push({ ...request.headers, path: request.url });
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
});
afterAll(async () => {
  commands?.remove();
  await authority?.close();
  collector?.close();
  collector?.closeAllConnections();
});

function spans(): OtlpSpan[] {
  return bodies.flatMap((body) =>
    JSON.parse(body).resourceSpans.flatMap((resource: { scopeSpans: { spans: OtlpSpan[] }[] }) =>
      resource.scopeSpans.flatMap((scope) => scope.spans),
    ),
  );
}

test("a rotation that several processes work on is one trace, with a span for each effect and no value", async () => {
  const place = new Place({
    ADMIN: authority.adminToken,
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
    OTEL_EXPORTER_OTLP_HEADERS: "x-tenant=team%20a",
    OTEL_SERVICE_NAME: "rotator",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment=test,service.name=other",
  });
  try {
    await authority.addClient("one", { maxKeys: 3 });
    const secrets = [{ name: "one", maxKeys: 3 }];
    place.policy(policyText(authority.url, secrets));
    expect((await commands.run(place, "rotate", "one", "--wait")).code).toBe(0);
    bodies.length = 0;
    // A minimum that another run, and so another process, finds over.
    place.policy(policyText(authority.url, secrets, { minimum: "3s" }));
    const { document } = await commands.json(place, "rotate", "one");
    const rotation: string = document.secrets[0].rotation.id;
    const processes = bodies.length;
    expect(processes).toBeGreaterThan(0);
    expect((await commands.run(place, "run", "one", "--wait")).code).toBe(0);
    expect(bodies.length).toBeGreaterThan(processes);
    expect(new Set(spans().map(({ traceId }) => traceId)).size).toBe(1);
    const names = spans().map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["issue", "stage", "verify", "put", "disable", "delete"]));
    const [root, ...others] = spans().filter(({ parentSpanId }) => parentSpanId === undefined);
    expect(others).toEqual([]);
    expect(root?.name).toBe("rotate one");
    expect(root?.attributes).toContainEqual({ key: "keyturn.rotation.id", value: { stringValue: rotation } });
    for (const span of spans()) {
      expect(span.traceId).toMatch(/^[0-9a-f]{32}$/);
      expect(span.spanId).toMatch(/^[0-9a-f]{16}$/);
      expect(span.parentSpanId).toBe(span.spanId === root?.spanId ? undefined : root?.spanId);
      expect(BigInt(span.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(span.startTimeUnixNano));
      // The root holds the others; the document's clock may be a little behind.
      expect(Number(BigInt(span.startTimeUnixNano) - BigInt(root?.startTimeUnixNano ?? 0))).toBeGreaterThan(-2e9);
    }
    const value = place.dotenv("one") ?? "";
    expect(value).not.toBe("");
    expect(bodies.join("\n")).not.toContain(value);
    expect(headers[0]).toMatchObject({ path: "/v1/traces", "x-tenant": "team a" });
    const [{ resource }] = JSON.parse(bodies[0] ?? "").resourceSpans;
    expect(resource.attributes).toContainEqual({ key: "service.name", value: { stringValue: "rotator" } });
    expect(resource.attributes).toContainEqual({ key: "deployment.environment", value: { stringValue: "test" } });
  } finally {
    place.remove();
  }
});

test("a collector that is away costs a warning, and no rotation", async () => {
  const place = new Place({ ADMIN: authority.adminToken, OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" });
  try {
    await authority.addClient("two", { maxKeys: 3 });
    place.policy(policyText(authority.url, [{ name: "two", maxKeys: 3 }]));
    const { code, stderr } = await commands.run(place, "rotate", "two", "--wait");
    expect(code, stderr).toBe(0);
    expect(stderr.match(/warning: traces: POST http:\/\/127\.0\.0\.1:1: connection refused/g)).toHaveLength(1);
  } finally {
    place.remove();
  }
});

test("a collector that never answers keeps no command from ending", async () => {
  const hole = await startHole();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: hole.url, OTEL_EXPORTER_OTLP_TIMEOUT: "600000" };
  const place = new Place({ ADMIN: authority.adminToken, ...env });
  onTestFinished(() => place.remove());
  await authority.addClient("three", { maxKeys: 3 });
  place.policy(policyText(authority.url, [{ name: "three", maxKeys: 3 }]));
  const { code, stderr } = await commands.run(place, "rotate", "three", "--wait");
  expect(code, stderr).toBe(0);
  expect(stderr.match(/^warning: traces: .*$/gm)).toEqual(["warning: traces: the collector does not answer in time"]);
  expect(hole.bodies).toHaveLength(1);
});

test("a collector that comes back gets what was kept for it", async () => {
  let [isAway, end] = [true, (): void => {}];
  const taken: string[] = [];
  const warnings: string[] = [];
  const traces = new Traces(
    async (some) => {
      if (!isAway) taken.push(...some.map(({ attributes }) => attributes["keyturn.rotation.id"] ?? ""));
      else await new Promise((_, reject) => (end = () => reject(new Error("away"))));
    },
    (line) => warnings.push(line),
    Date.now,
  );
  const store = { discard: async () => {} } as unknown as Store;
  const ports = { issuer: {}, stores: new Map([["a", store]]), monitors: new Map(), notifiers: [] };
  const secret = { name: "s", issuer: { type: "i" }, deliveries: [{ id: "a", type: "t", name: "n" }], usage: "none" };
  const watched = traces.watched(secret as unknown as SecretPolicy, ports as unknown as SecretPorts);
  const { discard } = watched.stores.get("a") as StagedStore;
  const { signal } = new AbortController();
  const effects = Array.from({ length: 1000 }, (_, at) => `rotation-${at}`);
  for (const rotationId of effects) await discard("v1", { signal, fence: () => {}, attempt: 1, rotationId });
  const away = traces.flush();
  end();
  await away;
  isAway = false;
  await traces.flush();
  // What was under way when it was away is lost, and no more than that.
  expect(taken).toEqual(effects.slice(200));
  expect(warnings).toEqual(["traces: away"]);
});

test("the rotation as a whole is told of by whoever ended it, and by nobody who comes later", async () => {
  const told: Span[] = [];
  const one = new Traces(async (some) => void told.push(...some), expect.unreachable, Date.now);
  const other = new Traces(async (some) => void told.push(...some), expect.unreachable, Date.now);
  const last = { id: "r1", reason: "scheduled", startedAt: 1000, endedAt: 5000, outcome: "done" };
  const seen = (type: string | null, state: object) =>
    ({ name: "s", state, ...(type !== null && { event: { type, at: 5000, wall: 65_000 } }) }) as unknown as Progress;
  one.happened(seen("started", { last: null, rotation: { id: "r1" } }));
  other.happened(seen("done", { last, rotation: null }));
  // Something else of a secret whose newest rotation it has seen begin.
  one.happened(seen("revoked", { last, rotation: null }));
  one.happened(seen(null, { last, rotation: null }));
  await Promise.all([one.flush(), other.flush()]);
  expect(told).toMatchObject([{ name: "rotate s", parent: null, from: 61_000, to: 65_000 }]);
  expect(told[0]?.attributes).toMatchObject({ "keyturn.rotation.id": "r1", "keyturn.rotation.outcome": "done" });
});

test("what the environment has to say for traces to be sent", () => {
  expect(isTraced({})).toBe(false);
  expect(isTraced({ OTEL_SERVICE_NAME: "a" })).toBe(false);
  expect(isTraced({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318" })).toBe(true);
  expect(isTraced({ OTEL_TRACES_EXPORTER: "otlp" })).toBe(true);
  expect(isTraced({ OTEL_TRACES_EXPORTER: "none", OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318" })).toBe(false);
  expect(isTraced({ OTEL_SDK_DISABLED: "true", OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318" })).toBe(false);
  expect(() => senderOf({ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" })).toThrow("is not spoken here");
  expect(() => senderOf({ OTEL_EXPORTER_OTLP_ENDPOINT: "collector" })).toThrow("is no http(s) URL");
});
