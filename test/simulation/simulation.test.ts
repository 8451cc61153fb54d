import { expect, test } from "vitest";
import { real } from "./real.ts";
import { seedOf } from "./random.ts";
import { runSchedule } from "./schedule.ts";

const seed = Number(process.env["KEYTURN_SIM_SEED"] ?? Math.floor(Math.random() * 1e9));
const schedules = Number(process.env["KEYTURN_SIM_SCHEDULES"] ?? 300);

test(`promises hold in ${schedules} schedules from seed ${seed}`, { timeout: 600_000 }, async () => {
  for (let index = 0; index < schedules; index++) {
    const { violation, seed: one } = await runSchedule(real, seedOf(seed, index));
    const again = `KEYTURN_SIM_SEED=${seed}, or: npm run simulate -- --only ${one} --verbose`;
    expect(violation, again).toBeNull();
  }
});

test("the same seed gives the same schedule, traced or not", async () => {
  for (let index = 0; index < 20; index++) {
    const one = seedOf(seed, index);
    const first = await runSchedule(real, one);
    const second = await runSchedule(real, one, { tracing: true });
    expect([second.fingerprint, second.wakes, second.outcome], `seed ${one}`).toEqual([
      first.fingerprint,
      first.wakes,
      first.outcome,
    ]);
  }
});
