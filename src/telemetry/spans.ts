import { createHash, randomBytes } from "node:crypto";
import type { Instant } from "../core/duration.ts";
import type { Call } from "./calls.ts";

type Attributes = Readonly<Record<string, string>>;

export interface Span {
  /** 32 and 16 hex digits. */
  readonly trace: string;
  readonly id: string;
  /** null: the root. */
  readonly parent: string | null;
  readonly name: string;
  /** At something else's: a provider. */
  readonly isClient: boolean;
  /** Wall clock, ms. */
  readonly from: Instant;
  readonly to: Instant;
  /** Names and ids; never a value. */
  readonly attributes: Attributes;
  readonly isError: boolean;
}

/** The same for every process that works on the rotation, so that what each of them tells is one trace. */
function idsOf(rotation: string): { readonly trace: string; readonly root: string } {
  const digest = createHash("sha256").update(`keyturn rotation ${rotation}`).digest("hex");
  return { trace: digest.slice(0, 32), root: digest.slice(32, 48) };
}

export function spanOf(call: Call, rotation: string): Span {
  const { trace, root } = idsOf(rotation);
  const { secret, port, type, operation, subject, place, began, took, result } = call;
  return {
    trace,
    id: randomBytes(8).toString("hex"),
    parent: root,
    name: port === "hook" ? `hook ${type}` : operation,
    isClient: port !== "hook",
    from: began,
    to: began + took,
    attributes: {
      "keyturn.secret": secret,
      "keyturn.rotation.id": rotation,
      [`keyturn.${port}.type`]: type,
      ...(place !== null && { "keyturn.store.name": place }),
      ...(subject !== null && { "keyturn.subject": subject }),
      ...(result !== "ok" && { "error.type": result }),
    },
    isError: result !== "ok",
  };
}

export interface Ended {
  readonly id: string;
  readonly reason: string;
  readonly secret: string;
  readonly outcome: string;
  readonly from: Instant;
  readonly to: Instant;
}

/** Around the whole rotation. */
export function rootOf({ id, reason, secret, outcome, from, to }: Ended): Span {
  const { trace, root } = idsOf(id);
  const attributes = {
    "keyturn.secret": secret,
    "keyturn.rotation.id": id,
    "keyturn.rotation.reason": reason,
    "keyturn.rotation.outcome": outcome,
  };
  const name = `rotate ${secret}`;
  return { trace, id: root, parent: null, name, isClient: false, from, to, attributes, isError: false };
}

/** As OTLP has it in JSON: numbers of 64 bits are texts, ids are hex. */
export function otlp(spans: readonly Span[], resource: Attributes): object {
  return {
    resourceSpans: [
      {
        resource: { attributes: pairs(resource) },
        scopeSpans: [{ scope: { name: "keyturn" }, spans: spans.map(otlpSpan) }],
      },
    ],
  };
}

const [INTERNAL, CLIENT, ERROR] = [1, 3, 2];

function otlpSpan({ trace, id, parent, name, isClient, from, to, attributes, isError }: Span): object {
  return {
    traceId: trace,
    spanId: id,
    ...(parent !== null && { parentSpanId: parent }),
    name,
    kind: isClient ? CLIENT : INTERNAL,
    startTimeUnixNano: nanos(from),
    endTimeUnixNano: nanos(Math.max(from, to)),
    attributes: pairs(attributes),
    status: isError ? { code: ERROR } : {},
  };
}

function nanos(ms: Instant): string {
  return `${BigInt(Math.round(ms * 1000))}000`;
}

function pairs(attributes: Attributes): object[] {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: { stringValue: value } }));
}
