import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import type { Instant } from "../core/duration.ts";
import { ProviderError } from "../core/errors.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import { outside, type Ctx } from "../ports/context.ts";
import { proxyOf } from "./http-proxy.ts";
import { request, type HttpRequest } from "./http.ts";

declare const KEYTURN_VERSION: string;
const AGENT = `keyturn/${typeof KEYTURN_VERSION === "undefined" ? "dev" : KEYTURN_VERSION}`;

/** What one call of ours brings to the transport, below the SDK's own middleware. */
export interface Sending {
  readonly ctx: Ctx;
  readonly mutates: boolean;
  /** The version id that the call is about: part of the user agent, so that CloudTrail shows it. */
  readonly version?: string;
  /** Told the server's clock (the `Date` header) with each answer, refusals included, and its other headers. */
  readonly heard?: (at: Instant, headers: Readonly<Record<string, string>>) => void;
}

/** The SDK's request, as far as we need it. */
interface SdkRequest {
  readonly method: string;
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/**
 * The SDK's request handler over our own transport: fenced, one connection a call, nothing tried twice. Proxies and
 * `AWS_CA_BUNDLE` are those of the environment. What the SDK asks by itself on the way (STS for an assumed role,
 * SSO) changes nothing of anybody's and goes as a look.
 */
export class AwsTransport {
  readonly metadata = { handlerProtocol: "http/1.1" };
  readonly #env: AdapterDeps["env"];
  #ca: string | undefined;

  constructor(env: AdapterDeps["env"]) {
    this.#env = env;
  }

  async handle(sdk: SdkRequest, options: { readonly sending?: Sending } = {}): Promise<{ response: object }> {
    const { sending } = options;
    const url = urlOf(sdk);
    const proxy = proxyOf(url, this.#env);
    const ca = this.#bundle();
    const note = [sending?.ctx.rotationId, sending?.version].filter((part) => typeof part === "string").join("; ");
    const agent = [AGENT, ...(note === "" ? [] : [`(${note})`]), sdk.headers["user-agent"] ?? ""].join(" ");
    const answer = await request({
      method: sdk.method as HttpRequest["method"],
      url,
      headers: { ...sdk.headers, "user-agent": agent.trim() },
      ...(typeof sdk.body === "string" || sdk.body instanceof Uint8Array ? { body: sdk.body } : {}),
      ctx: sending?.ctx ?? outside(),
      mutates: sending?.mutates ?? false,
      ...(proxy !== undefined && { proxy }),
      ...(ca !== undefined && { tls: { ca } }),
    });
    const at = Date.parse(answer.headers.date ?? "");
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(answer.headers)) headers[name] = String(value);
    if (!Number.isNaN(at)) sending?.heard?.(at, headers);
    // S3 hands out its objects as streams, and takes nothing else for one.
    const body = Readable.from([Buffer.from(answer.text)]);
    return { response: { statusCode: answer.status, headers, body } };
  }

  // The SDK asks every handler for these.
  updateHttpClientConfig(): void {}
  httpHandlerConfigs(): object {
    return {};
  }
  destroy(): void {}

  #bundle(): string | undefined {
    const file = this.#env["AWS_CA_BUNDLE"];
    if (!file) return undefined;
    try {
      return (this.#ca ??= readFileSync(file, "utf8"));
    } catch {
      throw new ProviderError("invalid", "no", `AWS_CA_BUNDLE names ${file}, which cannot be read`);
    }
  }
}

function urlOf({ protocol, hostname, port, path, query = {} }: SdkRequest): string {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    (Array.isArray(value) ? (value as readonly string[]) : [value as string | null]).map((one) =>
      one === null ? encodeURIComponent(name) : `${encodeURIComponent(name)}=${encodeURIComponent(one)}`,
    ),
  );
  const search = pairs.length === 0 ? "" : `?${pairs.join("&")}`;
  return `${protocol}//${hostname}${port === undefined ? "" : `:${port}`}${path}${search}`;
}
