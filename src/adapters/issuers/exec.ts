import * as z from "zod";
import { ProviderError } from "../../core/errors.ts";
import type { IssuerTraits } from "../../core/rules.ts";
import { SecretValue } from "../../core/secret-value.ts";
import type { AdapterDeps, IssuerAdapter } from "../../ports/adapter.ts";
import type { Ctx, Description, Finding } from "../../ports/context.ts";
import { datesOf, type Issuer, type KeyId, type Listing } from "../../ports/issuer.ts";
import type { UsageMonitor } from "../../ports/usage.ts";
import { descriptionOf, execSettings, findingsOf, Program, traitFindings } from "../exec.ts";
import { ExecUsage, instant, signalSettings } from "../exec-usage.ts";
import { duration, ms } from "../settings.ts";

const traits = z.strictObject({
  maxKeys: z.int().min(1).default(1).describe("How many keys the owner may have at a time. Default: 1."),
  valueFrom: z
    .enum(["issuer"])
    .default("issuer")
    .describe("Who makes values: the issuer; keyturn makes none. Default: issuer."),
  canDisable: z.boolean().default(false).describe("Whether it has `disable` and `enable`. Default: false."),
  labels: z.boolean().default(false).describe("Whether it lists the label that `issue` was given. Default: false."),
  issueIdempotent: z
    .boolean()
    .default(false)
    .describe("Whether `issue` with the same label gives the same key again. Default: false."),
  identify: z.boolean().default(false).describe("Whether it has `identify`, which `adopt` needs. Default: false."),
  listSettle: duration().default("0s").describe("A new key may be missing from `list` for so long. Default: 0s."),
  propagation: duration().default("0s").describe("A key may be answered by its old state for so long. Default: 0s."),
  settle: duration()
    .default("0s")
    .describe("A call may still take effect so long after the program was ended. Default: 0s."),
  timeGranularity: duration().default("0s").describe("`createdAt` is cut to multiples of this. Default: 0s."),
  usage: z
    .strictObject({
      granularity: duration().describe("Two uses closer than this may show as one."),
      lag: duration().describe("A use may show up so late."),
      ...signalSettings,
    })
    .optional()
    .describe("What its `usage` can say. Default: it has none."),
});

const settings = z.strictObject({
  ...execSettings,
  traits: traits.prefault({}).describe("What the program can do, as its `describe` says it."),
});

type Settings = z.output<typeof settings>;

const description = descriptionOf(traits.extend({ valueFrom: z.string().default("issuer") }).prefault({}));
const listing = z.object({
  keys: z.array(
    z.object({
      keyId: z.string().min(1),
      createdAt: instant,
      expiresAt: instant.optional(),
      state: z.enum(["enabled", "disabled"]),
      label: z.string().optional(),
    }),
  ),
  asOf: instant.optional(),
});
const fields = z.record(z.string(), z.string().min(1)).refine((all) => Object.keys(all).length > 0);
const issued = z.object({
  keyId: z.string().min(1),
  value: fields,
  createdAt: instant.optional(),
  expiresAt: instant.optional(),
});

const MAKES_NO_VALUES: Finding = {
  reason: "identity-mismatch",
  blocks: true,
  message: "the program wants values that others make, and keyturn makes none",
  hint: "let the program make the value of each key that it issues",
};

/**
 * Keys as a program of your own makes and kills them: `describe list issue verify disable enable delete`, and
 * `identify usage` if it can.
 *
 * What a program can do has to be known before it first runs, so the policy says it under `traits`; what `describe`
 * answers is held against that before anything is issued.
 */
export const adapter: IssuerAdapter<typeof settings> = {
  type: "exec",
  settings,
  fields: [],
  reportsUsage: null,
  create: (options, secret, deps) => new ExecIssuer(options, secret, deps),
};

class ExecIssuer implements Issuer {
  readonly traits: IssuerTraits;
  readonly usage?: UsageMonitor;
  readonly identify?: Issuer["identify"] & {};
  readonly #program: Program;

  constructor(
    private readonly options: Settings,
    secret: string,
    private readonly deps: AdapterDeps,
  ) {
    const { maxKeys, valueFrom, canDisable, labels, issueIdempotent, identify, usage, ...delays } = options.traits;
    const timing = {
      listSettle: ms(delays.listSettle),
      propagation: ms(delays.propagation),
      settle: ms(delays.settle),
      timeGranularity: ms(delays.timeGranularity),
    };
    this.traits = { maxKeys, valueFrom, canDisable, labels, issueIdempotent, timing };
    this.#program = new Program(options, secret, deps);
    if (identify) this.identify = (value, ctx) => this.#identify(value, ctx);
    if (usage !== undefined) {
      const signal = { ...usage, granularity: ms(usage.granularity), lag: ms(usage.lag) };
      this.usage = new ExecUsage(signal, this.#program, deps.now);
    }
  }

  async describe(ctx: Ctx): Promise<Description> {
    const told = await this.#program.call("describe", description, { ctx, mutates: false });
    const { valueFrom, ...others } = told.traits;
    const differing = traitFindings("identity-mismatch", this.options.traits, others);
    if (valueFrom !== "issuer") differing.push(MAKES_NO_VALUES);
    return { binding: `exec:${told.binding}`, findings: [...findingsOf(told.findings), ...differing] };
  }

  async list(ctx: Ctx): Promise<Listing> {
    const now = this.deps.now();
    const { keys, asOf = now } = await this.#program.call("list", listing, { ctx, mutates: false });
    const shown = keys.map(({ keyId, state, label, ...dates }) => {
      return { keyId, state, ...datesOf(dates), ...(label !== undefined && label !== "" && { label }) };
    });
    return { keys: shown, asOf };
  }

  async issue(label: string, _chosen: SecretValue | null, ctx: Ctx) {
    const now = this.deps.now();
    const told = await this.#program.call("issue", issued, { ctx, mutates: true, request: { label } });
    const dates = datesOf({ ...told, createdAt: told.createdAt ?? now });
    return { keyId: told.keyId, value: SecretValue.of(told.value), ...dates };
  }

  verify(value: SecretValue, ctx: Ctx): Promise<"accepted" | "rejected"> {
    const request = { value: value.reveal() };
    const shape = z.enum(["accepted", "rejected"]);
    return this.#program.call("verify", shape, { ctx, mutates: false, request, values: [value] });
  }

  disable(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#change("disable", keyId, ctx);
  }

  enable(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#change("enable", keyId, ctx);
  }

  delete(keyId: KeyId, ctx: Ctx): Promise<void> {
    return this.#change("delete", keyId, ctx);
  }

  async #change(op: "disable" | "enable" | "delete", keyId: KeyId, ctx: Ctx): Promise<void> {
    if (op !== "delete" && !this.traits.canDisable)
      throw new ProviderError("invalid", "no", `exec ${op}: this issuer cannot disable`);
    await this.#program.call(op, z.unknown(), { ctx, mutates: true, request: { keyId } });
  }

  #identify(value: SecretValue, ctx: Ctx): Promise<KeyId | null> {
    const request = { value: value.reveal() };
    const shape = z.string().min(1).nullable();
    return this.#program.call("identify", shape, { ctx, mutates: false, request, values: [value] });
  }
}
