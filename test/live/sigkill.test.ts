import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Random } from "../simulation/random.ts";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine, type Ended } from "../support/command-line.ts";
import { Lane } from "../support/lane.ts";
import { POINTS, type Point } from "../support/proxy.ts";

/** How a process ends: at a point of its n-th call, or after so many ms. */
type Blow = { readonly n: number; readonly point: Point } | { readonly after: number };

const LANES = 4;
const AT_CALLS = 171;
const AT_MOMENTS = 139;

let authority: TestAuthority;
let commands: CommandLine;
let lanes: Lane[];
const kills = new Map<string, number>();
const seed = Number(process.env["KEYTURN_SEED"] ?? Date.now() % 1_000_000);
const random = new Random(seed);

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
  lanes = await Promise.all(Array.from({ length: LANES }, (_, n) => Lane.open(`lane-${n}`, authority, commands)));
});
afterAll(async () => {
  await Promise.all((lanes ?? []).map((lane) => lane.close()));
  await authority?.close();
  commands?.remove();
});

/** @returns whether the blow hit: a process that was quicker ended by itself. */
async function strike(lane: Lane, args: readonly string[], blow: Blow): Promise<boolean> {
  lane.proxy.reset();
  let where = "at a random moment";
  if ("n" in blow) {
    lane.proxy.at = (call, point) => {
      if (call.n !== blow.n || point !== blow.point) return;
      where = `${point} ${call.kind}`;
      running.child.kill("SIGKILL");
    };
  }
  const running = lane.start(...args);
  const timer = "after" in blow ? setTimeout(() => running.child.kill("SIGKILL"), blow.after) : undefined;
  const ended = await running.ended;
  clearTimeout(timer);
  lane.proxy.reset();
  if (ended.signal === "SIGKILL") kills.set(where, (kills.get(where) ?? 0) + 1);
  else expectSane(ended);
  return ended.signal === "SIGKILL";
}

function expectSane({ code, stderr }: Ended): void {
  expect([0, 4], stderr).toContain(code);
  expect(stderr).not.toMatch(/bug in keyturn|^ {4}at /m);
}

async function shown(lane: Lane): Promise<string> {
  return (await lane.run("history", "one", "--limit", "60")).stdout;
}

test(`after ${AT_CALLS + AT_MOMENTS} SIGKILLs at calls and at random moments the next run always ends the job (seed ${seed})`, async () => {
  const first = lanes[0] as Lane;
  await Promise.all(lanes.map(async (lane) => expect((await lane.run("rotate", "one", "--wait")).code).toBe(0)));
  first.proxy.reset();
  const began = performance.now();
  expect((await first.run("rotate", "one", "--wait")).code).toBe(0);
  const lifetime = performance.now() - began;
  const calls = first.proxy.calls.length;
  expect(calls).toBeGreaterThan(10);

  const everyCall = Array.from({ length: calls }, (_, n) => POINTS.map((point): Blow => ({ n: n + 1, point }))).flat();
  const shuffled = (blows: readonly Blow[]): Blow[] => blows.toSorted(() => random.next() - 0.5);
  // A whole rotation makes all the calls; what goes on with it makes fewer.
  const atCalls = shuffled(Array.from({ length: AT_CALLS }, (_, n) => everyCall[n % everyCall.length] as Blow));
  const atMoments = shuffled(
    Array.from({ length: AT_MOMENTS }, (_, n) => ({ after: lifetime * ((n + random.next()) / AT_MOMENTS) })),
  );
  const wrong: string[] = [];

  const work = async (lane: Lane): Promise<void> => {
    const next = (): Blow | undefined => atCalls.pop() ?? atMoments.pop();
    for (let first = next(); first !== undefined && wrong.length === 0; first = next()) {
      const hit = [await strike(lane, ["rotate", "one", "--wait"], first)];
      const story = [first];
      // What is left behind is struck again while it is mended: up to three times.
      for (let again = random.between(0, 3); again > 0 && atMoments.length > 0; again--) {
        const blow = atMoments.pop() as Blow;
        story.push(blow);
        hit.push(await strike(lane, ["run", "one", "--wait"], blow));
      }
      // One that misses, because its process was quicker, is struck again elsewhere.
      for (const missed of hit) if (!missed) atMoments.unshift({ after: lifetime * random.next() });
      const stuck = await lane.settle();
      const faults = stuck === null ? await lane.faults() : [`stuck: ${stuck}`];
      if (faults.length > 0)
        wrong.push(`${lane.client}, after ${JSON.stringify(story)}: ${faults.join("; ")}\n${await shown(lane)}`);
      await sleep(0);
    }
  };
  await Promise.all(lanes.map(work));

  const total = [...kills.values()].reduce((sum, count) => sum + count, 0);
  const table = [...kills]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([where, count]) => `  ${String(count).padStart(4)} ${where}`);
  console.log(
    `${total} kills; a whole rotation takes ${Math.round(lifetime)} ms and ${calls} calls\n${table.join("\n")}`,
  );
  expect(wrong).toEqual([]);
  expect(total).toBeGreaterThanOrEqual(300);

  const printed = commands.printed.join("\n");
  const values = lanes.flatMap((lane) => [...lane.proxy.issued]);
  expect(values.length).toBeGreaterThan(100);
  expect(values.filter((value) => printed.includes(value))).toEqual([]);
}, 280_000);
