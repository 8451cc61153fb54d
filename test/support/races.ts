import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { Ended, Running } from "./command-line.ts";
import type { Lane } from "./lane.ts";
import type { Point } from "./proxy.ts";

/** What came of two processes that wanted to rotate the same secret. */
export interface Contest {
  /** Keys that the authority issued. */
  readonly minted: number;
  /** Processes that ended with 4. */
  readonly refused: number;
  /** Nothing: all is well. */
  readonly wrong: readonly string[];
}

/** A lease that a stopped process outsleeps. */
export const LEASE = 1000;

/**
 * Where a run is stopped, so that its call reaches the authority late or its answer comes late, and how many keys are
 * minted then: a value that only the stopped one was told is lost, and its key has to be replaced.
 */
const STOPS: readonly (readonly [kind: string, point: Point, mints: number])[] = [
  ["POST keys", "between", 2],
  ["POST disable", "before", 1],
  ["POST disable", "between", 1],
  ["DELETE key", "before", 1],
  ["DELETE key", "between", 1],
];

/** Two whole rotations started together: one goes on, the other says who is at work since when. */
export async function together(lane: Lane): Promise<Contest> {
  const before = lane.proxy.issued.size;
  // The winner has not minted until the loser has ended, so there is no doubt who met whom.
  const held = lane.hold("POST keys", "before");
  const began = Date.now();
  const runs = [lane.start("rotate", "one", "--wait", "--json"), lane.start("rotate", "one", "--wait", "--json")];
  const loser = await Promise.race(runs.map(async (run) => ({ run, ended: await run.ended })));
  held.release();
  const winner = runs.find((run) => run !== loser.run) as Running;
  const won = await winner.ended;
  lane.proxy.reset();
  const wrong = [...unlike(loser.ended, 4), ...unlike(won, 0)];
  if (loser.ended.code === 4) {
    const [secret] = JSON.parse(loser.ended.stdout).secrets;
    const [, since = ""] = / works on it since (\S+)$/.exec(secret.message) ?? [];
    const named = `(${hostname()}, process ${winner.pid})`;
    // Backends tell ages in whole seconds, or less.
    if (!secret.message.includes(named) || Math.abs(Date.parse(since) - began) > 60_000 || secret.reason !== "locked")
      wrong.push(`it should have said that ${named} is at work: ${secret.message}`);
  }
  const minted = lane.proxy.issued.size - before;
  if (minted !== 1) wrong.push(`${minted} keys minted`);
  return { minted, refused: refusals(loser.ended, won), wrong: [...wrong, ...(await faults(lane, won))] };
}

/** A run is stopped in a call for longer than its lease, another takes over and ends the job, and the first wakes. */
export async function outslept(lane: Lane, nth: number): Promise<Contest> {
  const before = lane.proxy.issued.size;
  const [kind, point, mints] = STOPS[nth % STOPS.length] as (typeof STOPS)[number];
  const held = lane.hold(kind, point);
  const first = lane.start("rotate", "one", "--wait");
  await held.reached;
  process.kill(first.pid, "SIGSTOP");
  await stopped(first);
  await sleep(LEASE * 1.2);
  lane.proxy.at = () => undefined;
  const second = await lane.run("run", "one", "--wait", "--lock-timeout", "20s", "--json");
  const calls = lane.proxy.calls.length;
  held.release();
  process.kill(first.pid, "SIGCONT");
  const woken = await first.ended;
  const wrong = [...unlike(second, 0), ...unlike(woken, 0, 1, 4)];
  // What it had sent before counts as answered late; it sends nothing more.
  const late = lane.proxy.calls.slice(calls).filter(({ mutates }) => mutates);
  if (late.length > 0) wrong.push(`woken, it sent ${late.map((call) => call.kind).join(", ")}`);
  const minted = lane.proxy.issued.size - before;
  if (minted !== mints) wrong.push(`${minted} keys minted, and not ${mints}`);
  lane.proxy.reset();
  const told = [...wrong, ...(await faults(lane, second))].map((what) => `stopped at ${kind} (${point}): ${what}`);
  return { minted, refused: refusals(woken, second), wrong: told };
}

/** Until SIGSTOP has taken effect. */
export async function stopped({ pid }: Running): Promise<void> {
  for (let waited = 0; waited < 20_000; waited += 20) {
    const state = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "")[0];
    if (state === "T") return;
    await sleep(20);
  }
  throw new Error("it was not stopped");
}

function unlike({ code, stderr }: Ended, ...codes: number[]): string[] {
  const isSane = codes.includes(code ?? -1) && !/bug in keyturn|^ {4}at /m.test(stderr);
  return isSane ? [] : [`exit ${code}, and not ${codes.join(" or ")}: ${stderr}`];
}

/** Of a lane whose last command is said to have done it all. */
async function faults(lane: Lane, last: Ended): Promise<string[]> {
  return last.code === 0 ? lane.faults(last) : [];
}

function refusals(...ends: readonly Ended[]): number {
  return ends.filter(({ code }) => code === 4).length;
}
