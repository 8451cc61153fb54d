import type { Instant } from "../core/duration.ts";
import { ProviderError } from "../core/errors.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import type { Ctx } from "../ports/context.ts";
import { authIn } from "./vault-answer.ts";
import { canLogInAgain, logIn, type Auth, type Granted } from "./vault-auth.ts";
import type { VaultConnection } from "./vault-connection.ts";

interface Held extends Granted {
  /** When a third of its life is left; Infinity: it does not end, or nobody said. */
  readonly renewAt: Instant;
}

const LOOK_UP = "auth/token/lookup-self";
const RENEW = "auth/token/renew-self";

/** Sessions of one process, so that ten secrets of one Vault log in once and a wrapping token is unwrapped once. */
const sessions = new WeakMap<AdapterDeps, Map<string, Session>>();

/**
 * The token of one login: got at first use, renewed when two thirds of its life are over, got anew when it can be
 * renewed no further or was refused.
 */
export class Session {
  #held: Promise<Held> | null = null;

  private constructor(
    private readonly how: Auth,
    private readonly connection: VaultConnection,
    private readonly deps: AdapterDeps,
  ) {}

  static of(how: Auth, connection: VaultConnection, deps: AdapterDeps): Session {
    const mine = sessions.get(deps) ?? new Map<string, Session>();
    sessions.set(deps, mine);
    const key = JSON.stringify([connection.address, connection.namespace, how]);
    const session = mine.get(key) ?? new Session(how, connection, deps);
    mine.set(key, session);
    return session;
  }

  /** Whether the end of the token is no end of us. */
  get logsInAgain(): boolean {
    return canLogInAgain(this.how);
  }

  async token(ctx: Ctx): Promise<string> {
    const before = this.#held;
    if (before !== null) {
      const held = await before;
      if (this.deps.now() < held.renewAt) return held.token;
      if (this.#held === before) this.#keep(this.#renew(held, ctx));
    } else this.#keep(this.#logIn(ctx));
    return (await (this.#held as unknown as Promise<Held>)).token;
  }

  /** What a look at the token told: a token that we were handed says nothing of its life by itself. */
  learn(token: string, ttl: number, renewable: boolean): void {
    const before = this.#held;
    if (before === null) return;
    this.#held = before.then((held) =>
      held.token === token && held.ttl === 0 && ttl > 0 ? this.#holding({ token, ttl, renewable }) : held,
    );
  }

  /** @throws ProviderError `unauthenticated` when it is the token itself that was refused */
  async checkAlive(token: string, ctx: Ctx): Promise<void> {
    const answer = await this.connection.send({ method: "GET", path: LOOK_UP, token, mutates: false }, ctx);
    if (answer.status !== 403) return;
    this.#held = null;
    const hint = this.logsInAgain ? "run it again: it logs in anew" : "vault login; vault token lookup";
    const message = "Vault refuses the token: expired, revoked, or without the default policy";
    throw new ProviderError("unauthenticated", "no", message, { hint });
  }

  #keep(coming: Promise<Held>): void {
    this.#held = coming;
    coming.catch(() => {
      if (this.#held === coming) this.#held = null;
    });
  }

  async #logIn(ctx: Ctx): Promise<Held> {
    const granted = await logIn(this.how, this.connection, this.deps, ctx);
    if (this.how.method !== "token") this.deps.debug(`vault: logged in by ${this.how.method}`);
    return this.#holding(granted);
  }

  async #renew(held: Held, ctx: Ctx): Promise<Held> {
    const sending = { method: "POST", path: RENEW, body: {}, token: held.token, mutates: false } as const;
    const answer = held.renewable ? await this.connection.send(sending, ctx) : null;
    const renewed = answer?.status === 200 ? authIn(answer.body) : null;
    // What is left shrinks towards the token's maximum: time for another one.
    const worth = renewed !== null && renewed.ttl >= held.ttl / 2;
    this.deps.debug(`vault: ${worth ? "renewed the token" : "the token cannot be renewed"}`);
    if (worth) return this.#holding(renewed);
    if (this.logsInAgain) return this.#logIn(ctx);
    return { ...(renewed ?? held), renewAt: Infinity };
  }

  #holding(granted: Granted): Held {
    return { ...granted, renewAt: granted.ttl > 0 ? this.deps.now() + granted.ttl * 667 : Infinity };
  }
}
