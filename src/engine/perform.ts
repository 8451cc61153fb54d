import type { Action, Case } from "../core/case.ts";
import { stepName } from "../core/case.ts";
import type { Duration } from "../core/duration.ts";
import { isTransient, ProviderError } from "../core/errors.ts";
import type { Closing, Fact } from "../core/facts.ts";
import type { EffectKind, Failure, Intent, SecretState, Version } from "../core/model.ts";
import { versionOf } from "../core/model.ts";
import { datesOf } from "../core/observed.ts";
import type { ReasonCode } from "../core/reasons.ts";
import { LONGEST_INTENT, settleOf } from "../core/rules.ts";
import { failureOf } from "../core/failures.ts";
import type { Ctx } from "../ports/context.ts";
import type { Store } from "../ports/store.ts";
import { isStaged } from "../ports/store.ts";
import type { EngineDeps, SecretPorts } from "./deps.ts";
import { FencePassed } from "./fence.ts";
import { serialised } from "./serialised.ts";
import type { Values } from "./values.ts";

export type Effect = Exclude<Action, { readonly do: "verify" | "hook" }>;

export function isEffect(action: Action): action is Effect {
  return action.do !== "verify" && action.do !== "hook";
}

export function intentFor(action: Effect, deps: EngineDeps, now: Case["now"]): Intent {
  return {
    id: deps.random(8),
    effect: action.do,
    version: action.version,
    delivery: "delivery" in action ? action.delivery : null,
    at: now.doc,
    duration: Math.min(LONGEST_INTENT, deps.lease),
    runner: deps.runner.id,
  };
}

/** Carries one committed intent out; the facts tell how it ended. Nothing is sent twice. */
export async function perform(
  action: Effect,
  intent: Intent,
  state: SecretState,
  ports: SecretPorts,
  values: Values,
  ctx: Ctx,
): Promise<readonly Fact[]> {
  try {
    const done = await effect(action, state, ports, values, ctx);
    return [{ fact: "closed", intent, closing: { how: "done", ...done } }];
  } catch (thrown) {
    const error = ProviderError.from(thrown);
    const closing: Closing =
      error.applied === "no"
        ? { how: "refused" }
        : { how: "unknown", settle: settleOf(ports.rules, intent.effect, intent.delivery) };
    const closed: Fact = { fact: "closed", intent, closing };
    // An end of ours is no failure of the provider's: a lost lease and an interruption spend no attempt.
    const isOurs = error instanceof FencePassed || ctx.signal.aborted;
    return isOurs ? [closed] : [closed, ...consequences(action, error, state, ports)];
  }
}

async function effect(
  action: Effect,
  state: SecretState,
  ports: SecretPorts,
  values: Values,
  ctx: Ctx,
): Promise<Omit<Extract<Closing, { how: "done" }>, "how">> {
  const version = versionOf(state, action.version);
  const keyId = version?.keyId ?? "";
  switch (action.do) {
    case "issue": {
      const issued = await ports.issuer.issue(action.version, null, ctx);
      values.keep(action.version, issued.value);
      return { keyId: issued.keyId, dates: datesOf(issued) };
    }
    case "stage": {
      const value = await values.need(version as Version, state, ctx);
      await onStore(action.delivery, ports, (store) =>
        isStaged(store) ? store.stage(action.version, value, ctx) : Promise.reject(new Error("not a staged store")),
      );
      return {};
    }
    case "discard":
      await onStore(action.delivery, ports, (store) =>
        isStaged(store) ? store.discard(action.version, ctx) : Promise.reject(new Error("not a staged store")),
      );
      return {};
    case "promote":
    case "put": {
      const value = await values.need(version as Version, state, ctx);
      const ref = await onStore(action.delivery, ports, (store) =>
        store.put(action.version, value, action.expected, ctx, action.fresh),
      );
      return { ref, confirmed: ports.stores.get(action.delivery)?.traits.proof === "receipt" };
    }
    default:
      await ports.issuer[action.do](keyId, ctx);
      return {};
  }
}

function onStore<T>(delivery: string, ports: SecretPorts, call: (store: Store) => Promise<T>): Promise<T> {
  const store = ports.stores.get(delivery);
  if (store === undefined) throw new Error(`no store for delivery ${delivery}`);
  return serialised(store.objectKey, () => call(store));
}

/** What a failure means beyond the intent itself (rule 3.14). */
function consequences(action: Effect, error: ProviderError, state: SecretState, ports: SecretPorts): readonly Fact[] {
  const kind: EffectKind = action.do;
  const message = error.message;
  const retryIn = retryDelay(failureOf(state, stepName(action)), ports.rules.retry.backoff, error.detail.retryAfter);
  if (kind === "disable" || kind === "delete" || kind === "discard") {
    return [
      { fact: "debt", version: action.version, error: message, retryIn: Math.max(retryIn, ports.rules.retry.backoff) },
    ];
  }
  if (isTransient(error.kind) || (kind === "issue" && error.kind === "quota")) {
    const reason: ReasonCode = error.kind === "conflict" ? "store-conflict" : "provider-unavailable";
    return [
      {
        fact: "failed",
        rotation: state.rotation?.id ?? null,
        failure: { step: stepName(action), reason, message },
        retryIn,
        counts: !error.detail.contended,
      },
    ];
  }
  const atStore = kind === "stage" || kind === "promote" || kind === "put";
  const reason: ReasonCode = atStore ? "store-denied" : "issuer-denied";
  return [
    {
      fact: "refused",
      stopped: { reason, message },
      rotation: state.rotation?.id ?? null,
      version: action.version,
      delivery: "delivery" in action ? action.delivery : null,
    },
  ];
}

/** Doubles from a second up to the policy's back-off; a provider's own wish counts when it is longer. */
export function retryDelay(failure: Failure | null, backoff: Duration, asked: Duration = 0): Duration {
  return Math.max(Math.min(backoff, 1000 * 2 ** (failure?.count ?? 0)), asked);
}
