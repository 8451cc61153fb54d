import { ProviderError } from "../core/errors.ts";
import { datesOf, type ObservedKey } from "../core/observed.ts";
import { hintOf, outcomeOf } from "../core/reasons.ts";
import { placeOf } from "../core/rules.ts";
import type { ReasonCode } from "../core/reasons.ts";
import { outside, type Ctx } from "../ports/context.ts";
import type { Served } from "../ports/store.ts";
import type { EngineDeps, SecretPorts } from "./deps.ts";
import { Document } from "./document.ts";
import { isTaken } from "./lease.ts";
import { reasonFor } from "./observe.ts";
import { overlooked } from "./overlooked.ts";
import { audit } from "./outbox.ts";
import type { RunResult } from "./result.ts";

type Answer = { readonly reason: ReasonCode; readonly message: string; readonly hint?: string };

/** Takes over the key that the authority serves now. Every other key stays a stranger; providers are only read. */
export async function adopt(
  deps: EngineDeps,
  ports: SecretPorts,
  options: { readonly keyId: string | null; readonly signal: AbortSignal },
): Promise<RunResult> {
  const document = await Document.open(deps, ports.rules.name);
  const answer = await takeOver(deps, ports, document, options).catch((thrown: unknown): Answer => {
    if (!(thrown instanceof ProviderError)) throw thrown;
    return { reason: reasonFor(thrown), message: thrown.message };
  });
  const { reason, message, hint = reason === "unmanaged" ? null : hintOf(reason, ports.rules.name) } = answer;
  const now = document.now();
  return {
    name: ports.rules.name,
    outcome: outcomeOf(reason),
    reason,
    message,
    until: null,
    hints: hint === null ? [] : [hint],
    state: document.exists ? document.state : null,
    actions: reason === "not-due" ? document.state.actions.slice(-1) : [],
    offset: now.wall - now.doc,
  };
}

/** What the authority serves; where it is still empty, what the first store serves that can be read. */
async function firstServed({ rules, stores }: SecretPorts, ctx: Ctx): Promise<Served | null> {
  for (const { id, traits } of rules.deliveries) {
    const served = traits.proof === "value" ? await stores.get(id)?.current(ctx) : null;
    if (served != null) return served;
  }
  return null;
}

/** A key made a moment ago may be missing from listings for the issuer's `listSettle`. */
async function listed(
  deps: EngineDeps,
  { issuer }: SecretPorts,
  keyId: string,
  ctx: Ctx,
): Promise<ObservedKey | undefined> {
  const start = deps.clock.monotonic();
  for (;;) {
    const key = (await issuer.list(ctx)).keys.find((k) => k.keyId === keyId);
    if (key !== undefined || ctx.signal.aborted || deps.clock.monotonic() - start >= issuer.traits.timing.listSettle)
      return key;
    await deps.clock.sleep(1000, ctx.signal);
  }
}

/** Nothing stands under the policy's names; what is there all the same may be what consumers use. */
async function nothingServed(ports: SecretPorts, { state }: Document, ctx: Ctx): Promise<Answer> {
  const first = `keyturn rotate ${ports.rules.name} issues the first key`;
  const found = [...(await overlooked(ports, state, ctx))];
  if (found.length === 0)
    return { reason: "unmanaged", message: `no store serves anything yet, so there is nothing to adopt; ${first}` };
  const there = found.map(({ where, message }) => `${where} ${message}`).join("; ");
  const message = `no store serves anything under the names that the policy gives: ${there}`;
  return { reason: "unmanaged", message, hint: `${found[0]?.hint}; where nobody uses what is there, ${first}` };
}

async function takeOver(
  deps: EngineDeps,
  ports: SecretPorts,
  document: Document,
  options: { readonly keyId: string | null; readonly signal: AbortSignal },
): Promise<Answer> {
  const { rules, issuer } = ports;
  const ctx = outside(options.signal);
  if (isTaken(document.state, deps, document.now()))
    return { reason: "locked", message: `${document.state.lease?.actor ?? "another run"} works on it` };
  const issuerIs = await issuer.describe(ctx);
  const blocking = issuerIs.findings.find((f) => f.blocks);
  if (blocking !== undefined) return { reason: blocking.reason, message: blocking.message };
  const served = await firstServed(ports, ctx);
  if (served === null) return nothingServed(ports, document, ctx);
  const named = issuer.identify === undefined ? options.keyId : await issuer.identify(served.value, ctx);
  if (named === null)
    return { reason: "identity-mismatch", message: `the value that consumers are served is no key of this owner` };
  if (options.keyId !== null && options.keyId !== named)
    return { reason: "identity-mismatch", message: `consumers are served the key ${named}, not ${options.keyId}` };
  const key = await listed(deps, ports, named, ctx);
  if (key === undefined || key.state !== "enabled")
    return { reason: "verify-rejected", message: `the issuer lists ${named} as ${key?.state ?? "gone"}` };
  const known = document.state.versions.find((v) => v.keyId === named && v.status !== "destroyed");
  if (known?.compromised)
    return {
      reason: "compromised",
      message: `stores serve ${named}, which has leaked and never comes back: keyturn rotate ${rules.name} --repair`,
    };
  const current = known?.status === "current" ? known : undefined;
  if (current !== undefined && document.state.rotation !== null)
    return { reason: "not-due", message: `already adopted: ${named}; a rotation is in flight` };

  const bindings = [];
  const serving = [];
  const different: string[] = [];
  for (const d of rules.deliveries) {
    const store = ports.stores.get(d.id);
    if (store === undefined) continue;
    bindings.push({ id: d.id, use: d.use, name: d.name, binding: placeOf(d, (await store.describe(ctx)).binding) });
    const there = d.traits.proof === "value" ? await store.current(ctx) : null;
    const expected = d.fields === undefined ? served.value : served.value.pick(d.fields);
    if (d.traits.proof === "digest" && (await store.check?.(served.value, null, ctx)) === "same")
      serving.push({ delivery: d.id, ref: null });
    if (there !== null && expected?.equals(there.value)) serving.push({ delivery: d.id, ref: there.ref });
    else if (there !== null) different.push(`${d.use} ${d.name}`);
  }
  if (current === undefined || different.length < rules.deliveries.length) {
    const facts = [
      { fact: "bound", issuer: issuerIs.binding, deliveries: bindings } as const,
      {
        fact: "adopted",
        version: `v${document.state.minted + 1}-${deps.random(4)}`,
        keyId: named,
        dates: datesOf(key),
        serving,
        rotation: `r-${deps.random(6)}`,
        by: deps.runner.actor,
      } as const,
    ];
    if ((await document.commit(facts)) === "stale") return takeOver(deps, ports, document, options);
    await audit(deps, document.state);
  }
  const others =
    different.length === 0
      ? ""
      : `; ${different.join(", ")} holds another value: keyturn rotate ${rules.name} --repair overwrites it`;
  return { reason: "not-due", message: `${current === undefined ? "adopted" : "already adopted"}: ${named}${others}` };
}
