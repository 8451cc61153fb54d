import * as z from "zod";
import { ProviderError } from "../core/errors.ts";
import { credential, type AdapterDeps } from "../ports/adapter.ts";
import type { Ctx } from "../ports/context.ts";
import { proxyOf } from "./http-proxy.ts";
import { failureOf, request, type HttpAnswer } from "./http.ts";
import { duration, ms } from "./settings.ts";

/** How an API that is only read is reached. */
export const apiSettings = {
  token: credential().optional().describe("Sent as a bearer token. Default: none."),
  headers: z
    .record(z.string(), credential())
    .optional()
    .describe("Further headers, each a reference, for an API key or a password. Default: none."),
  timeout: duration(1).default("10s").describe("For one request, connecting included. Default: 10s."),
};

export interface Api {
  readonly token?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly timeout: string;
}

/**
 * GETs a JSON document, past every cache, through the proxy that the environment names.
 *
 * @param what what is being done, in the adapter's own words: "asking for usage"
 * @throws ProviderError, applied `no`; `not-found` for a 404
 */
export async function getJson(
  { token, headers, timeout }: Api,
  url: string,
  what: string,
  env: AdapterDeps["env"],
  ctx: Pick<Ctx, "signal" | "fence">,
): Promise<{ readonly document: unknown; readonly answer: HttpAnswer }> {
  const bearer = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const all = {
    accept: "application/json",
    "cache-control": "no-cache",
    "user-agent": "keyturn",
    ...headers,
    ...bearer,
  };
  const proxy = proxyOf(url, env);
  const through = proxy === undefined ? {} : { proxy };
  const answer = await request({
    method: "GET",
    url,
    headers: all,
    timeout: ms(timeout),
    ctx,
    mutates: false,
    ...through,
  });
  if (answer.status !== 200) throw failureOf(answer, what, false);
  try {
    return { document: JSON.parse(answer.text) as unknown, answer };
  } catch {
    throw new ProviderError("unavailable", "no", `${what}: the answer is not JSON`);
  }
}
