import * as z from "zod";
import { ProviderError } from "../../core/errors.ts";
import type { SecretValue } from "../../core/secret-value.ts";
import type { Ctx, Description, VaultPermission } from "../../ports/context.ts";
import type { Ref, Served, Store } from "../../ports/store.ts";
import { isAbsent, read } from "../vault-answer.ts";
import { segments } from "../vault-connection.ts";
import type { Vault } from "../vault.ts";
import { describeKv } from "../vault-kv-check.ts";
import { named, otherNames, unnamed, type Data } from "../vault-kv-data.ts";
import type { KvPlace } from "../vault-kv-place.ts";

/** Numbers are kept as they were written, digit by digit: 12345678901234567890, 1.0. */
function numbersSurvive(text: string): boolean {
  const outside = text.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  return (outside.match(/-?\d[\d.eE+-]*/g) ?? []).every((number) => String(Number(number)) === number);
}

const held = z.object({ data: z.record(z.string(), z.unknown()) });

/** There is no revision to tell: whatever stands there goes by this name. */
const PRESENT: Ref = "unversioned";

/**
 * One path of a KV engine, version 1: a mirror. It has no versions and no compare-and-set, so that a neighbour's
 * change in the moment between our read and our write is lost, and all that `expected` can tell is whether our
 * fields are there (developer.hashicorp.com/vault/api-docs/secret/kv/kv-v1).
 */
export class KvV1Store implements Store {
  readonly traits = { staged: false, proof: "value", timing: { propagation: 5000, settle: 5000 } } as const;
  readonly objectKey: string;
  readonly #path: string;

  constructor(
    private readonly vault: Vault,
    private readonly place: KvPlace,
  ) {
    const { address, namespace } = vault.connection;
    this.objectKey = `vault:${address}:${namespace}:${place.mount}/${place.path}`;
    this.#path = segments(place.mount, place.path);
  }

  describe(ctx: Ctx): Promise<Description> {
    return describeKv(this.vault, this.place, this.permissions(), ctx);
  }

  /** Beside this the token needs what the `default` policy grants: to look at itself and at what it may do. */
  permissions(): readonly VaultPermission[] {
    const { mount, path } = this.place;
    return [
      this.vault.permission("read what is served, and replace it", `${mount}/${path}`, ["create", "read", "update"]),
    ];
  }

  async others(ctx: Ctx): Promise<readonly string[]> {
    return otherNames((await this.#read(ctx)).data, this.place.fields);
  }

  async current(ctx: Ctx): Promise<Served | null> {
    return this.vault.surely(async () => this.#served((await this.#read(ctx)).data), ctx);
  }

  async put(version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    const { mount, path, fields } = this.place;
    const { data, exact } = await this.#read(ctx);
    const served = this.#served(data);
    if ((served?.ref ?? null) !== expected)
      throw new ProviderError("conflict", "no", `${mount}/${path} was changed by somebody else`);
    const ours = named(value, fields);
    if (!fresh && served?.value.equals(unnamed(ours, fields) as SecretValue)) return PRESENT;
    if (!exact) {
      const message = `${mount}/${path} holds a number that could not be written back as it is`;
      throw new ProviderError("invalid", "no", message, { hint: "keep it as a text, or use a KV engine of version 2" });
    }
    const needs = data === null ? (["create"] as const) : (["update"] as const);
    const call = { method: "POST", path: this.#path, what: `writing ${version}`, needs, mutates: true } as const;
    await this.vault.do({ ...call, body: { ...data, ...ours } }, ctx);
    return PRESENT;
  }

  async #read(ctx: Ctx): Promise<{ readonly data: Data | null; readonly exact: boolean }> {
    const { mount, path } = this.place;
    const call = { method: "GET", path: this.#path, what: `reading ${mount}/${path}`, needs: ["read"] } as const;
    const answer = await this.vault.ask(call, ctx);
    if (isAbsent(answer)) return { data: null, exact: true };
    if (answer.status !== 200) throw this.vault.failure(answer, call);
    return { ...read(held, answer, this.vault.asked(call)), exact: numbersSurvive(answer.text) };
  }

  #served(data: Data | null): Served | null {
    const value = data === null ? null : unnamed(data, this.place.fields);
    return value === null ? null : { ref: PRESENT, value };
  }
}
