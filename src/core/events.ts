/** Everything that a document tells of: in the audit log, to notifiers, in `history`. */
export const EVENTS = [
  // A rotation.
  "started",
  "expiring",
  "intent",
  "issue",
  "stage",
  "promote",
  "put",
  "enable",
  "disable",
  "delete",
  "discard",
  "outcome-unknown",
  "key-found",
  "abandoned",
  "destroyed",
  "drift",
  "hook-done",
  "overlap-started",
  "straggler",
  "overlap-maximum",
  "failed-use",
  "failed",
  "refused",
  "debt",
  "blocked",
  "turned-to",
  "rolling-back",
  "rollback-failed",
  "rolled-back",
  "done",
  "adopted",
  "released",
  // What people say.
  "rotate",
  "hold",
  "unhold",
  "ack",
  "rollback",
  "revoke",
  "emergency",
  "pause",
  "resume",
  "unlock",
  "forget",
  "release",
] as const;

export type EventType = (typeof EVENTS)[number];

/** Events that notifiers know by another's name. */
const TOPIC_OF: Partial<Record<EventType, EventType>> = {
  "overlap-maximum": "straggler",
  refused: "failed",
  debt: "failed",
};

export function topicOf(type: EventType): EventType {
  return TOPIC_OF[type] ?? type;
}

/** What `events:` of a notifier may list. */
export const TOPICS: readonly EventType[] = EVENTS.filter((type) => topicOf(type) === type);
