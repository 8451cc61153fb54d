import type { Instant } from "../core/duration.ts";
import { formatDuration } from "../core/duration.ts";
import { living, type SecretState } from "../core/model.ts";
import { phaseOf } from "../core/phase.ts";
import type { Due, Now, SecretRules } from "../core/rules.ts";

export interface Step {
  readonly what: string;
  /** Wall clock, at the earliest; null: when the step before allows. */
  readonly at: Instant | null;
  readonly note?: string;
}

const ORDER = [
  "idle",
  "issuing",
  "staging",
  "verifying",
  "promoting",
  "distributing",
  "overlap",
  "soaking",
  "deleting",
] as const;

/** Whether there is a key that ends when another one takes its place. */
export function endsAKey(state: SecretState): boolean {
  return living(state).some(({ id }) => id !== state.rotation?.to);
}

/** What a rotation still has before it, with the earliest times that the policy allows. */
export function timeline(state: SecretState, rules: SecretRules, now: Now, due: Due): readonly Step[] {
  const { overlap, verify, soak } = rules;
  const { canDisable } = rules.issuer;
  const blind = rules.usage === "none";
  const rolling = state.rotation?.rollback != null;
  const at = ORDER.indexOf(phaseOf(state) as (typeof ORDER)[number]);
  const start =
    state.rotation !== null ? now.wall : due.at === null ? null : Math.max(now.wall, due.at, due.opensAt ?? 0);
  const served = start === null ? null : start + verify.spread;
  const begun = state.rotation?.overlapFrom == null ? served : state.rotation.overlapFrom + now.wall - now.doc;
  const quiet = overlap.quiet * (canDisable ? 1 : 2);
  const least = Math.max(overlap.minimum * (blind ? 2 : 1), blind ? 0 : quiet);
  const revoked = begun === null ? null : Math.max(begun + least, now.wall);
  const steps: (Step & { readonly phase: number })[] = [
    { phase: 1, what: "issue a new key", at: start },
    { phase: 2, what: `stage it in ${rules.deliveries[0]?.name ?? "the authority"}`, at: start },
    { phase: 3, what: `verify it ${verify.successes} times over ${formatDuration(verify.spread)}`, at: start },
    ...rules.deliveries.map((d, i) => ({
      phase: 4,
      what: `${i === 0 ? "promote" : "put"} it: ${d.use} ${d.name}`,
      at: served,
    })),
    {
      phase: 6,
      at: revoked,
      what: `${canDisable ? "disable" : "delete"} the old key, once proven quiet`,
      note: blind
        ? "blind: no usage signal; acks and twice the minimum overlap stand in"
        : `overlap of at least ${formatDuration(overlap.minimum)}, silence of at least ${formatDuration(quiet)}; a person is asked after ${formatDuration(overlap.maximum)}`,
    },
    ...(canDisable
      ? [
          {
            phase: 8,
            at: revoked === null ? null : revoked + soak.for,
            what: "delete it",
            note: `after a soak of ${formatDuration(soak.for)}; rollback works until then`,
          },
        ]
      : [{ phase: 8, at: revoked, what: "end", note: "this issuer cannot disable: rollback ends with the delete" }]),
  ];
  // The first key takes nobody's place.
  const last = endsAKey(state) ? Infinity : 5;
  return steps
    .filter((step) => step.phase <= last && (rolling ? step.phase >= 6 : step.phase >= at))
    .map(({ what, at: when, note }) => ({ what, at: when, ...(note === undefined ? {} : { note }) }));
}

/** A consumer that reads or runs less often than this may still hold the old key when it is disabled. */
export function mustReadWithin(rules: SecretRules): number {
  return Math.max(rules.overlap.minimum, rules.usage === "none" ? 0 : rules.overlap.quiet);
}
