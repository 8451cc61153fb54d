import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../simulation/random.ts";
import { awsError } from "./moto-lane.ts";
import type { Wire, WireAnswer, WireCall } from "./wire.ts";

/** What a proxy has seen happen to keys, and what it did to calls. */
export interface Trouble {
  /** Key ids that IAM made. */
  readonly created: readonly string[];
  /** Key ids that IAM deleted. */
  readonly deleted: readonly string[];
  until(holds: () => boolean): Promise<void>;
  /** From now on no call reaches IAM that makes a key or ends one. */
  hold(): void;
  release(): void;
  told(): string;
}

/**
 * Answers 429 to one call in four hundred, and 500 to one in fifty: to one before it is passed on, to the other
 * once it took effect, unless that makes a key or ends one.
 */
export function inTrouble(wire: Wire, random: Random): Trouble {
  const [created, deleted]: [string[], string[]] = [[], []];
  const counts = { 429: 0, 500: 0 };
  const refuse = (call: WireCall, status: 429 | 500): WireAnswer => {
    counts[status]++;
    return failing(call, status);
  };
  wire.reset();
  let held = false;
  const ofKeys = /^(Create|Delete)AccessKey$/;
  wire.instead = (call) => {
    if (held && ofKeys.test(call.action)) return "hang";
    if (random.chance(0.0025)) return refuse(call, 429);
    return random.chance(0.01) ? refuse(call, 500) : null;
  };
  wire.answer = (call, answer) => {
    if (answer.status === 200 && call.action === "CreateAccessKey")
      created.push(/<AccessKeyId>(\w+)</.exec(answer.body)?.[1] ?? "");
    if (answer.status === 200 && call.action === "DeleteAccessKey") deleted.push(call.param("AccessKeyId") ?? "");
    return !ofKeys.test(call.action) && random.chance(0.01) ? refuse(call, 500) : answer;
  };
  return {
    created,
    deleted,
    until: async (holds) => {
      for (let waited = 0; !holds(); waited += 20) {
        if (waited > 120_000) throw new Error("it never came to that");
        await sleep(20);
      }
    },
    hold: () => void (held = true),
    release: () => void (held = false),
    told: () => `${counts[429]} answers 429, ${counts[500]} answers 500 of ${wire.calls.length} calls`,
  };
}

function failing({ action }: WireCall, status: 429 | 500): WireAnswer {
  const code = status === 429 ? "Throttling" : "InternalFailure";
  if (!/Secret/.test(action)) return awsError(status, code);
  const body = JSON.stringify({ __type: status === 429 ? "ThrottlingException" : "InternalServiceError" });
  return { status, body, headers: { "content-type": "application/x-amz-json-1.1" } };
}
