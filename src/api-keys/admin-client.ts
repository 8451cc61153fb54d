import * as z from "zod";

const TIMEOUT = 10_000;

const stamp = { authority: z.string(), now: z.number() };
const refused = z.object({ ...stamp, error: z.object({ code: z.string() }) });
const client = z.object({
  name: z.string(),
  maxKeys: z.number(),
  scopes: z.array(z.string()),
  createdAt: z.number(),
});
const key = z.object({
  id: z.string(),
  client: z.string(),
  status: z.enum(["enabled", "disabled", "deleted"]),
  prefix: z.string(),
  label: z.string(),
  scopes: z.array(z.string()),
  createdAt: z.number(),
  expiresAt: z.number().nullable(),
});

export interface AdminClientOptions {
  readonly url: string;
  readonly adminToken: string;
  readonly signal?: AbortSignal;
}

/**
 * An admin call did not succeed. `code`: the authority's own word (`quota`, `exists`, `unknown-client`,
 * `unknown-key`, `scope`, `invalid`, `unauthenticated` …), `not-listening` when nobody was there to hear it,
 * `unreachable` when nothing came back (a change may have been made all the same), `not-an-authority` when something else answered.
 */
export class AdminCallFailed extends Error {
  override readonly name = "AdminCallFailed";
  constructor(readonly code: string) {
    super(`the API-key authority: ${code}`);
  }
}

/** What a person does with the authority: one method for each admin verb. All throw {@link AdminCallFailed}. */
export class AdminClient {
  constructor(private readonly options: AdminClientOptions) {}

  async addClient(name: string, settings: { maxKeys?: number; scopes?: readonly string[] } = {}) {
    return (await this.#call(z.object({ client }), "POST", ["clients"], { name, ...settings })).client;
  }

  async addKey(owner: string, settings: { label?: string; scopes?: readonly string[]; expiresIn?: number } = {}) {
    const added = z.object({ key: key.extend({ value: z.string() }) });
    return (await this.#call(added, "POST", ["clients", owner, "keys"], settings)).key;
  }

  async keys(owner: string) {
    return (await this.#call(z.object({ keys: z.array(key) }), "GET", ["clients", owner, "keys"])).keys;
  }

  async disable(owner: string, id: string) {
    return (await this.#call(z.object({ key }), "POST", ["clients", owner, "keys", id, "disable"])).key;
  }

  async enable(owner: string, id: string) {
    return (await this.#call(z.object({ key }), "POST", ["clients", owner, "keys", id, "enable"])).key;
  }

  async delete(owner: string, id: string) {
    return (await this.#call(z.object({ key }), "DELETE", ["clients", owner, "keys", id])).key;
  }

  async #call<T extends z.ZodType>(
    schema: T,
    method: string,
    path: readonly string[],
    body?: object,
  ): Promise<z.output<T>> {
    const { url, adminToken, signal } = this.options;
    const limit = AbortSignal.timeout(TIMEOUT);
    let answer: unknown;
    try {
      const response = await fetch(`${url.replace(/\/+$/, "")}/v1/admin/${path.map(encodeURIComponent).join("/")}`, {
        method,
        headers: { authorization: `Bearer ${adminToken}`, connection: "close" },
        body: body === undefined ? null : JSON.stringify(body),
        redirect: "manual",
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
      });
      answer = await response.json();
    } catch (error) {
      throw new AdminCallFailed(wordFor(error));
    }
    const refusal = refused.safeParse(answer);
    if (refusal.success) throw new AdminCallFailed(refusal.data.error.code);
    const result = schema.safeParse(answer);
    if (!result.success) throw new AdminCallFailed("not-an-authority");
    return result.data;
  }
}

/** Where there was no connection, nothing can have been done. */
function wordFor(error: unknown): string {
  if (error instanceof SyntaxError) return "not-an-authority";
  const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
  return code === "ECONNREFUSED" || code === "ENOTFOUND" ? "not-listening" : "unreachable";
}
