import * as z from "zod";
import { STATUSES, type EffectKind, type SecretState } from "../core/model.ts";
import type { EventType } from "../core/events.ts";
import type { ReasonCode } from "../core/reasons.ts";
import type { AuditEntry } from "../ports/state.ts";

const FORMAT = 1;
const EFFECTS = ["issue", "stage", "promote", "put", "enable", "disable", "delete", "discard"] as const;

const text = z.string();
const instant = z.number();
const maybeText = text.nullable();
const maybeInstant = instant.nullable();
const effect: z.ZodType<EffectKind> = z.enum(EFFECTS);
// Words of their own kind: a newer version's are taken as they are.
const eventType = text as unknown as z.ZodType<EventType>;
const reasonCode = text as unknown as z.ZodType<ReasonCode>;

const caller = z.strictObject({
  last: maybeInstant,
  gap: z.number(),
  count: z.number(),
  deniedAt: maybeInstant,
  own: z.boolean(),
});

const memory = z.strictObject({
  from: instant,
  until: instant,
  reached: instant,
  at: instant,
  unknown: maybeText,
  who: z.record(text, caller),
  consumers: z.record(text, z.strictObject({ last: instant, gap: z.number() })).exactOptional(),
  ahead: z.number().exactOptional(),
});

const version = z.strictObject({
  id: text,
  keyId: maybeText,
  status: z.enum(STATUSES),
  origin: z.enum(["issued", "adopted", "inferred"]),
  createdAt: maybeInstant,
  since: instant,
  expiresAt: instant.exactOptional(),
  compromised: z.boolean(),
  expedite: z.boolean(),
  staged: z.boolean(),
  exposed: z.boolean(),
  leftOpen: z.array(text),
  mint: z
    .strictObject({
      listedAt: instant,
      listed: z.array(text),
      within: z.number(),
      absences: z.number(),
      again: z.boolean(),
    })
    .nullable(),
  verification: z
    .strictObject({
      firstTryAt: instant,
      lastTryAt: instant,
      firstSuccessAt: maybeInstant,
      successes: z.number(),
      last: z.enum(["accepted", "rejected", "unknown"]),
    })
    .nullable(),
  disabledAt: maybeInstant,
  deletedAt: maybeInstant,
  usage: z.record(text, memory),
  usageLookedAt: maybeInstant,
  debt: z.strictObject({ since: instant, attempts: z.number(), lastError: maybeText, retryAt: instant }).nullable(),
  handBack: z.boolean(),
});

const delivery = z.strictObject({
  id: text,
  use: text,
  name: text,
  binding: maybeText,
  serves: maybeText,
  ref: maybeText,
  writtenAt: maybeInstant,
  confirmedAt: maybeInstant,
  lastError: maybeText,
});

const rotation = z.strictObject({
  id: text,
  reason: z.enum(["scheduled", "manual", "emergency"]),
  actor: text,
  startedAt: instant,
  to: maybeText,
  from: maybeText,
  rollback: z.strictObject({ at: instant, by: text }).nullable(),
  overlapFrom: maybeInstant,
  hooks: z.array(text),
  failures: z.array(
    z.strictObject({ step: text, count: z.number(), at: instant, retryAt: instant, reason: reasonCode, message: text }),
  ),
  remindedAt: maybeInstant,
  escalatedAt: maybeInstant,
  repair: z.boolean(),
});

const data = z.record(text, z.union([text, z.number(), z.boolean(), z.null()]));

const outbox = z.strictObject({
  events: z.array(
    z.strictObject({
      seq: z.number(),
      at: instant,
      wall: instant,
      actor: text,
      type: eventType,
      data,
      previous: text,
      hash: text,
    }),
  ),
  seq: z.number(),
  hash: text,
  cursors: z.record(text, z.number()),
  retryAt: z.record(text, z.strictObject({ at: instant, failures: z.number() })),
});

const state = z.strictObject({
  schema: z.literal(1),
  name: text,
  commitId: text,
  seq: z.number(),
  clock: instant,
  wall: instant.exactOptional(),
  epoch: z.number(),
  lease: z
    .strictObject({
      runner: text,
      host: text,
      pid: z.number(),
      actor: text,
      since: instant,
      renewedAt: instant,
      duration: z.number(),
    })
    .nullable(),
  minted: z.number(),
  versions: z.array(version),
  rotation: rotation.nullable(),
  last: z
    .strictObject({
      id: text,
      reason: rotation.shape.reason,
      startedAt: instant.exactOptional(),
      endedAt: instant,
      outcome: z.enum(["done", "rolled-back"]),
    })
    .nullable(),
  intent: z
    .strictObject({
      id: text,
      effect,
      version: text,
      delivery: maybeText,
      at: instant,
      duration: z.number(),
      runner: text,
    })
    .nullable(),
  mayLand: z.array(z.strictObject({ id: text, effect, version: text, delivery: maybeText, until: instant })),
  deliveries: z.array(delivery),
  issuerBinding: maybeText,
  strangers: z.array(text),
  holds: z.array(z.strictObject({ reason: text, by: text, at: instant, until: maybeInstant })),
  paused: z.strictObject({ reason: text, by: text, at: instant, until: instant.exactOptional() }).nullable(),
  incident: z
    .strictObject({
      id: text,
      at: instant,
      by: text,
      graceUntil: instant,
      revokeFirst: z.boolean(),
      acceptOutage: z.boolean(),
      overrideHold: z.boolean(),
    })
    .nullable(),
  stopped: z.strictObject({ halts: z.boolean(), reason: reasonCode, message: text, at: instant }).nullable(),
  standing: z.strictObject({ reason: reasonCode, message: text, until: maybeInstant, at: instant }).nullable(),
  queued: z.strictObject({ id: text, by: text, repair: z.boolean() }).nullable(),
  acks: z.array(
    z.strictObject({ kind: z.enum(["consumer", "store"]), name: text, version: text, by: text, at: instant }),
  ),
  lookAgainAt: maybeInstant,
  outbox,
  actions: z.array(
    z.strictObject({ action: text, wall: instant, version: maybeText, keyId: maybeText, delivery: maybeText }),
  ),
  moved: z
    .strictObject({ direction: z.enum(["to", "from"]), place: text, address: text.exactOptional(), id: text })
    .exactOptional(),
}) satisfies z.ZodType<SecretState>;

/** Members of the model that a form has not, optional ones included. */
type Missing<Model, Form> = Model extends string | number | boolean
  ? never
  : Model extends readonly (infer A)[]
    ? Form extends readonly (infer B)[]
      ? Missing<A, B>
      : never
    : {
        [K in keyof Model]-?: K extends keyof Form ? Missing<NonNullable<Model[K]>, NonNullable<Form[K]>> : K;
      }[keyof Model];

/** Does not compile where the model has grown: an export would be refused when it is needed. */
function whole<F extends z.ZodType<SecretState>>(
  form: F & ([Missing<SecretState, z.output<F>>] extends [never] ? unknown : Missing<SecretState, z.output<F>>),
): F {
  return form;
}

const entry: z.ZodType<AuditEntry> = z.strictObject({
  secret: text,
  seq: z.number().int().min(1),
  previous: text,
  hash: text,
  at: instant,
  actor: text,
  type: text,
  data,
});

/** What `state export` writes and `state import` reads. `age`: of the document when it was exported, ms. */
export const exported = z.strictObject({
  keyturnState: z.literal(FORMAT),
  exportedAt: text,
  documents: z.array(z.strictObject({ age: z.number().min(0), state: whole(state) })),
  audit: z.array(entry),
});

/** All of one state, as it is handed about. */
export interface Content {
  readonly documents: readonly { readonly age: number; readonly state: SecretState }[];
  /** In the order in which they came in. */
  readonly audit: readonly AuditEntry[];
}

export function exportText(content: Content, exportedAt: string): string {
  return JSON.stringify({ keyturnState: FORMAT, exportedAt, ...content }, null, 1);
}
