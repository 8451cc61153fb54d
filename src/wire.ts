import { createHash, randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { runHook } from "./adapters/hooks.ts";
import { limitersOf, type Limited } from "./adapters/limiter.ts";
import { masked, type Mask } from "./adapters/masked.ts";
import type { PostgresSettings } from "./adapters/postgres-settings.ts";
import { registry } from "./adapters/registry.ts";
import { maskingOf } from "./ci/masking.ts";
import type { DeliveryPolicy, Policy, SecretPolicy, Timing, UsagePolicy } from "./config/model.ts";
import { dueBy } from "./config/schedule.ts";
import { UserError } from "./core/errors.ts";
import type { DeliveryRules, MonitorRules, SecretRules, StoreTiming } from "./core/rules.ts";
import type { EngineDeps, Runner, SecretPorts } from "./engine/deps.ts";
import { isDeadHere, processSpace, runnerId } from "./engine/process-space.ts";
import type { AdapterDeps, IssuerAdapter, NotifierAdapter, StoreAdapter } from "./ports/adapter.ts";
import type { Issuer } from "./ports/issuer.ts";
import type { Notifier } from "./ports/notifier.ts";
import type { Queue } from "./ports/queue.ts";
import type { StateBackend } from "./ports/state.ts";
import type { Store } from "./ports/store.ts";
import type { UsageMonitor } from "./ports/usage.ts";
import { isTraced } from "./telemetry/environment.ts";
import type { Traces } from "./telemetry/traces.ts";

/** What wiring needs of the process. */
export interface World {
  readonly env: AdapterDeps["env"];
  /** Wall clock, ms. */
  readonly now: () => number;
  readonly debug: (line: string) => void;
  readonly announce: (line: string) => void;
  /** One line of prose. */
  readonly say: (line: string) => void;
}

/** Turns one policy into adapters, for the secrets that a command touches and no others. */
export class Wiring {
  readonly #deps: AdapterDeps;
  #notifiers: Promise<SecretPorts["notifiers"]> | null = null;
  #hasWarned = false;
  #mask: Promise<Mask | null> | null = null;

  constructor(
    private readonly policy: Policy,
    private readonly world: World,
  ) {
    this.#deps = { ...world, folder: policy.folder, sleep: waitOrThrow };
  }

  engine(state: StateBackend, actor: string): EngineDeps {
    const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
    const here = processSpace();
    const space = here === null ? null : hash(here).slice(0, 16);
    const id = runnerId(randomBytes(8).toString("hex"), space);
    const runner: Runner = { id, host: hostname(), pid: process.pid, actor };
    return {
      state,
      runner,
      clock: { wall: this.world.now, monotonic: () => performance.now(), sleep: wait },
      random: (bytes) => randomBytes(bytes).toString("hex"),
      hash,
      lease: this.policy.state.lease,
      isDead: (host, pid, holder = "") => host === runner.host && isDeadHere(holder, pid, space),
      debug: this.world.debug,
      warn: (line) => this.#warnOnce(line),
    };
  }

  #warnOnce(line: string): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    this.world.say(`warning: ${line}`);
  }

  /** @throws UserError for a missing reference or settings that do not hold; nothing has been called then. */
  async ports(secret: SecretPolicy): Promise<SecretPorts> {
    const adapter = await known(registry.issuer[secret.issuer.type], `issuer type ${secret.issuer.type}`).load();
    const stores = new Map<string, Store>();
    const deliveries: DeliveryRules[] = [];
    for (const delivery of secret.deliveries) {
      const store = await this.#store(secret, delivery, adapter.fields);
      stores.set(delivery.id, store);
      const traits = { ...store.traits, timing: timed(store.traits.timing, delivery.timing) };
      deliveries.push({
        id: delivery.id,
        use: delivery.use ?? delivery.type,
        name: delivery.name,
        traits,
        ...(delivery.fields && {
          fields: [...new Set(Object.values(delivery.fields))],
          names: Object.keys(delivery.fields),
        }),
      });
    }
    const { issuer, own } = await this.#issuer(secret, adapter, [...stores.values()]);
    const monitors = new Map<string, UsageMonitor>();
    const usage = secret.usage === "none" ? "none" : await this.#usage(secret, secret.usage, issuer, monitors);
    const rules: SecretRules = {
      ...own,
      name: secret.name,
      enabled: secret.enabled,
      issuer: { ...issuer.traits, timing: timed(issuer.traits.timing, secret.issuer.timing) },
      deliveries,
      usage,
      consumers: secret.consumers.map(({ name, match, cadence, cache, required, notify }) => ({
        name,
        match,
        cadence,
        cache,
        required,
        notify,
      })),
      verify: secret.verify,
      overlap: secret.overlap,
      soak: secret.soak,
      retry: secret.retry,
      hooks: {
        beforeRotate: secret.hooks.beforeRotate.length,
        afterDistribute: secret.hooks.afterDistribute.length,
        beforeRevoke: secret.hooks.beforeRevoke.length,
        afterDone: secret.hooks.afterDone.length,
      },
      acceptOutage: secret.acceptOutage,
      strict: secret.preflight === "strict",
    };
    this.#notifiers ??= this.#allNotifiers();
    // Null: no runner takes masks out of what is printed, and no value ever is.
    this.#mask ??= maskingOf(this.world.env, (line) => this.world.announce(line));
    const mask = await this.#mask;
    return {
      rules,
      issuer: mask === null ? issuer : masked(issuer, mask),
      stores: mask === null ? stores : new Map([...stores].map(([id, store]) => [id, masked(store, mask)])),
      monitors,
      notifiers: await this.#notifiers,
      due: await dueBy(secret),
      runHook: this.#hooks(secret),
    };
  }

  async #issuer({ name, issuer: part }: SecretPolicy, adapter: IssuerAdapter, stores: readonly Store[]) {
    const settings = await this.policy.resolve(part.settings, part.at, adapter.settings);
    const own = adapter.inference?.(settings) ?? { exclusive: false, orphans: "infer" };
    return { issuer: adapter.create(settings, name, this.#deps, stores), own };
  }

  async #store(secret: SecretPolicy, part: DeliveryPolicy, fields: readonly string[]): Promise<Store> {
    const adapter = await known(registry.store[part.type], `store type ${part.type}`).load();
    const settings = await this.policy.resolve(part.settings, part.at, adapter.settings);
    const delivery = await this.policy.resolve(part.delivery, part.deliveryAt, adapter.delivery);
    const target = {
      secret: secret.name,
      fields: part.fields ?? Object.fromEntries(fields.map((field) => [field, field])),
      mirror: part !== secret.deliveries[0],
    };
    return adapter.create(settings, delivery, target, this.#deps);
  }

  async #usage(
    secret: SecretPolicy,
    entries: readonly UsagePolicy[],
    issuer: Issuer,
    monitors: Map<string, UsageMonitor>,
  ) {
    const rules: MonitorRules[] = [];
    for (const [index, entry] of entries.entries()) {
      const monitor = entry.type === "issuer" ? issuer.usage : await this.#monitor(secret, entry);
      if (monitor === undefined) {
        throw new UserError("usage-unanswerable", `secrets.${secret.name}.usage: this issuer does not report usage`, {
          exit: 2,
          hints: ["name a monitor, or write usage: none"],
        });
      }
      const id = String(index);
      monitors.set(id, monitor);
      const { granularity, lag } = monitor.traits;
      const traits = { ...monitor.traits, granularity: entry.granularity ?? granularity, lag: entry.lag ?? lag };
      rules.push({ id, traits, optional: entry.optional });
    }
    return rules;
  }

  async #monitor(secret: SecretPolicy, entry: UsagePolicy): Promise<UsageMonitor> {
    const adapter = await known(registry.usage[entry.type], `usage type ${entry.type}`).load();
    return adapter.create(
      await this.policy.resolve(entry.settings, entry.at, adapter.settings),
      secret.name,
      this.#deps,
    );
  }

  /** Those that hear of runs, by name. */
  async heartbeats(): Promise<{ readonly name: string; readonly beat: NonNullable<Notifier["beat"]> }[]> {
    const all = await this.#allNotifiers(({ beats }) => beats === true);
    return all.flatMap(({ name, notifier }) =>
      notifier.beat === undefined ? [] : [{ name, beat: notifier.beat.bind(notifier) }],
    );
  }

  async #allNotifiers(
    isMeant: (adapter: NotifierAdapter) => boolean = () => true,
  ): Promise<{ name: string; events: readonly string[]; notifier: Notifier }[]> {
    const all = [];
    for (const [name, part] of this.policy.notifiers) {
      const adapter = await known(registry.notifier[part.type], `notifier type ${part.type}`).load();
      if (!isMeant(adapter)) continue;
      const settings = await this.policy.resolve(part.settings, part.at, adapter.settings);
      all.push({ name, events: part.events ?? ["*"], notifier: adapter.create(settings, this.#deps) });
    }
    return all;
  }

  #hooks(secret: SecretPolicy): SecretPorts["runHook"] {
    return async ({ point, index, id, rotationId, context, value }, signal) => {
      const hook = known(secret.hooks[point][index], `hook ${point}[${index}]`);
      const run = await this.policy.resolveRaw(hook.run, ["secrets", secret.name, "hooks", point, index]);
      const { reason, version, keyId } = context;
      await runHook(
        { ...hook, run },
        {
          point,
          index,
          rotationId,
          hookId: id,
          secret: secret.name,
          cwd: this.policy.folder,
          env: this.world.env,
          signal,
          context: { ...context, reason: String(reason), version: textOrNull(version), keyId: textOrNull(keyId) },
          log: (line) => this.world.say(`${secret.name} ${point}[${index}]: ${line}`),
          ...(value !== null && { value }),
        },
      );
    };
  }
}

/** Every type that a policy may name, with its schema. */
export interface Catalogue {
  readonly issuer: ReadonlyMap<string, IssuerAdapter>;
  readonly store: ReadonlyMap<string, StoreAdapter>;
}

export async function catalogue(): Promise<Catalogue> {
  const load = async <A>(entries: Readonly<Record<string, { readonly load: () => Promise<A> }>>) =>
    new Map(await Promise.all(Object.entries(entries).map(async ([type, one]) => [type, await one.load()] as const)));
  return { issuer: await load(registry.issuer), store: await load(registry.store) };
}

/** Opens the state: by a URL such as `sqlite:PATH`, else where the policy says. */
export async function openState(policy: Policy, url: string | null, world: World): Promise<StateBackend> {
  const { resolveState } = await import("./config/state.ts");
  const { adapter, settings } = await resolveState(policy, url);
  return adapter.create(settings, { ...world, folder: policy.folder, sleep: waitOrThrow });
}

/** The workers' queue, which lives beside a state in PostgreSQL; null for any other state. */
export async function openQueue(policy: Policy, url: string | null, world: World): Promise<Queue | null> {
  const { resolveState } = await import("./config/state.ts");
  const { adapter, settings } = await resolveState(policy, url);
  if (adapter.type !== "postgres") return null;
  const { GraphileQueue } = await import("./adapters/graphile-queue.ts");
  const deps = { ...world, folder: policy.folder, sleep: waitOrThrow };
  // Who has lost every lease by its silence has lost its place in the queue as well.
  return new GraphileQueue(settings as PostgresSettings, deps, 2 * policy.state.lease);
}

/** How often and for how long this process has held calls back to keep within providers' quotas. */
export function limitsOf({ env }: Pick<World, "env">): readonly Limited[] {
  return limitersOf(env).told();
}

/**
 * Where traces go by the standard environment variables; null: nowhere. Variables that were meant for others, or make
 * no sense, cost a warning: they come from the machine, and no rotation hangs on them.
 */
export async function openTraces(world: World): Promise<Traces | null> {
  if (!isTraced(world.env)) return null;
  const { Traces } = await import("./telemetry/traces.ts");
  const { otlp } = await import("./telemetry/spans.ts");
  const { senderOf } = await import("./adapters/otlp.ts");
  const warn = (line: string): void => world.say(`warning: ${line}`);
  try {
    const { post, resource } = senderOf(world.env);
    return new Traces(async (spans) => post(otlp(spans, resource)), warn, world.now);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    warn(`traces: ${error.message}`);
    return null;
  }
}

function known<T>(found: T | undefined, what: string): T {
  if (found === undefined) throw new UserError("policy-invalid", `${what} is not in this version`, { exit: 2 });
  return found;
}

/** An adapter's delays with the policy's overrides. */
function timed<T extends StoreTiming>(published: T, overrides: Timing | null): T {
  const said = Object.entries(overrides ?? {}).filter(([name]) => name in published);
  return { ...published, ...Object.fromEntries(said) };
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

/** A timer that is set for longer goes off at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

async function waitOrThrow(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(Math.min(ms, LONGEST_TIMER), undefined, { ...(signal && { signal }) });
}

async function wait(ms: number, signal?: AbortSignal): Promise<void> {
  await waitOrThrow(ms, signal).catch(() => {});
}
