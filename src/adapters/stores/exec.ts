import * as z from "zod";
import { ProviderError } from "../../core/errors.ts";
import type { SecretValue } from "../../core/secret-value.ts";
import type { AdapterDeps, DeliveryTarget, StoreAdapter } from "../../ports/adapter.ts";
import type { Ctx, Description } from "../../ports/context.ts";
import type { Ref, Served, StagedStore, Store, StoreTraits } from "../../ports/store.ts";
import { descriptionOf, execSettings, findingsOf, Program, traitFindings } from "../exec.ts";
import { duration, ms } from "../settings.ts";
import { named, unnamed } from "../vault-kv-data.ts";

const traits = z.strictObject({
  staged: z
    .boolean()
    .default(false)
    .describe("Whether it has `stage`, `read` and `discard`: it can then be the authority. Default: false."),
  proof: z
    .enum(["value", "digest", "receipt", "none"])
    .default("value")
    .describe(
      "What shows that it serves a value: `current`, `check`, that `put` answered, or nothing. Default: value.",
    ),
  propagation: duration().default("0s").describe("A reader may still get the old value for so long. Default: 0s."),
  settle: duration()
    .default("0s")
    .describe("A call may still take effect so long after the program was ended. Default: 0s."),
});

const settings = z.strictObject({
  ...execSettings,
  traits: traits.prefault({}).describe("What the program can do, as its `describe` says it."),
});
const delivery = z.strictObject({
  name: z.string().min(1).optional().describe("What the program is told to write. Default: the secret's name."),
});

type Settings = z.output<typeof settings>;

const ref = z.string().min(1);
const fields = z.record(z.string(), z.unknown());
const description = descriptionOf(traits.prefault({}));
const served = z.object({ ref, value: fields, lagging: z.array(z.string()).optional() }).nullable();

/**
 * A place for secrets behind a program of your own: `describe current put check`, and `stage read discard` if it can
 * hold versions that nobody sees yet. Every request has `name` and `fields` (the names that it writes); values come
 * and go under these names.
 */
export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "exec",
  settings,
  delivery,
  ownObject: true,
  nameOf: (_settings, { name }, { secret }) => name ?? secret,
  create: (options, { name }, target, deps) =>
    options.traits.staged
      ? new StagedExecStore(options, name ?? target.secret, target, deps)
      : new ExecStore(options, name ?? target.secret, target, deps),
};

class ExecStore implements Store {
  readonly traits: StoreTraits;
  readonly objectKey: string;
  readonly check?: NonNullable<Store["check"]>;
  readonly #program: Program;

  constructor(
    private readonly options: Settings,
    private readonly name: string,
    private readonly target: DeliveryTarget,
    deps: AdapterDeps,
  ) {
    const { staged, proof, propagation, settle } = options.traits;
    this.traits = { staged, proof, timing: { propagation: ms(propagation), settle: ms(settle) } };
    this.objectKey = `exec:${JSON.stringify([deps.folder, options.command, options.settings, name])}`;
    this.#program = new Program(options, target.secret, deps);
    if (proof === "digest") this.check = (value, at, ctx) => this.#check(value, at, ctx);
  }

  async describe(ctx: Ctx): Promise<Description> {
    const told = await this.call("describe", description, false, ctx);
    const differing = traitFindings("store-unsuitable", this.options.traits, told.traits);
    return { binding: `exec:${told.binding}`, findings: [...findingsOf(told.findings), ...differing] };
  }

  async current(ctx: Ctx): Promise<Served | null> {
    if (this.traits.proof !== "value") throw new ProviderError("invalid", "no", "exec current: it cannot be read back");
    const told = await this.call("current", served, false, ctx);
    const value = told && unnamed(told.value, this.target.fields);
    if (told === null || value === null) return null;
    return { ref: told.ref, value, ...(told.lagging !== undefined && { lagging: told.lagging }) };
  }

  async put(version: string, value: SecretValue, expected: Ref | null, ctx: Ctx, fresh = false): Promise<Ref> {
    const shape = z.object({ ref });
    return (await this.call("put", shape, true, ctx, { version, expected, fresh }, value)).ref;
  }

  #check(value: SecretValue, at: Ref | null, ctx: Ctx): Promise<"same" | "changed" | "cannot-tell"> {
    return this.call("check", z.enum(["same", "changed", "cannot-tell"]), false, ctx, { ref: at }, value);
  }

  protected call<T extends z.ZodType>(
    op: string,
    shape: T,
    mutates: boolean,
    ctx: Ctx,
    more: Readonly<Record<string, unknown>> = {},
    value: SecretValue | null = null,
  ): Promise<z.output<T>> {
    const told = value === null ? {} : { value: named(value, this.target.fields) };
    const request = { name: this.name, fields: Object.keys(this.target.fields), ...more, ...told };
    return this.#program.call(op, shape, { ctx, mutates, request, values: [value] });
  }

  protected unnamed(held: Readonly<Record<string, unknown>>): SecretValue | null {
    return unnamed(held, this.target.fields);
  }
}

class StagedExecStore extends ExecStore implements StagedStore {
  async stage(version: string, value: SecretValue, ctx: Ctx): Promise<void> {
    await this.call("stage", z.unknown(), true, ctx, { version }, value);
  }

  async read(version: string, ctx: Ctx): Promise<SecretValue | null> {
    const told = await this.call("read", z.object({ value: fields }).nullable(), false, ctx, { version });
    return told && this.unnamed(told.value);
  }

  async discard(version: string, ctx: Ctx): Promise<void> {
    await this.call("discard", z.unknown(), true, ctx, { version });
  }
}
