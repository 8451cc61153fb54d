import { ProviderError } from "../core/errors.ts";
import type { SecretState, Version, VersionId } from "../core/model.ts";
import type { SecretValue } from "../core/secret-value.ts";
import type { Ctx } from "../ports/context.ts";
import type { Served, StagedStore } from "../ports/store.ts";
import { isStaged } from "../ports/store.ts";
import type { SecretPorts } from "./deps.ts";

/** The values of one secret's versions that this process has seen. They live here, in the stores, and nowhere else. */
export class Values {
  readonly #known = new Map<VersionId, SecretValue>();

  constructor(private readonly ports: SecretPorts) {}

  get held(): ReadonlySet<VersionId> {
    return new Set(this.#known.keys());
  }

  keep(version: VersionId, value: SecretValue): void {
    this.#known.set(version, value);
  }

  get authority(): StagedStore {
    const store = this.ports.stores.get(this.ports.rules.deliveries[0]?.id ?? "");
    if (store === undefined || !isStaged(store)) throw new Error("the first delivery of a secret is staged");
    return store;
  }

  /** From memory, else from the authority; null: proven absent there. */
  async of(version: VersionId, ctx: Ctx): Promise<SecretValue | null> {
    const known = this.#known.get(version);
    if (known !== undefined) return known;
    const read = await this.authority.read(version, ctx);
    if (read !== null) this.keep(version, read);
    return read;
  }

  /** @throws ProviderError `conflict` when the value is nowhere to be had: somebody changed what was looked at. */
  async need(version: Version, state: SecretState, ctx: Ctx): Promise<SecretValue> {
    const value = await this.of(version.id, ctx);
    if (value !== null) return value;
    for (const { id, serves, ref } of state.deliveries) {
      const store = this.ports.stores.get(id);
      if (serves !== version.id || store === undefined || store.traits.proof !== "value") continue;
      const served = await store.current(ctx);
      if (served !== null && (await this.isServedAs(version, served, ref, ctx))) return served.value;
    }
    throw new ProviderError("conflict", "no", `the value of ${version.id} is neither in memory nor in a store`);
  }

  /** An adopted version is not held under its id yet: its key id, else the store's unchanged revision, tells. */
  async isServedAs(version: Version, served: Served, ref: string | null, ctx: Ctx): Promise<boolean> {
    const { issuer } = this.ports;
    const same =
      (ref !== null && served.ref === ref) ||
      (issuer.identify !== undefined && (await issuer.identify(served.value, ctx)) === version.keyId);
    if (same) this.keep(version.id, served.value);
    return same;
  }
}
