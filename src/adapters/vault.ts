import * as z from "zod";
import type { ProviderError } from "../core/errors.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import type { Ctx, VaultPermission } from "../ports/context.ts";
import { isDone, read, vaultFailure, type Asked, type Capability } from "./vault-answer.ts";
import { auth, type Auth } from "./vault-auth.ts";
import { trimmed, VaultConnection, type Received, type Sending } from "./vault-connection.ts";
import { Session } from "./vault-session.ts";

const LONGEST_LAG = 10_000;

/** Segments of a path that would lead elsewhere, and what no path of Vault's holds. */
export function vaultPath(): z.ZodString {
  return z.string().refine((text) => trimmed(text) !== "" && !/(^|\/)\.{1,2}(\/|$)|[\p{Cc}?#*+]/u.test(text), {
    error: "is no path that Vault has: write payments/aws",
  });
}

/** What every adapter for Vault begins its settings with. */
export const vaultSettings = {
  address: z
    .string()
    .min(1)
    .optional()
    .describe("Where Vault answers: https://vault.example.com:8200. Default: VAULT_ADDR."),
  namespace: z.string().min(1).optional().describe("The namespace. Default: VAULT_NAMESPACE, else the root."),
  auth: auth.optional(),
} as const;

export interface VaultPlace {
  readonly address?: string | undefined;
  readonly namespace?: string | undefined;
  readonly auth?: Auth | undefined;
}

/** One call; `path` is encoded already. */
export interface VaultCall {
  readonly method: Sending["method"];
  readonly path: string;
  readonly body?: object;
  /** In our words, for errors: "listing secret ids". */
  readonly what: string;
  /** What the token's policy has to grant there. */
  readonly needs: readonly Capability[];
  readonly mutates?: boolean;
  /** A token other than our own; null: none. */
  readonly token?: string | null;
  /** Asked outside of any namespace. */
  readonly ofCluster?: boolean;
}

/** Vault as one policy reaches it: requests under the session's token, refusals in our words. */
export class Vault {
  readonly connection: VaultConnection;
  readonly session: Session;
  readonly #deps: AdapterDeps;
  #lags: Promise<boolean> | null = null;

  constructor(place: VaultPlace, deps: AdapterDeps) {
    this.#deps = deps;
    this.connection = new VaultConnection(place, deps);
    this.session = Session.of(place.auth ?? { method: "token", wrapped: false }, this.connection, deps);
  }

  /**
   * Sends it once and hands back whatever Vault answered, for callers that judge it themselves. A 403 is looked
   * into, for Vault answers a dead token and a missing permission alike.
   *
   * @throws ProviderError where no answer came, or our own token is refused
   */
  async ask(call: VaultCall, ctx: Ctx): Promise<Received> {
    const { method, path, body, mutates = false, ofCluster = false } = call;
    const token = call.token === undefined ? await this.session.token(ctx) : call.token;
    const sending = { method, path, token, mutates, ofCluster, ...(body !== undefined && { body }) };
    const answer = await this.connection.send(sending, ctx);
    if (answer.status === 403 && call.token === undefined) await this.session.checkAlive(token as string, ctx);
    return answer;
  }

  /** A call whose success has this shape. Anything else throws. */
  async get<T extends z.ZodType>(schema: T, call: VaultCall, ctx: Ctx): Promise<z.output<T>> {
    const answer = await this.ask(call, ctx);
    if (answer.status !== 200) throw this.failure(answer, call);
    return read(schema, answer, this.asked(call));
  }

  /** A call whose success says nothing. */
  async do(call: VaultCall, ctx: Ctx): Promise<void> {
    const answer = await this.ask(call, ctx);
    if (!isDone(answer)) throw this.failure(answer, call);
  }

  /**
   * An absence counts once it was seen twice, 10 s apart, where a standby may answer from a copy that lags: Vault
   * Enterprise's performance standbys and OpenBao's since 2.5. Without a cluster, or with Vault's community edition,
   * whose standbys forward everything, once is enough.
   */
  async surely<T>(look: () => Promise<T | null>, ctx: Ctx): Promise<T | null> {
    const first = await look();
    if (first !== null || !(await this.#copiesLag(ctx))) return first;
    await this.#deps.sleep(LONGEST_LAG, ctx.signal);
    return look();
  }

  #copiesLag(ctx: Ctx): Promise<boolean> {
    if (this.#lags === null) {
      this.#lags = this.#mayLag(ctx);
      this.#lags.catch(() => (this.#lags = null));
    }
    return this.#lags;
  }

  async #mayLag(ctx: Ctx): Promise<boolean> {
    const ask = (path: string) =>
      this.ask({ method: "GET", path, what: "asking for the cluster", needs: [], token: null, ofCluster: true }, ctx);
    const leader = z.object({ ha_enabled: z.boolean() }).safeParse((await ask("sys/leader")).body);
    if (leader.data?.ha_enabled === false) return false;
    const health = z
      .object({ version: z.string(), performance_standby: z.boolean() })
      .safeParse((await ask("sys/health")).body);
    // OpenBao does not speak of performance standbys.
    return !health.success || health.data.version.includes("+ent");
  }

  failure(answer: Received, call: VaultCall): ProviderError {
    return vaultFailure(answer, this.asked(call));
  }

  asked({ what, path, needs, mutates = false }: VaultCall): Asked {
    return { what, path, needs, mutates, namespace: this.connection.namespace };
  }

  permission(why: string, path: string, capabilities: readonly Capability[]): VaultPermission {
    const { address, namespace } = this.connection;
    return { for: "vault", why, address, namespace, path, capabilities };
  }
}
