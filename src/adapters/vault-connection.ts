import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import nodeVault from "node-vault";
import type { Instant } from "../core/duration.ts";
import { ProviderError } from "../core/errors.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import type { Ctx } from "../ports/context.ts";
import { proxyOf } from "./http-proxy.ts";
import { isDistrust, originOf, request, type HttpAnswer, type HttpRequest, type TlsOptions } from "./http.ts";

type Env = AdapterDeps["env"];

/** One request as it goes over the wire. */
export interface Sending {
  readonly method: HttpRequest["method"];
  /** Below `/v1/`, encoded: see {@link segments}. */
  readonly path: string;
  readonly body?: object;
  /** null: none is sent, as for a login. */
  readonly token: string | null;
  readonly mutates: boolean;
  /** Asked outside of any namespace, where alone Vault tells of itself. */
  readonly ofCluster?: boolean;
}

export interface Received {
  readonly status: number;
  /** The parsed body; null where there is none, or it is no JSON. */
  readonly body: unknown;
  /** As it came: its numbers may be longer than ours. */
  readonly text: string;
  /** The server's clock, in whole seconds; ours where it tells none. */
  readonly at: Instant;
  readonly headers: HttpAnswer["headers"];
}

/** A standby that lags behind our own last write says so; it is asked again so often, after so many ms. */
const LAGGING_LOOKS = 5;
const LAGGING_PAUSE = 300;

/**
 * Reaches one Vault or OpenBao as its own command line would: `VAULT_ADDR`, `VAULT_NAMESPACE`, `VAULT_CACERT`,
 * `VAULT_CACERT_BYTES`, `VAULT_CAPATH`, `VAULT_CLIENT_CERT`, `VAULT_CLIENT_KEY`, `VAULT_TLS_SERVER_NAME`,
 * `VAULT_SKIP_VERIFY`, proxies. `VAULT_WRAP_TTL` is for people and is not read: a wrapped answer is none to us.
 *
 * node-vault makes the requests (address, version, namespace) and our transport sends them. Its judgement of answers
 * is not used, for it takes whatever a path with `sys/health` in it answers for success and puts bodies into errors;
 * nor are its named commands, which escape paths as HTML; and it is never given the token to keep.
 *
 * A standby's 307 is followed once, and only to an https address whose certificate is verified as the first one's
 * is: whoever answered there could have read the token anyway. Any other redirect is refused.
 *
 * Reads follow our own writes: the `X-Vault-Index` of the last write is sent along, and a node that has not got
 * that far refuses: Vault Enterprise by 412 (developer.hashicorp.com/vault/docs/enterprise/consistency), OpenBao's
 * read-enabled standbys by a 429 without a word (seen with 2.7.2). Such a read is sent again a few times.
 */
export class VaultConnection {
  /** Scheme, host and port, and a path where the server stands below one. */
  readonly address: string;
  /** "" for the root namespace; no slash at either end. */
  readonly namespace: string;
  readonly #env: Env;
  readonly #sleep: AdapterDeps["sleep"];
  readonly #client: Client;
  readonly #ofCluster: Client;
  #tls: TlsOptions | null = null;
  #index: string | undefined;

  constructor(
    where: { readonly address?: string | undefined; readonly namespace?: string | undefined },
    deps: AdapterDeps,
  ) {
    this.#env = deps.env;
    this.#sleep = deps.sleep;
    this.address = (where.address ?? (deps.env["VAULT_ADDR"] || deps.env["BAO_ADDR"] || "")).replace(/\/+$/, "");
    this.namespace = trimmed(where.namespace ?? (deps.env["VAULT_NAMESPACE"] || deps.env["BAO_NAMESPACE"] || ""));
    this.#client = this.#clientIn(this.namespace);
    this.#ofCluster = this.#clientIn("");
  }

  /** @throws ProviderError where no answer came, or one that is no answer; statuses are the caller's to judge. */
  async send(sending: Sending, ctx: Ctx): Promise<Received> {
    if (this.address === "") {
      const hint = "give the store or issuer an `address:`, or set VAULT_ADDR";
      throw new ProviderError("invalid", "no", "no address of a Vault is known", { hint });
    }
    const { method, path, body, token, mutates, ofCluster = false } = sending;
    for (let look = 1; ; look++) {
      const headers = {
        "X-Vault-Request": "true",
        "User-Agent": "keyturn",
        ...(token !== null && { "X-Vault-Token": token }),
        ...(this.#index !== undefined && !mutates && { "X-Vault-Index": this.#index }),
      };
      const options = { method, path: `/${path}`, json: body ?? true, headers, ours: { ctx, mutates } };
      const answer = (await (ofCluster ? this.#ofCluster : this.#client).request(options)) as HttpAnswer;
      if (!mutates && look < LAGGING_LOOKS && lags(answer)) {
        await this.#sleep(LAGGING_PAUSE, ctx.signal);
        continue;
      }
      const index = answer.headers["x-vault-index"];
      if (mutates && typeof index === "string") this.#index = index;
      const at = Date.parse(answer.headers.date ?? "");
      return {
        status: answer.status,
        body: parsed(answer),
        text: answer.text,
        headers: answer.headers,
        at: Number.isNaN(at) ? Date.now() : at,
      };
    }
  }

  #clientIn(namespace: string): Client {
    const config = {
      endpoint: this.address || "http://none",
      "request-promise": { defaults: () => (options: SdkOptions) => this.#send(options) },
      debug: () => {},
    };
    // What is not given it takes from the process's own environment.
    return Object.assign(nodeVault(config as object), { token: "", namespace, pathPrefix: "" });
  }

  /** What node-vault is given for its `request-promise`: the answer goes through it whole. */
  async #send({ method, uri, headers, json, ours: { ctx, mutates } }: SdkOptions) {
    const proxy = proxyOf(uri, this.#env);
    const tls = (this.#tls ??= tlsOf(this.#env));
    const content = typeof json === "object" ? { body: JSON.stringify(json) } : {};
    const type = { "Content-Type": method === "PATCH" ? "application/merge-patch+json" : "application/json" };
    const one: HttpRequest = {
      method,
      url: uri,
      headers: typeof json === "object" ? { ...type, ...headers } : headers,
      ...content,
      ctx,
      mutates,
      tls,
      ...(proxy !== undefined && { proxy }),
    };
    let answer = await request(one).catch((error: unknown) => Promise.reject(hinted(error)));
    if (answer.status === 307) {
      const onward = this.#redirect(answer, uri);
      const through = proxyOf(onward, this.#env);
      const { proxy: _, ...rest } = one;
      answer = await request({ ...rest, url: onward, ...(through !== undefined && { proxy: through }) });
    }
    return { statusCode: 200, request: { path: "" }, body: answer };
  }

  #redirect(answer: HttpAnswer, from: string): string {
    const { location = "" } = answer.headers;
    const to = URL.canParse(location, from) ? new URL(location, from) : null;
    const safe = to?.protocol === "https:" && new URL(from).protocol === "https:";
    if (to !== null && safe && this.#tls?.rejectUnauthorized !== false) return to.href;
    const hint =
      to === null ? "ask the active node instead" : `set VAULT_ADDR to ${originOf(to.href)} if that is the active node`;
    const message = `${originOf(from)} is a standby that sends callers elsewhere, and the token goes only where TLS shows who answers`;
    throw new ProviderError("unavailable", "no", message, { hint });
  }
}

interface Client {
  request(options: object): Promise<unknown>;
}

interface SdkOptions {
  readonly method: HttpRequest["method"];
  readonly uri: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly json: object | true;
  readonly ours: { readonly ctx: Ctx; readonly mutates: boolean };
}

/** The node has not got the write yet that it was told of; a 429 for too many requests says so. */
function lags({ status, text }: HttpAnswer): boolean {
  return status === 412 || (status === 429 && /^\s*\{"errors":\[\]\}\s*$/.test(text));
}

/** Where nobody could be reached, what to look at. */
function hinted(error: unknown): unknown {
  if (!(error instanceof ProviderError) || error.kind !== "unavailable" || error.detail.hint !== undefined)
    return error;
  if (!/ \([A-Z_]+\)$|refused$|host/.test(error.message)) return error;
  const hint = isDistrust(error)
    ? "set VAULT_CACERT to the certificate of the authority that signed Vault's"
    : "check `address:` or VAULT_ADDR, and that Vault runs: vault status";
  return new ProviderError(error.kind, error.applied, error.message, { ...error.detail, hint });
}

/** A path of Vault's with what its segments hold encoded; slashes at either end, and double ones, are dropped. */
export function segments(...paths: readonly string[]): string {
  const parts = paths.flatMap((path) => path.split("/")).filter((part) => part !== "");
  return parts.map(encodeURIComponent).join("/");
}

export function trimmed(path: string): string {
  return path
    .split("/")
    .filter((part) => part !== "")
    .join("/");
}

function parsed(answer: HttpAnswer): unknown {
  try {
    return answer.text === "" ? null : (JSON.parse(answer.text) as unknown);
  } catch {
    return null;
  }
}

/** The process's TLS settings; files are read once. */
function tlsOf(env: Env): TlsOptions {
  const ca = authorities(env);
  const cert = file(env, "VAULT_CLIENT_CERT");
  const key = file(env, "VAULT_CLIENT_KEY");
  const servername = env["VAULT_TLS_SERVER_NAME"];
  return {
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(servername && { servername }),
    ...(/^(1|t|true)$/i.test(env["VAULT_SKIP_VERIFY"] ?? "") && { rejectUnauthorized: false }),
  };
}

function authorities(env: Env): string | undefined {
  if (env["VAULT_CACERT_BYTES"]) return env["VAULT_CACERT_BYTES"];
  const one = file(env, "VAULT_CACERT");
  if (one !== undefined) return one;
  const folder = env["VAULT_CAPATH"];
  if (!folder) return undefined;
  return readable("VAULT_CAPATH", folder, () =>
    readdirSync(folder, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map(({ name }) => readFileSync(join(folder, name), "utf8"))
      .join("\n"),
  );
}

function file(env: Env, name: string): string | undefined {
  const path = env[name];
  return path ? readable(name, path, () => readFileSync(path, "utf8")) : undefined;
}

function readable(name: string, path: string, read: () => string): string {
  try {
    return read();
  } catch {
    throw new ProviderError("invalid", "no", `${name} names ${path}, which cannot be read`);
  }
}
