import type { Duration } from "../core/duration.ts";
import { ProviderError } from "../core/errors.ts";
import type { SecretState, Serves, Version } from "../core/model.ts";
import { deliveryOf, living } from "../core/model.ts";
import type { DeliveryLook, KeyId, KeyUsage, Observed, Query, Seen } from "../core/observed.ts";
import { NOTHING_OBSERVED } from "../core/observed.ts";
import type { ReasonCode } from "../core/reasons.ts";
import { wantedId } from "../core/wanted.ts";
import type { SecretValue } from "../core/secret-value.ts";
import type { Ctx } from "../ports/context.ts";
import type { Served, Store } from "../ports/store.ts";
import type { Clock, SecretPorts } from "./deps.ts";
import type { Values } from "./values.ts";

/** Identities and permissions change rarely; a run that waits for days still asks again. */
const DESCRIPTIONS_HOLD: Duration = 30_000;
/** What is older was seen before this process slept: nothing rests on it any more. */
const LOOKS_HOLD: Duration = 120_000;

/** A moment on both clocks: one of them stands still while the machine sleeps, the other may jump. */
interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

/** Answers the core's questions. What was answered holds until the document changes, descriptions a while longer. */
export class Observer {
  #seen: Observed = NOTHING_OBSERVED;
  #listedAt: Moment | null = null;
  #answeredAt = 0;
  #readAt: Moment | null = null;
  #describedAt: Moment | null = null;
  #since: Moment | null = null;
  #seq = -1;

  constructor(
    private readonly ports: SecretPorts,
    private readonly values: Values,
    private readonly clock: Clock,
  ) {}

  get seen(): Observed {
    if (!this.holds) this.forget();
    return {
      ...this.#seen,
      held: this.values.held,
      keysAge: this.#listedAt === null ? 0 : this.clock.monotonic() - this.#answeredAt,
      deliveriesAge: this.#age(this.#readAt),
    };
  }

  /** Whether what was looked at is young enough to act on. */
  get holds(): boolean {
    return this.#age(this.#since) <= LOOKS_HOLD;
  }

  /** How long ago, at most, the keys were listed. */
  get keysAgeAtMost(): Duration {
    return this.#age(this.#listedAt);
  }

  /** What was looked at holds for this sequence of the document alone. */
  restOn(seq: number): void {
    if (seq !== this.#seq) this.forget();
    this.#seq = seq;
  }

  /** The document moved, or time passed: everything has to be looked at again. */
  forget(): void {
    const fresh = this.#age(this.#describedAt) < DESCRIPTIONS_HOLD;
    const answered = Object.entries(this.#seen.described).filter(([, look]) => "value" in look);
    this.#seen = { ...NOTHING_OBSERVED, described: fresh ? Object.fromEntries(answered) : {} };
    this.#since = this.#listedAt = this.#readAt = null;
  }

  #mark(): Moment {
    return { monotonic: this.clock.monotonic(), wall: this.clock.wall() };
  }

  /** Never less than the truth, unless both clocks lie. */
  #age(since: Moment | null): Duration {
    if (since === null) return 0;
    return Math.max(0, this.clock.monotonic() - since.monotonic, this.clock.wall() - since.wall);
  }

  async look(queries: readonly Query[], state: SecretState, ctx: Ctx): Promise<void> {
    this.#since ??= this.#mark();
    for (const query of queries) await this.#answer(query, state, ctx);
  }

  async #answer(query: Query, state: SecretState, ctx: Ctx): Promise<void> {
    const seen = this.#seen;
    switch (query.look) {
      case "describe": {
        const target = query.what === "issuer" ? this.ports.issuer : this.#store(query.what);
        if (Object.keys(seen.described).length === 0) this.#describedAt = this.#mark();
        const description = await attempt(() => target.describe(ctx));
        this.#seen = { ...seen, described: { ...seen.described, [query.what]: description } };
        return;
      }
      case "keys": {
        this.#listedAt = this.#mark();
        const keys = await attempt(() => this.ports.issuer.list(ctx));
        this.#answeredAt = this.clock.monotonic();
        this.#seen = { ...seen, keys };
        return;
      }
      case "delivery": {
        this.#readAt ??= this.#mark();
        const look = await attempt(() => this.#delivery(query.delivery, state, ctx));
        this.#seen = { ...seen, deliveries: { ...seen.deliveries, [query.delivery]: look } };
        return;
      }
      case "staged": {
        const present = await attempt(async () => (await this.values.of(query.version, ctx)) !== null);
        this.#seen = { ...seen, staged: { ...seen.staged, [query.version]: present } };
        return;
      }
      case "accepts": {
        const result = await attempt(async () => {
          const version = state.versions.find((v) => v.id === query.version) as Version;
          return this.ports.issuer.verify(await this.values.need(version, state, ctx), ctx);
        });
        this.#seen = { ...seen, accepts: { ...seen.accepts, [query.version]: result } };
        return;
      }
      case "usage":
        this.#seen = { ...seen, usage: await this.#usage(state, ctx) };
    }
  }

  async #usage(state: SecretState, ctx: Ctx): Promise<Readonly<Record<string, Seen<ReadonlyMap<KeyId, KeyUsage>>>>> {
    const keys = living(state).flatMap((v) => (v.keyId === null ? [] : [v.keyId]));
    const answers: Record<string, Seen<ReadonlyMap<KeyId, KeyUsage>>> = {};
    for (const [id, monitor] of this.ports.monitors)
      answers[id] = await attempt(async () => {
        const told = await monitor.usageOf(keys, 0, ctx);
        const asOf = this.clock.wall();
        return new Map([...told].map(([keyId, usage]) => [keyId, { asOf, ...usage }]));
      });
    return answers;
  }

  #store(id: string): Store {
    const store = this.ports.stores.get(id);
    if (store === undefined) throw new Error(`no store for delivery ${id}`);
    return store;
  }

  async #delivery(id: string, state: SecretState, ctx: Ctx): Promise<DeliveryLook> {
    const store = this.#store(id);
    if (store.traits.proof === "digest") return this.#digest(store, id, state, ctx);
    const served = await store.current(ctx);
    if (served === null) return { serves: "nothing", ref: null, lagging: [] };
    return { serves: await this.#whose(served, id, state, ctx), ref: served.ref, lagging: served.lagging ?? [] };
  }

  async #digest(store: Store, id: string, state: SecretState, ctx: Ctx): Promise<DeliveryLook> {
    const left = deliveryOf(state, id);
    const ref = left?.ref ?? null;
    let sure = true;
    for (const version of this.#candidates(id, state)) {
      const value = await this.values.of(version.id, ctx);
      // A lost value matters only where it may have been written: anywhere else it is not what was left.
      const mayBe = left?.serves == null || left.serves === version.id || version.leftOpen.includes(id);
      if (value === null && !mayBe) continue;
      const same = value === null ? "cannot-tell" : await store.check?.(value, ref, ctx);
      if (same === "same") return { serves: { version: version.id }, ref, lagging: [] };
      sure &&= same === "changed";
    }
    return { serves: sure ? (ref === null ? "nothing" : "foreign") : "unknown", ref, lagging: [] };
  }

  /** Judged by our fields' values, never by the store's version ids. */
  async #whose(served: Served, id: string, state: SecretState, ctx: Ctx): Promise<Serves> {
    const rules = this.ports.rules.deliveries.find((d) => d.id === id);
    for (const version of this.#candidates(id, state)) {
      if (!version.staged && version.exposed && !this.values.held.has(version.id)) {
        if (await this.values.isServedAs(version, served, deliveryOf(state, id)?.ref ?? null, ctx))
          return { version: version.id };
        continue;
      }
      const value = await this.values.of(version.id, ctx);
      if (value !== null && same(value, served.value, rules?.fields)) return { version: version.id };
    }
    return "foreign";
  }

  /** Likeliest first: each may cost a call. */
  #candidates(id: string, state: SecretState): readonly Version[] {
    const recorded = deliveryOf(state, id)?.serves;
    const goal = wantedId(state);
    const rank = (v: Version): number => (v.id === recorded ? 0 : v.id === goal ? 1 : 2);
    // A dead version counts where it was left: an accepted outage is no drift.
    const known = state.versions.filter((v) => v.keyId !== null && (v.status !== "destroyed" || v.id === recorded));
    return [...known].sort((a, b) => rank(a) - rank(b));
  }
}

function same(value: SecretValue, served: SecretValue, fields: readonly string[] | undefined): boolean {
  return fields === undefined ? value.equals(served) : (value.pick(fields)?.equals(served) ?? false);
}

async function attempt<T>(look: () => Promise<T>): Promise<Seen<T>> {
  try {
    return { value: await look() };
  } catch (thrown) {
    const error = ProviderError.from(thrown);
    return { failed: { reason: reasonFor(error), message: error.message, hint: error.detail.hint } };
  }
}

/** What a look that failed is called for people. */
export function reasonFor(error: ProviderError): ReasonCode {
  if (error.kind === "denied") return "permission-missing";
  return error.kind === "unauthenticated" ? "credentials-missing" : "provider-unavailable";
}
