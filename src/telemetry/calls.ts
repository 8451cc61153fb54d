import type { Policy, SecretPolicy } from "../config/model.ts";
import { ProviderError, type ProviderErrorKind } from "../core/errors.ts";
import type { Duration, Instant } from "../core/duration.ts";
import type { SecretPorts } from "../engine/deps.ts";
import type { Ctx } from "../ports/context.ts";

/** One call of a port that has ended: at a provider, a store, a monitor, a notifier; or a hook. No value is in it. */
export interface Call {
  readonly secret: string;
  readonly port: "issuer" | "store" | "usage" | "notifier" | "hook";
  /** `aws-iam`, `vault-kv`; of a hook its point. */
  readonly type: string;
  /** `issue`, `put`, `usageOf`, `send` … */
  readonly operation: string;
  /** What it is about, where that is one key or version: an id. */
  readonly subject: string | null;
  /** Of a store: what is written there. */
  readonly place: string | null;
  /** null: outside of any rotation. */
  readonly rotation: string | null;
  /** Wall clock. */
  readonly began: Instant;
  readonly took: Duration;
  readonly result: "ok" | ProviderErrorKind;
}

export interface Listener {
  readonly heard: (call: Call) => void;
  /** Wall clock. */
  readonly now: () => Instant;
  /** By name; of those that are left out no type is told. */
  readonly notifiers?: Policy["notifiers"];
}

/** The same ports, with each call told when it has ended. */
export function told(secret: SecretPolicy, ports: SecretPorts, listener: Listener): SecretPorts {
  const { notifiers: types } = listener;
  const about = { secret: secret.name, subject: null, place: null };
  const issuer = { ...about, port: "issuer", type: secret.issuer.type } as const;
  const places = new Map(secret.deliveries.map(({ id, type, name }) => [id, { type, place: name }]));
  const stores = [...ports.stores].map(([id, store]) => {
    const { type = "", place = null } = places.get(id) ?? {};
    return [id, around(store, { ...about, port: "store", type, place }, listener)] as const;
  });
  const entries = secret.usage === "none" ? [] : secret.usage;
  const monitors = [...ports.monitors].map(([id, monitor]) => {
    const type = entries[Number(id)]?.type ?? "";
    return [
      id,
      around(monitor, { ...about, port: "usage", type: type === "issuer" ? issuer.type : type }, listener),
    ] as const;
  });
  return {
    ...ports,
    issuer: around(ports.issuer, issuer, listener),
    stores: new Map(stores),
    monitors: new Map(monitors),
    notifiers: ports.notifiers.map((one) => ({
      ...one,
      notifier: around(one.notifier, { ...about, port: "notifier", type: types?.get(one.name)?.type ?? "" }, listener),
    })),
    runHook: (call, signal) => {
      const { point, id, rotationId: rotation } = call;
      const what = { ...about, port: "hook", type: point, operation: "run", subject: id, rotation } as const;
      return timed(what, listener, () => ports.runHook(call, signal));
    },
  };
}

type About = Omit<Call, "operation" | "rotation" | "began" | "took" | "result">;

function around<T extends object>(adapter: T, about: About, listener: Listener): T {
  // Classes have private members, so what is called has to be the adapter itself.
  return new Proxy(adapter, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return (...args: unknown[]): unknown => {
        const ctx = args.find(isCtx);
        const call = (): unknown => Reflect.apply(member, target, args);
        if (ctx === undefined) return call();
        const subject = typeof args[0] === "string" ? args[0] : null;
        const what = { ...about, operation: String(name), subject, rotation: ctx.rotationId };
        return timed(what, listener, async () => call());
      };
    },
  });
}

async function timed<T>(
  what: Omit<Call, "began" | "took" | "result">,
  { heard, now }: Listener,
  work: () => Promise<T>,
): Promise<T> {
  const [began, mark] = [now(), performance.now()];
  const end = (result: Call["result"]): void => heard({ ...what, began, took: performance.now() - mark, result });
  try {
    const answer = await work();
    end("ok");
    return answer;
  } catch (error) {
    end(ProviderError.from(error).kind);
    throw error;
  }
}

function isCtx(argument: unknown): argument is Ctx {
  return typeof argument === "object" && argument !== null && "signal" in argument && "fence" in argument;
}
