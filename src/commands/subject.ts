import type { Policy, SecretPolicy } from "../config/model.ts";
import { dueBy, startsFrom } from "../config/schedule.ts";
import type { Duration, Instant } from "../core/duration.ts";
import type { SecretState } from "../core/model.ts";
import { isAtRest } from "../core/rest.ts";
import type { SecretRules } from "../core/rules.ts";
import type { Loaded } from "../ports/state.ts";
import type { Subject } from "./members.ts";
import type { Session } from "./session.ts";
import type { Pause } from "./standing.ts";

/** A secret as its document says, on both clocks. */
export async function subjectOf(
  session: Session,
  name: string,
  loaded: Pick<Loaded, "state" | "age"> | null,
  rules: SecretRules | null = null,
  pausedAll: Pause | null = null,
): Promise<Subject> {
  const policy = (await session.policy()).secrets.get(name) ?? null;
  const wall = session.now();
  const doc = loaded === null ? wall : loaded.state.clock + loaded.age;
  return {
    name,
    policy,
    state: loaded?.state ?? null,
    rules,
    now: { doc, wall },
    pausedAll,
    nextDue: await nextDue(policy, loaded?.state ?? null, wall),
  };
}

/**
 * How long a secret at rest stays so, ms; null: until a person speaks. `works`: a run has something to do.
 *
 * @param loaded null: nobody has managed it yet
 */
export async function restOf(
  { notifiers }: Pick<Policy, "notifiers">,
  secret: SecretPolicy,
  loaded: Pick<Loaded, "state"> | null,
  wall: Instant,
): Promise<Duration | null | "works"> {
  if (loaded === null) return secret.schedule === null ? null : "works";
  if (!isAtRest(loaded.state, [...notifiers.keys()])) return "works";
  if (!secret.enabled) return null;
  if ((await dueBy(secret))(loaded.state, wall).due) return "works";
  const starts = await nextDue(secret, loaded.state, wall);
  return starts === null ? null : starts - wall;
}

/** When the schedule lets it start: due, in its window, in no blackout; null: by hand only, or nothing was issued or adopted yet. */
export async function nextDue(
  policy: SecretPolicy | null,
  state: SecretState | null,
  wall: Instant,
): Promise<Instant | null> {
  if (policy === null || state === null || !policy.enabled) return null;
  if (!state.versions.some(({ status }) => status === "current")) return null;
  const { at } = (await dueBy(policy))(state, wall);
  const starts = at === null ? Infinity : startsFrom(policy, at);
  return starts < Infinity ? starts : null;
}
