import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { UserError } from "../core/errors.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import { outside } from "../ports/context.ts";
import { failureOf, request } from "./http.ts";
import { proxyOf } from "./http-proxy.ts";

declare const KEYTURN_VERSION: string;

type Env = AdapterDeps["env"];
const USUAL = "http://localhost:4318";
const TIMEOUT = 10_000;

/** What is posted, by what OpenTelemetry's variables say of where it comes from. */
export interface Sender {
  readonly resource: Readonly<Record<string, string>>;
  /** @throws ProviderError in our own words */
  readonly post: (body: object) => Promise<void>;
}

/**
 * OTLP over HTTP in its JSON form, which every collector takes on the port of the binary one: the SDK's exporter
 * would bring eleven packages for this one request.
 *
 * @throws UserError `telemetry` for variables that make no sense
 */
export function senderOf(env: Env): Sender {
  const of = (name: string): string | undefined =>
    env[`OTEL_EXPORTER_OTLP_TRACES_${name}`] || env[`OTEL_EXPORTER_OTLP_${name}`] || undefined;
  const protocol = of("PROTOCOL");
  if (protocol !== undefined && !protocol.startsWith("http/"))
    throw wrong(`OTEL_EXPORTER_OTLP_PROTOCOL: ${protocol} is not spoken here: http/json is, on port 4318`);
  const url =
    env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] ||
    `${(env["OTEL_EXPORTER_OTLP_ENDPOINT"] || USUAL).replace(/\/+$/, "")}/v1/traces`;
  // `collector:4318` is a URL as well, of the scheme `collector`.
  if (!URL.canParse(url) || !/^https?:/i.test(url)) throw wrong("OTEL_EXPORTER_OTLP_ENDPOINT is no http(s) URL");
  const headers = { ...listOf(of("HEADERS")), "content-type": "application/json" };
  const timeout = Number(of("TIMEOUT") ?? TIMEOUT) || TIMEOUT;
  const tls = tlsOf(of("CERTIFICATE"), of("CLIENT_CERTIFICATE"), of("CLIENT_KEY"));
  const proxy = proxyOf(url, env);
  return {
    resource: resourceOf(env),
    post: async (body) => {
      const ctx = outside(AbortSignal.timeout(timeout));
      const answer = await request({
        method: "POST",
        url,
        headers,
        body: JSON.stringify(body),
        timeout,
        ctx,
        mutates: false,
        ...(tls && { tls }),
        ...(proxy !== undefined && { proxy }),
      });
      if (answer.status >= 300) throw failureOf(answer, "the collector of OTEL_EXPORTER_OTLP_ENDPOINT", false);
    },
  };
}

function resourceOf(env: Env): Readonly<Record<string, string>> {
  const version = typeof KEYTURN_VERSION === "undefined" ? "dev" : KEYTURN_VERSION;
  const own = { "service.name": "keyturn", "service.version": version, "host.name": hostname() };
  const named = env["OTEL_SERVICE_NAME"] ? { "service.name": env["OTEL_SERVICE_NAME"] } : {};
  return { ...own, ...listOf(env["OTEL_RESOURCE_ATTRIBUTES"]), ...named };
}

/** `a=1,b=two%20words`. */
function listOf(text: string | undefined): Record<string, string> {
  const pairs = (text ?? "").split(",").flatMap((pair) => {
    const at = pair.indexOf("=");
    return at < 1 ? [] : [[pair.slice(0, at).trim(), decoded(pair.slice(at + 1).trim())] as const];
  });
  return Object.fromEntries(pairs);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function tlsOf(ca: string | undefined, cert: string | undefined, key: string | undefined) {
  if (ca === undefined && cert === undefined && key === undefined) return null;
  const read = (file: string): string => {
    try {
      return readFileSync(file, "utf8");
    } catch {
      throw wrong(`OTEL_EXPORTER_OTLP_CERTIFICATE and its like name ${file}, which cannot be read`);
    }
  };
  return {
    ...(ca !== undefined && { ca: read(ca) }),
    ...(cert !== undefined && { cert: read(cert) }),
    ...(key !== undefined && { key: read(key) }),
  };
}

function wrong(message: string): UserError {
  return new UserError("telemetry", message);
}
