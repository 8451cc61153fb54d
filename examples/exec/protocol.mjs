// The exec protocol, version 1: one request on stdin, one answer on stdout, stderr is log.
import { text } from "node:stream/consumers";

/** Throw it where something is refused. `applied: "no"`: nothing has changed for certain; else keyturn looks again. */
export class Refusal extends Error {
  constructor(kind, message, applied = "no") {
    super(message);
    this.kind = kind;
    this.applied = applied;
  }
}

/** Answers one request with what the function of that name in `ops` returns. */
export async function serve(ops) {
  const request = JSON.parse(await text(process.stdin));
  const answer = await answerTo(ops, request);
  process.stdout.write(JSON.stringify(answer));
}

async function answerTo(ops, request) {
  try {
    if (request.protocol !== 1) throw new Refusal("invalid", "speaks protocol 1");
    const op = Object.hasOwn(ops, request.op) ? ops[request.op] : undefined;
    if (op === undefined) throw new Refusal("invalid", `has no ${request.op}`);
    return { ok: true, result: (await op(request)) ?? null };
  } catch (error) {
    const { kind = "unavailable", applied = "maybe", message } = error;
    return { ok: false, error: { kind, applied, message } };
  }
}
