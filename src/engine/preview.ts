import type { Case, Decision } from "../core/case.ts";
import { decide, inspect } from "../core/decide.ts";
import type { SecretState } from "../core/model.ts";
import { outcomeOf } from "../core/reasons.ts";
import { transition } from "../core/transition.ts";
import { outside } from "../ports/context.ts";
import type { EngineDeps, SecretPorts } from "./deps.ts";
import { Document } from "./document.ts";
import { Observer } from "./observe.ts";
import { helpFor, pausedIn } from "./result.ts";
import type { PausedAll, RunResult } from "./result.ts";
import type { Step } from "./timeline.ts";
import { timeline } from "./timeline.ts";
import { Values } from "./values.ts";

export interface Preview extends RunResult {
  /** What `run` would do now; null: nothing. */
  readonly next: string | null;
  readonly timeline: readonly Step[];
}

const TOO_MANY = 1000;

/** The same `decide` as `run`, on a copy: looks (when allowed) only read, notes change the copy, acts are not done. */
export async function preview(
  deps: EngineDeps,
  ports: SecretPorts,
  options: {
    readonly looks: boolean;
    readonly force?: boolean;
    readonly signal: AbortSignal;
    readonly pausedAll?: PausedAll | null;
  },
): Promise<Preview> {
  const document = await Document.open(deps, ports.rules.name);
  const observer = new Observer(ports, new Values(ports), deps.clock);
  const ctx = outside(options.signal);
  const now = document.now();
  let state: SecretState = document.state;
  if (options.force && state.rotation === null)
    state = transition(
      state,
      { fact: "said", word: { word: "rotate", repair: false }, by: deps.runner.actor, id: "r-preview" },
      now,
    );
  const paused = state.paused ?? pausedIn(options.pausedAll ?? null, now);
  for (let turn = 0; turn < TOO_MANY; turn++) {
    const c: Case = {
      rules: ports.rules,
      state: { ...state, paused },
      seen: observer.seen,
      now: document.now(),
      due: ports.due(state, now.wall),
      fresh: deps.random(8),
    };
    const decided = decide(c);
    const decision = decided.decision === "done" && options.looks ? inspect(c) : decided;
    if (decision.decision === "look" && options.looks) await observer.look(decision.queries, state, ctx);
    else if (decision.decision === "note")
      state = decision.facts.reduce((s, fact) => transition(s, fact, document.now()), state);
    else return present(decision, state, document, ports, deps);
  }
  throw new Error(`no end of decisions for ${ports.rules.name}`);
}

function present(
  decision: Decision,
  state: SecretState,
  document: Document,
  ports: SecretPorts,
  deps: EngineDeps,
): Preview {
  const now = document.now();
  const offset = now.wall - now.doc;
  const base = {
    name: ports.rules.name,
    state: document.exists ? document.state : null,
    actions: [],
    offset,
    timeline: timeline(state, ports.rules, now, ports.due(state, deps.clock.wall())),
  };
  if (decision.decision === "act" || decision.decision === "look" || decision.decision === "note") {
    const next =
      decision.decision === "act"
        ? `${decision.action.do}${"version" in decision.action ? ` ${decision.action.version}` : ""}`
        : "look at the providers";
    return { ...base, outcome: "waiting", reason: "settling", message: `next: ${next}`, until: null, hints: [], next };
  }
  const until = decision.decision === "wait" && decision.until !== null ? decision.until + offset : null;
  const outcome = decision.decision === "wait" ? outcomeOf(decision.reason) : decision.decision;
  return {
    ...base,
    outcome,
    reason: decision.reason,
    message: decision.message,
    until,
    hints: helpFor({ ...decision, until }, ports.rules.name, state),
    next: null,
  };
}
