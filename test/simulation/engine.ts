import type { adopt } from "../../src/engine/adopt.ts";
import type { EngineDeps, SecretPorts } from "../../src/engine/deps.ts";
import type { runSecret } from "../../src/engine/run.ts";
import type { say } from "../../src/engine/say.ts";
import type { Process } from "./process.ts";
import { FakeIssuer } from "./fake-issuer.ts";
import { FakeMonitor } from "./fake-monitor.ts";
import { FakeNotifier, FakeState } from "./fake-state.ts";
import { FakeStore, mirrorOf } from "./fake-store.ts";
import { quickHash } from "./random.ts";
import type { World } from "./world.ts";

/** What the simulation asks of an engine. */
export interface Engine {
  readonly runSecret: typeof runSecret;
  readonly say: typeof say;
  readonly adopt: typeof adopt;
}

export function depsOf(world: World, process: Process): EngineDeps {
  return {
    state: new FakeState(world, process),
    clock: process,
    runner: { id: process.id, host: process.host, pid: process.pid, actor: process.id },
    random: (bytes) => process.random.hex(bytes),
    hash: quickHash,
    lease: world.scenario.lease,
    isDead: (host, pid) => host === process.host && world.isDead(host, pid),
    debug: (line) => world.say(process.id, () => `· ${line}`),
    off: world.off,
  };
}

/** The policy as it stands when the process starts, wired to the fakes. */
export function portsOf(world: World, process: Process): SecretPorts {
  const { rules, scenario } = world;
  process.stores = rules.deliveries.map(({ id }) => id);
  const stores = rules.deliveries.map(({ id }) => {
    const truth = world.stores.get(id);
    if (!truth) throw new Error(`no store ${id}`);
    const store = new FakeStore(world, process, truth);
    return [id, truth.spec.traits.staged ? store : mirrorOf(store)] as const;
  });
  return {
    rules,
    issuer: new FakeIssuer(world, process),
    stores: new Map(stores),
    monitors: new Map(world.monitors.map((truth) => [truth.spec.id, new FakeMonitor(world, process, truth)])),
    notifiers: [
      {
        name: "ops",
        events: ["blocked", "failed", "straggler", "done", "started"],
        notifier: new FakeNotifier(world, process),
      },
    ],
    due: (state) => {
      const never = { at: null, due: false, opensAt: null };
      if (world.now < scenario.startAt) return never;
      if (state.last === null) return { at: process.wall(), due: true, opensAt: null };
      if (world.calm || scenario.every === null || world.now < world.invariants.endedAt + scenario.every) return never;
      return { at: process.wall(), due: true, opensAt: null };
    },
    runHook: async (call) => {
      await process.pause(process.random.skewed(3000), "hook");
      world.invariants.clean("hook's context", call.context);
      world.say(process.id, () => `hook ${call.point}`);
      if (!world.calm && process.random.chance(scenario.hookTrouble)) throw new Error("the hook failed");
    },
  };
}
