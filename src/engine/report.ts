import type { Duration, Instant } from "../core/duration.ts";
import type { SecretState, Version } from "../core/model.ts";
import { living, versionOf } from "../core/model.ts";
import { phaseOf } from "../core/phase.ts";
import type { Phase } from "../core/phase.ts";
import { sentence } from "../core/quiet.ts";
import type { SecretRules } from "../core/rules.ts";
import { wantedId } from "../core/wanted.ts";
import { isAdopted, judge } from "../core/usage.ts";

type Iso = string | null;

export interface VersionReport {
  readonly version: string;
  readonly keyId: string | null;
  readonly status: string;
  readonly compromised: boolean;
  readonly issuedAt: Iso;
  readonly expiresAt: Iso;
  readonly lastUsedAt: Iso;
  readonly lastUsedBy: readonly string[];
}

/** One entry of `secrets[]` in the JSON document, from the state alone; the command adds outcome and reason. */
export interface StateReport {
  readonly name: string;
  readonly phase: Phase;
  readonly observedAt: Iso;
  readonly rotation: {
    readonly id: string;
    readonly reason: string;
    readonly actor: string;
    readonly startedAt: Iso;
  } | null;
  readonly current: VersionReport | null;
  readonly versions: readonly VersionReport[];
  readonly stores: readonly {
    readonly use: string;
    readonly name: string;
    readonly kind: string | null;
    readonly proof: string | null;
    readonly serves: string | null;
    readonly confirmedAt: Iso;
    readonly lastError: string | null;
  }[];
  readonly consumers: readonly {
    readonly name: string;
    readonly required: boolean;
    readonly adoptedAt: Iso;
    readonly lastOnOldKey: Iso;
    readonly floor: string | null;
  }[];
  readonly debt: readonly {
    readonly keyId: string | null;
    readonly version: string;
    readonly since: Iso;
    readonly attempts: number;
    readonly lastError: string | null;
  }[];
  readonly holds: readonly { readonly reason: string; readonly by: string; readonly at: Iso; readonly until: Iso }[];
  readonly paused: { readonly reason: string; readonly by: string; readonly at: Iso } | null;
  readonly stopped: { readonly reason: string; readonly message: string; readonly at: Iso } | null;
  readonly lease: { readonly actor: string; readonly host: string; readonly pid: number; readonly since: Iso } | null;
}

/** `offset` added to a document instant gives wall time. */
export function describeState(
  state: SecretState,
  rules: SecretRules | null,
  offset: Duration,
  doc: Instant,
): StateReport {
  const iso = (at: Instant | null): Iso =>
    at === null || !Number.isFinite(at) ? null : new Date(at + offset).toISOString();
  const onClock = (at: Instant | null): Iso =>
    at === null || !Number.isFinite(at) ? null : new Date(at).toISOString();
  const version = (v: Version): VersionReport => {
    const callers = Object.values(v.usage)
      .flatMap((m) => Object.entries(m.who))
      .filter(([, m]) => m.last !== null && !m.own)
      .sort(([, a], [, b]) => (b.last ?? 0) - (a.last ?? 0));
    return {
      version: v.id,
      keyId: v.keyId,
      status: v.status,
      compromised: v.compromised,
      issuedAt: onClock(v.createdAt),
      expiresAt: onClock(v.expiresAt ?? null),
      lastUsedAt: onClock(callers[0]?.[1].last ?? null),
      lastUsedBy: callers.slice(0, 5).map(([who]) => who),
    };
  };
  const goal = versionOf(state, wantedId(state));
  const current = state.versions.find((v) => v.status === "current") ?? null;
  const old =
    living(state).find(
      (v) => v.id !== goal?.id && v.keyId !== null && (v.status === "retiring" || v.status === "disabled"),
    ) ?? null;
  const context = rules === null ? null : { state, rules, now: { doc, wall: doc + offset } };
  const judged = context === null || old === null ? [] : judge(old, goal, context);
  const names = new Map(rules?.consumers.map((c) => [c.name, c.required]) ?? []);
  for (const j of judged) if (!names.has(j.name)) names.set(j.name, false);
  const kinds = new Map(rules?.deliveries.map((d) => [d.id, d.traits]) ?? []);
  return {
    name: state.name,
    phase: phaseOf(state),
    observedAt: iso(state.clock),
    rotation:
      state.rotation === null
        ? null
        : {
            id: state.rotation.id,
            reason: state.rotation.reason,
            actor: state.rotation.actor,
            startedAt: iso(state.rotation.startedAt),
          },
    current: current === null ? null : version(current),
    versions: state.versions.map(version),
    stores: state.deliveries.map((d) => {
      const traits = kinds.get(d.id);
      return {
        use: d.use,
        name: d.name,
        kind: traits === undefined ? null : traits.staged ? "staged" : "mirror",
        proof: traits?.proof ?? null,
        serves: d.serves,
        confirmedAt: iso(d.confirmedAt),
        lastError: d.lastError,
      };
    }),
    consumers: [...names].map(([name, required]) => {
      const j = judged.find((one) => one.name === name);
      const adopted = context !== null && goal !== null && isAdopted(name, goal, context);
      return {
        name,
        required,
        adoptedAt: adopted ? iso(adoptionTime(state, goal, name)) : null,
        lastOnOldKey: iso(j?.lastAt ?? null),
        floor: j === undefined || old === null || context === null ? null : sentence(context, old, j),
      };
    }),
    debt: state.versions
      .filter((v) => v.debt !== null && v.status !== "destroyed")
      .map((v) => ({
        keyId: v.keyId,
        version: v.id,
        since: iso(v.debt?.since ?? null),
        attempts: v.debt?.attempts ?? 0,
        lastError: v.debt?.lastError ?? null,
      })),
    holds: state.holds.map((h) => ({ reason: h.reason, by: h.by, at: iso(h.at), until: iso(h.until) })),
    paused:
      state.paused === null ? null : { reason: state.paused.reason, by: state.paused.by, at: iso(state.paused.at) },
    stopped:
      state.stopped === null
        ? null
        : { reason: state.stopped.reason, message: state.stopped.message, at: iso(state.stopped.at) },
    lease:
      state.lease === null
        ? null
        : { actor: state.lease.actor, host: state.lease.host, pid: state.lease.pid, since: iso(state.lease.since) },
  };
}

/** When it was first known: the ack, else the newest look that shows it. */
function adoptionTime(state: SecretState, goal: Version, name: string): Instant | null {
  return (
    state.acks.find((a) => a.kind === "consumer" && a.name === name && a.version === goal.id)?.at ?? goal.usageLookedAt
  );
}
