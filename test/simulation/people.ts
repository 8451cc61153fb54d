import { living, versionOf } from "../../src/core/model.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Word } from "../../src/core/words.ts";
import { stranger } from "./consumers.ts";
import type { RunOptions } from "../../src/engine/result.ts";
import type { Engine } from "./engine.ts";
import { depsOf, portsOf } from "./engine.ts";
import { StoreTruth } from "./fake-store.ts";
import { Random } from "./random.ts";
import { deliveryRules, drawFates, drawMirror } from "./scenario.ts";
import type { Deed } from "./scenario.ts";
import { CANARY, NAME } from "./names.ts";
import type { World } from "./world.ts";

const MINUTE = 60_000;

/** Has everything that the scenario's people do happen at its moment. */
export function populate(world: World, engine: Engine): void {
  for (const deed of world.scenario.deeds) {
    const act = (): void => {
      world.scheduler.after(deed.delay, () => {
        if (!world.calm) perform(world, engine, deed);
      });
    };
    if (deed.after === null) world.scheduler.at(deed.at ?? 0, act);
    else world.once(deed.after, deed.nth, act);
  }
}

/** A person says a word, and stays for what the command line does after it. */
export function speak(
  world: World,
  engine: Engine,
  word: Word,
  then: Partial<RunOptions> | null,
  fateful = true,
): void {
  const fates = fateful ? drawFates(world.random, world.scenario.fateful / 2) : [];
  world.spawn(word.word, fates, async (process) => {
    world.invariants.words.set(process.id, word);
    const deps = depsOf(world, process);
    const answer = await engine.say(deps, NAME, word);
    world.say(
      process.id,
      () => `${JSON.stringify(word)}: ${answer.ok ? "taken" : `refused (${answer.reason}: ${answer.message})`}`,
    );
    if (!answer.ok || then === null) return;
    const { signal } = new AbortController();
    const result = await engine.runSecret(deps, portsOf(world, process), {
      start: false,
      sit: "none",
      waitMax: 30 * MINUTE,
      lockTimeout: 60_000,
      signal,
      ...then,
    });
    world.say(process.id, () => `ends: ${result.outcome} ${result.reason} (${result.message})`);
  });
}

function perform(world: World, engine: Engine, deed: Deed): void {
  const r = new Random(deed.seed);
  const { doc } = world;
  const mirrors = world.rules.deliveries.slice(1);
  world.say("world", () => `a deed: ${deed.what}`);
  switch (deed.what) {
    case "rollback":
      return speak(world, engine, { word: "rollback" }, { sit: "served" });
    case "emergency": {
      // Nobody names a key that is a stranger's.
      const isOurs = (keyId: string | null) => world.issuer.keys.get(keyId ?? "")?.owner !== "stranger";
      const alive = doc === null ? [] : living(doc).filter(({ keyId }) => isOurs(keyId));
      const one = alive[r.between(0, alive.length - 1)];
      return speak(
        world,
        engine,
        {
          word: "emergency",
          versions: one !== undefined && r.chance(0.4) ? [one.id] : null,
          grace: r.pick([0, 1, 5]) * MINUTE,
          revokeFirst: r.chance(0.15),
          acceptOutage: r.chance(0.15),
          overrideHold: r.chance(0.3),
        },
        { start: true, sit: "dead" },
      );
    }
    case "hold":
      return speak(world, engine, { word: "hold", reason: "busy", until: null }, null);
    case "unhold":
    case "resume":
    case "unlock":
      return speak(world, engine, { word: deed.what }, null);
    case "pause":
      return speak(world, engine, { word: "pause", reason: "holiday" }, null);
    case "revoke": {
      const old = doc?.versions.find((v) => v.status === "retiring" || v.status === "disabled") ?? doc?.versions[0];
      if (old) speak(world, engine, { word: "revoke", version: old.id, compromised: r.chance(0.4) }, null);
      return;
    }
    case "rotate":
      return speak(
        world,
        engine,
        { word: "rotate", repair: r.chance(0.2) },
        { start: true, sit: r.pick(["short", "all"]) },
      );
    case "release": {
      // People release what is not ours: a wrong word about our own key is beyond any promise.
      const theirs = world.issuer.alive().filter((k) => k.owner === "stranger");
      const inferred = theirs.find((k) => doc?.versions.some((v) => v.origin === "inferred" && v.keyId === k.id));
      const key = inferred ?? theirs[0];
      if (key) speak(world, engine, { word: "release", keyId: key.id }, null);
      return;
    }
    case "runner":
      return run(world, engine, r, { start: true, sit: r.pick(["none", "short", "all"]) });
    case "stranger":
      return stranger(world, r.chance(0.6));
    case "mirror-away": {
      const away = mirrors[r.between(0, mirrors.length - 1)];
      if (!away || !doc?.rotation) return;
      world.rules = { ...world.rules, deliveries: world.rules.deliveries.filter((d) => d !== away) };
      world.away.push(away);
      world.scheduler.after(r.between(1, 30) * MINUTE, () => putBack(world));
      return;
    }
    case "mirror-new": {
      if (world.stores.size > 3) return;
      const spec = drawMirror(r, `mirror${world.stores.size}`);
      if (spec.traits.proof === "none") return;
      (world.stores as Map<string, StoreTruth>).set(spec.id, new StoreTruth(world, spec));
      world.rules = { ...world.rules, deliveries: [...world.rules.deliveries, deliveryRules(spec)] };
      return;
    }
    case "durations": {
      const minimum = r.pick([0, 2, 20]) * MINUTE;
      const soak = r.pick([0, 2, 20]) * MINUTE;
      world.invariants.shortestMinimum = Math.min(world.invariants.shortestMinimum, minimum);
      world.invariants.shortestSoak = Math.min(world.invariants.shortestSoak, soak);
      world.rules = {
        ...world.rules,
        overlap: { ...world.rules.overlap, minimum },
        soak: { ...world.rules.soak, for: soak },
      };
      return;
    }
    case "damage": {
      const store = world.stores.get(world.rules.deliveries[r.between(0, mirrors.length)]?.id ?? "");
      if (!store) return;
      world.say("vandal", () => `writes a foreign value into ${store.spec.id}`);
      store.write(SecretValue.of({ id: "foreign", secret: `${CANARY}-foreign` }));
      store.damagedAt = world.now;
      return;
    }
    case "console": {
      // Somebody switches the new key off by hand, and on again when told.
      const current = doc?.rotation?.overlapFrom == null ? undefined : doc.versions.find((v) => v.status === "current");
      const key = world.issuer.keys.get(current?.keyId ?? "");
      if (key === undefined || !key.enabled) return;
      key.byHand = true;
      world.issuer.turn(key, false);
      world.scheduler.after(r.between(1, 60) * MINUTE, () => world.issuer.turn(key, true));
      return;
    }
    case "sibling":
      for (const store of world.stores.values()) if (r.chance(0.7)) store.touch();
      return;
  }
}

/** Stores that were taken out of the policy come back. */
export function putBack(world: World): void {
  const missing = world.away.filter((d) => !world.rules.deliveries.some((o) => o.id === d.id));
  if (missing.length > 0) world.rules = { ...world.rules, deliveries: [...world.rules.deliveries, ...missing] };
}

/** One run of the command line, as a schedule starts it. */
export function run(world: World, engine: Engine, random: Random, options: Partial<RunOptions>): void {
  const fates = drawFates(random, world.scenario.fateful);
  world.spawn("run", fates, async (process) => {
    const { signal } = new AbortController();
    const result = await engine.runSecret(depsOf(world, process), portsOf(world, process), {
      start: true,
      sit: "none",
      waitMax: random.between(5, 60) * MINUTE,
      lockTimeout: random.chance(0.3) ? 30_000 : 0,
      signal,
      ...options,
      onProgress: (progress) => world.random.chance(0.005) && world.invariants.clean("progress", progress),
    });
    world.say(process.id, () => `ends: ${result.outcome} ${result.reason} (${result.message})`);
    world.invariants.occurred.add(result.reason);
  });
}

/** People who look at their consumers and say so once one has moved. Where no signal names consumers, nothing ends without them. */
export function vouch(world: World, engine: Engine): void {
  const { monitors, rules } = world.scenario;
  const needed =
    rules.usage === "none" || !monitors.some((m) => m.traits.names === "consumer" && m.traits.history === "events");
  const look = (): void => {
    const { doc } = world;
    const to = doc?.rotation ? (doc.rotation.rollback ? doc.rotation.from : doc.rotation.to) : null;
    const version = doc === null ? null : versionOf(doc, to);
    for (const consumer of world.consumers) {
      const key = world.issuer.keys.get(version?.keyId ?? "");
      const fading = world.stores.get(consumer.spec.store)?.servable().length !== 1;
      const moved = key !== undefined && consumer.held === key.value && !fading;
      const since = doc?.rotation?.overlapFrom ?? Infinity;
      const said = doc?.acks.some((a) => a.name === consumer.spec.name && a.version === to && a.at >= since);
      if (!moved || said || !rules.consumers.some((c) => c.name === consumer.spec.name)) continue;
      world.invariants.vouched.set(consumer.spec.name, to as string);
      speak(world, engine, { word: "ack", kind: "consumer", name: consumer.spec.name }, null, false);
    }
    world.scheduler.after(5 * MINUTE, look);
  };
  if (needed) world.scheduler.at(world.scenario.startAt, look);
}
