import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SHARED, startShared, stopShared } from "../support/shared-state.ts";
import { Backend } from "./backed-state.ts";
import { StateTruth } from "./fake-state.ts";
import { real } from "./real.ts";
import { seedOf } from "./random.ts";
import { drawScenario } from "./scenario.ts";
import { runSchedule, type Ending } from "./schedule.ts";

const seed = Number(process.env["KEYTURN_SIM_SEED"] ?? Math.floor(Math.random() * 1e9));
const schedules = Number(process.env["KEYTURN_SIM_BACKED"] ?? 3);

let backend: Backend;
beforeAll(async () => {
  backend = new Backend();
  await startShared();
}, 120_000);
afterAll(async () => {
  try {
    await backend?.end();
  } finally {
    await stopShared();
  }
});

class Counting extends StateTruth {
  stale = 0;

  override save(...args: Parameters<StateTruth["save"]>): ReturnType<StateTruth["save"]> {
    const revision = super.save(...args);
    if (revision === null) this.stale++;
    return revision;
  }
}

/** Schedules in which one runner has really overtaken another, and what came of them. */
async function contested(): Promise<Ending[]> {
  const found: Ending[] = [];
  for (let index = 0; found.length < schedules; index++) {
    const one = seedOf(seed, index);
    if (drawScenario(one).doubled === 0) continue;
    let truth: Counting | undefined;
    const ending = await runSchedule(real, one, { truth: (world) => (truth = new Counting(world)) });
    if ((truth?.stale ?? 0) > 0) found.push(ending);
  }
  return found;
}

describe("several runners on a real backend", () => {
  test.each(SHARED.filter(({ there }) => there))(`$name, from seed ${seed}`, { timeout: 120_000 }, async ({ make }) => {
    for (const { seed: one, fingerprint, outcome } of await contested()) {
      const { url, env } = await make();
      backend.refused = 0;
      const ending = await runSchedule(real, one, { truth: backend.truth(url, env) });
      const again = `KEYTURN_SIM_SEED=${seed}, or: npm run simulate -- --only ${one} --verbose`;
      expect(ending.violation, again).toBeNull();
      expect(backend.refused, again).toBeGreaterThan(0);
      // To the engine it is all the same where its document lies.
      expect([ending.fingerprint, ending.outcome], again).toEqual([fingerprint, outcome]);
    }
  });
});
