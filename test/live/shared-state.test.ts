import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { CommandLine } from "../support/command-line.ts";
import type { Lane } from "../support/lane.ts";
import { outslept, together } from "../support/races.ts";
import { laneOn, SHARED, startShared, stopShared, type Shared } from "../support/shared-state.ts";

/** Of each kind and backend; `npm run stress` has more. */
const REPETITIONS = 10;

let authority: TestAuthority;
let commands: CommandLine;

beforeAll(async () => {
  authority = await startTestAuthority();
  commands = new CommandLine();
  await startShared();
}, 120_000);
afterAll(async () => {
  await authority?.close();
  commands?.remove();
  await stopShared();
});

async function withLane<T>(backend: Shared, body: (lane: Lane) => Promise<T>): Promise<T> {
  const lane = await laneOn(backend, authority, commands);
  try {
    return await body(lane);
  } finally {
    await lane.close();
  }
}

describe.concurrent.each(SHARED.filter(({ there }) => there))("state in $name", { timeout: 240_000 }, (backend) => {
  test("of two runs started together one mints, the other exits 4 and says who is at work since when", () =>
    withLane(backend, async (lane) => {
      for (let nth = 0; nth < REPETITIONS; nth++)
        expect(await together(lane)).toEqual({ minted: 1, refused: 1, wrong: [] });
    }));

  test("a run that is stopped past its lease and woken does nothing wrong", () =>
    withLane(backend, async (lane) => {
      expect((await lane.run("rotate", "one", "--wait")).code).toBe(0);
      for (let nth = 0; nth < REPETITIONS; nth++) expect((await outslept(lane, nth)).wrong).toEqual([]);
    }));
});
