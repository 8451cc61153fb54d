import { living } from "../../src/core/model.ts";
import type { SecretState } from "../../src/core/model.ts";
import type { ReasonCode } from "../../src/core/reasons.ts";
import type { Safeguard } from "../../src/core/safeguards.ts";
import { attack, Consumer } from "./consumers.ts";
import type { RunResult } from "../../src/engine/result.ts";
import type { Engine } from "./engine.ts";
import type { StateTruth } from "./fake-state.ts";
import { depsOf, portsOf } from "./engine.ts";
import { populate, putBack, run, speak, vouch } from "./people.ts";
import { drawScenario } from "./scenario.ts";
import { World } from "./world.ts";
import type { Violation } from "./world.ts";

const MINUTE = 60_000;
/** More wakes than any schedule needs: beyond it something goes round in circles. */
const MOST_WAKES = 120_000;
const MOST_CALM_RUNS = 250;

export interface Ending {
  readonly seed: number;
  /** `done`, `blocked:REASON`, or null where a promise broke. */
  readonly outcome: string;
  readonly violation: Violation | null;
  readonly wakes: number;
  readonly fingerprint: number;
  readonly trace: readonly string[];
}

export interface ScheduleOptions {
  readonly off?: ReadonlySet<Safeguard>;
  readonly tracing?: boolean;
  /** What really holds the document, instead of a variable. */
  readonly truth?: (world: World) => StateTruth;
}

/** Lives through the one schedule that belongs to this seed. */
export async function runSchedule(engine: Engine, seed: number, options: ScheduleOptions = {}): Promise<Ending> {
  const scenario = drawScenario(seed);
  const world = new World(scenario, options.off ?? new Set(), options.tracing ?? false, options.truth);
  world.say("scenario", () => JSON.stringify(scenario));
  const calm = new Calm(world, engine);
  settle(world, engine);
  populate(world, engine);
  vouch(world, engine);
  if (scenario.attacker) attack(world);
  world.scheduler.at(scenario.startAt, () => cron(world, engine, calm));
  world.scheduler.at(scenario.calmAt, () => calm.begin());
  await world.scheduler.drive(
    () => world.violation !== null || calm.outcome !== null || world.scheduler.served > MOST_WAKES,
  );
  if (world.violation === null && calm.outcome === null) {
    world.violate(
      "P7",
      world.scheduler.served > MOST_WAKES ? "the schedule goes round in circles" : "nothing happens any more",
    );
  }
  const { violation, trace } = world;
  return {
    seed,
    outcome: calm.outcome ?? "broken",
    violation,
    wakes: world.scheduler.served,
    fingerprint: world.scheduler.fingerprint,
    trace,
  };
}

/** Before time: a first key that every store serves, adopted in peace; or nothing at all. */
function settle(world: World, engine: Engine): void {
  const { scenario } = world;
  if (!scenario.empty) {
    const first = world.issuer.create("ours", null, null);
    for (const store of world.stores.values()) store.write(first.value);
    world.calm = true;
    world.scheduler.at(1000, () => {
      world.spawn("adopt", [], async (process) => {
        const result = await engine.adopt(depsOf(world, process), portsOf(world, process), {
          keyId: null,
          signal: new AbortController().signal,
        });
        world.say(process.id, () => `ends: ${result.outcome} ${result.reason} (${result.message})`);
        if (world.doc === null) world.violate("P7", `adopt: ${result.outcome} ${result.reason} (${result.message})`);
      });
    });
    world.scheduler.at(scenario.startAt, () => (world.calm = false));
  }
  for (const spec of scenario.consumers) world.consumers.push(new Consumer(world, spec));
}

function cron(world: World, engine: Engine, calm: Calm): void {
  if (world.calm) return;
  const { doc, now, random, scenario } = world;
  const nothingComes = scenario.every === null && scenario.deeds.every((d) => d.at === null || d.at + d.delay < now);
  if (
    nothingComes &&
    doc !== null &&
    doc.rotation === null &&
    doc.last !== null &&
    now - world.invariants.endedAt > 10 * MINUTE
  )
    return calm.begin();
  const sit = random.chance(0.9) ? "none" : "all";
  const awake = world.processes.filter((p) => p.state === "running").length;
  if (awake < 4) run(world, engine, random, { sit });
  if (random.chance(scenario.doubled))
    world.scheduler.after(random.skewed(20_000), () => !world.calm && run(world, engine, random, { sit: "none" }));
  world.scheduler.after(Math.floor(scenario.runEvery * (0.5 + random.next())), () => cron(world, engine, calm));
}

/** The fair end: nothing fails any more, people let go, and runs go on until the work is done or rightly blocked. */
class Calm {
  outcome: string | null = null;
  readonly #world: World;
  readonly #engine: Engine;
  #runs = 0;
  #words = 0;
  #last = "";
  /** Done was seen, with so many changing calls until then: one more run may make none. */
  #doneAt: number | null = null;

  constructor(world: World, engine: Engine) {
    this.#world = world;
    this.#engine = engine;
  }

  begin(): void {
    const world = this.#world;
    if (world.calm) return;
    world.say("world", () => "grows calm");
    world.calm = true;
    for (const process of world.processes) process.spare();
    for (const key of world.issuer.alive()) if (key.owner === "stranger") this.#leave(key);
    putBack(world);
    world.scheduler.after(30_000, () => this.#next());
  }

  /** A stranger takes his key with him; if we have switched off one that he used, he comes for it first. */
  #leave(key: Parameters<World["issuer"]["remove"]>[0]): void {
    const { issuer } = this.#world;
    if (key.enabled) issuer.remove(key);
    else this.#world.scheduler.after(6 * 3_600_000, () => issuer.remove(key));
  }

  #next(): void {
    const world = this.#world;
    const { doc } = world;
    if (doc !== null && doc.holds.length > 0) speak(world, this.#engine, { word: "unhold" }, null);
    if (doc !== null && doc.paused !== null) speak(world, this.#engine, { word: "resume" }, null);
    // Consumers of a damaged store have called by now, whatever the runs say.
    const damaged = [...world.stores.values()].some((s) => s.held !== null && world.issuer.of(s.held.value) === null);
    if (damaged && this.#runs % 30 === 29) speak(world, this.#engine, { word: "rotate", repair: true }, null);
    // Where nothing can prove what a store serves, a person looks.
    if (this.#last.includes("distributing") && this.#runs % 5 === 4) {
      for (const { id, traits } of world.rules.deliveries)
        if (traits.proof === "none") speak(world, this.#engine, { word: "ack", kind: "store", name: id }, null);
    }
    if (++this.#runs > MOST_CALM_RUNS) return this.#stuck(`it never ends: ${this.#last}`);
    world.scheduler.after(5000, () => {
      world.spawn("calm", [], async (process) => {
        const { signal } = new AbortController();
        const result = await this.#engine.runSecret(depsOf(world, process), portsOf(world, process), {
          start: true,
          sit: "none",
          waitMax: null,
          lockTimeout: 60_000,
          signal,
        });
        world.say(
          process.id,
          () =>
            `ends: ${result.outcome} ${result.reason} (${result.message}) until ${result.until === null ? "-" : ((result.until - process.wall()) / 1000).toFixed(1) + " s"}`,
        );
        this.#judge(result, result.until === null ? null : result.until - process.wall());
      });
    });
  }

  #judge(result: RunResult, wait: number | null): void {
    const world = this.#world;
    const { doc } = world;
    this.#last = `${result.outcome} ${result.reason} (${result.message})`;
    if (result.outcome === "done" && doc !== null && doc.rotation === null) {
      if (this.#doneAt === null) this.#doneAt = world.changes;
      else if (this.#doneAt !== world.changes)
        return world.violate("P7", "a run with nothing due has changed something");
      else return this.#finish(doc);
      return void world.scheduler.after(MINUTE, () => this.#next());
    }
    this.#doneAt = null;
    if (result.outcome === "blocked" && !this.#unblock(result)) return;
    const pause = Math.max(
      wait === null ? MINUTE : Math.min(wait + 500, 30 * MINUTE),
      this.#runs > 20 ? 5 * MINUTE : 2000,
    );
    world.scheduler.after(pause, () => this.#next());
  }

  /** P3, P6 and P2 at the very end. */
  #finish(doc: SecretState): void {
    const world = this.#world;
    const current = doc.versions.find((v) => v.status === "current");
    const ours = world.issuer.alive().filter((k) => k.owner === "ours");
    if (!current || ours.length !== 1 || ours[0]?.id !== current.keyId) {
      return world.violate(
        "P6",
        `done, and these keys of ours live: ${ours.map((k) => `${k.id}${k.enabled ? "" : " (disabled)"}`).join(", ") || "none"}; current is ${current?.keyId ?? "none"}`,
      );
    }
    for (const store of world.stores.values()) {
      // A store that joined the policy after its last rotation gets its value with the next.
      if (store.held === null || world.invariants.forsaken.has(store.spec.id)) continue;
      const served = world.issuer.of(store.held.value);
      const { overlooked, outageAccepted, revokedAt, endedAt } = world.invariants;
      const wasOverlooked = overlooked.includes(store.spec.id);
      const unseen =
        store.spec.traits.proof === "receipt" ||
        store.spec.traits.proof === "none" ||
        wasOverlooked ||
        store.damagedAt >= Math.min(revokedAt, endedAt - 15 * MINUTE);
      // A run that does not know of a store, and may accept an outage, leaves it behind.
      if (wasOverlooked && outageAccepted) continue;
      if (served === ours[0] || (store.damagedAt > -Infinity && unseen)) continue;
      return world.violate("P6", `done, and ${store.spec.id} serves ${served?.id ?? "nothing of ours"}`);
    }
    const hurt = [...world.issuer.keys.values()].find(
      (k) => k.owner === "stranger" && k.deletedAt === null && !k.enabled && k.uses.some((u) => u.ok && !u.own),
    );
    if (hurt) return world.violate("P2", `${hurt.id} is a stranger's, is used, and stays disabled`);
    if (living(doc).length > 1 && doc.rotation === null)
      return world.violate(
        "P6",
        `done, and the document still carries ${living(doc)
          .map((v) => `${v.id} (${v.status})`)
          .join(", ")}`,
      );
    this.outcome = "done";
  }

  /** Whether a person can help; otherwise the schedule ends here, rightly or not. */
  #unblock(result: RunResult): boolean {
    const world = this.#world;
    const { reason } = result;
    if (!this.#isTrue(reason)) return (this.#stuck(`blocked: ${reason}, which is not true (${result.message})`), false);
    const help =
      reason === "held" ||
      reason === "overlap-maximum" ||
      reason === "slots-full-foreign" ||
      reason === "not-in-policy";
    if (help) return true;
    if (++this.#words > 4) {
      this.outcome = `blocked:${reason}`;
      return false;
    }
    if (reason === "orphan-inferred" || reason === "orphan-ambiguous") this.#sortOut();
    else if (reason === "unmanaged") {
      for (const store of world.stores.values()) store.held = null;
    } else speak(world, this.#engine, { word: "rotate", repair: reason === "drift" }, null);
    return true;
  }

  /** A person knows whose a key is: strangers get theirs back, a lost one of ours is deleted by hand. */
  #sortOut(): void {
    const world = this.#world;
    const known = world.doc?.versions.filter((v) => v.origin !== "inferred").map((v) => v.keyId) ?? [];
    for (const key of world.issuer.keys.values()) {
      if (key.owner === "stranger") speak(world, this.#engine, { word: "release", keyId: key.id }, null);
      else if (!known.includes(key.id)) world.issuer.remove(key);
    }
  }

  /** What each reason says of the world, held against the world. */
  #isTrue(reason: ReasonCode): boolean {
    const { issuer, invariants, scenario, stores } = this.#world;
    const { occurred } = invariants;
    const troubled =
      scenario.trouble > 0 ||
      scenario.hookTrouble > 0 ||
      scenario.denials.length > 0 ||
      scenario.fateful > 0 ||
      scenario.deeds.length > 0;
    switch (reason) {
      case "rolled-back":
        return occurred.has("rollback") || scenario.denials.length > 0;
      case "store-denied":
      case "issuer-denied":
        return scenario.denials.length > 0;
      case "attempts-exhausted":
      case "store-conflict":
        return troubled;
      case "unmanaged":
      case "drift":
        return [...stores.values()].some((s) => s.damagedAt > -Infinity);
      case "orphan-inferred":
      case "orphan-ambiguous":
        return (
          !scenario.issuer.labels &&
          [...issuer.keys.values()].some(
            (k) => k.id !== this.#world.doc?.versions.find((v) => v.status === "current")?.keyId,
          )
        );
      case "slots-full-foreign":
        return [...issuer.keys.values()].some(
          (k) =>
            (k.owner === "stranger" || this.#world.doc?.strangers.includes(k.id)) &&
            (k.deletedAt === null || this.#world.now - k.deletedAt < 5 * MINUTE),
        );
      case "slots-full-ours":
        return issuer.alive().filter((k) => k.owner === "ours").length >= scenario.issuer.maxKeys;
      case "overlap-maximum":
      case "held":
        return true;
      case "verify-rejected":
        return [...issuer.keys.values()].some((k) => k.byHand);
      case "compromised":
      case "nothing-to-roll-back-to":
        return invariants.leaked.size > 0 || occurred.has("rollback");
      case "identity-mismatch":
      case "binding-changed":
      case "not-in-policy":
      default:
        return false;
    }
  }

  #stuck(text: string): void {
    this.#world.violate("P7", `stuck: ${text}`);
  }
}
