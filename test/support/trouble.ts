import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../simulation/random.ts";
import { awsError } from "./moto-lane.ts";
import type { Wire, WireAnswer, WireCall } from "./wire.ts";

/** What a proxy has seen happen to keys, and what it did to calls. */
export interface Trouble {
  /** Key id that IAM made → the user whose it is. */
  readonly created: ReadonlyMap<string, string>;
  /** Key ids that IAM made and of which the caller was told nothing but 500. */
  readonly untold: readonly string[];
  /** Key ids that IAM deleted. */
  readonly deleted: readonly string[];
  until(holds: () => boolean): Promise<void>;
  /** From now on every call is passed on, and answered. */
  end(): void;
  /** No call is on its way to AWS any more, whoever sent it. */
  settled(): Promise<void>;
  told(): string;
}

/** Of the answers that say that a key was made, or was deleted, every so many-th is lost. */
const LOST = { CreateAccessKey: 20, DeleteAccessKey: 8 } as const;

/**
 * Answers 429 to one call in four hundred, and 500 to one in fifty: to one before it is passed on, to the other once it
 * took effect. Of the answers to calls that make or delete a key more are lost, and a known number.
 */
export function inTrouble(wire: Wire, random: Random): Trouble {
  const created = new Map<string, string>();
  const [untold, deleted]: [string[], string[]] = [[], []];
  const counts = { 429: 0, 500: 0 };
  const refuse = (call: WireCall, status: 429 | 500): WireAnswer => {
    counts[status]++;
    return failing(call, status);
  };
  wire.reset();
  let [onTheWay, over] = [0, false];
  wire.instead = (call) => {
    if (!over && random.chance(0.0025)) return refuse(call, 429);
    if (!over && random.chance(0.01)) return refuse(call, 500);
    onTheWay++;
    return null;
  };
  wire.answer = (call, answer) => {
    onTheWay--;
    if (answer.status !== 200) return answer;
    if (call.action === "CreateAccessKey") {
      const id = /<AccessKeyId>(\w+)</.exec(answer.body)?.[1] ?? "";
      created.set(id, call.param("UserName") ?? "");
      if (over || created.size % LOST.CreateAccessKey !== 0) return answer;
      untold.push(id);
      return refuse(call, 500);
    }
    if (call.action === "DeleteAccessKey") {
      deleted.push(call.param("AccessKeyId") ?? "");
      return !over && deleted.length % LOST.DeleteAccessKey === 0 ? refuse(call, 500) : answer;
    }
    return !over && random.chance(0.01) ? refuse(call, 500) : answer;
  };
  const until = async (holds: () => boolean): Promise<void> => {
    for (let waited = 0; !holds(); waited += 20) {
      if (waited > 120_000) throw new Error("it never came to that");
      await sleep(20);
    }
  };
  return {
    created,
    untold,
    deleted,
    until,
    end: () => void (over = true),
    settled: () => until(() => onTheWay === 0),
    told: () => `${counts[429]} answers 429, ${counts[500]} answers 500 of ${wire.calls.length} calls`,
  };
}

function failing({ action }: WireCall, status: 429 | 500): WireAnswer {
  const code = status === 429 ? "Throttling" : "InternalFailure";
  if (!/Secret/.test(action)) return awsError(status, code);
  const body = JSON.stringify({ __type: status === 429 ? "ThrottlingException" : "InternalServiceError" });
  return { status, body, headers: { "content-type": "application/x-amz-json-1.1" } };
}
