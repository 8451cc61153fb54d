import { ProviderError, UserError } from "../../src/core/errors.ts";
import type { SecretState, VersionId } from "../../src/core/model.ts";
import { living } from "../../src/core/model.ts";
import type { KeyId } from "../../src/core/observed.ts";
import type { SecretValue } from "../../src/core/secret-value.ts";
import type { Word } from "../../src/core/words.ts";
import type { AuditEntry } from "../../src/ports/state.ts";
import type { Consumer } from "./consumers.ts";
import type { TruthKey } from "./fake-issuer.ts";
import type { StoreTruth } from "./fake-store.ts";
import type { Process } from "./process.ts";
import { EPOCH } from "./process.ts";
import { CANARY } from "./names.ts";
import type { Committed, World } from "./world.ts";

/** The promises of the design, held against what is true in the world, at every effect and every commit. */
export class Invariants {
  /** Versions said to have leaked → when that was committed. */
  readonly leaked = new Map<VersionId, number>();
  /** Versions whose end a person has asked for. */
  readonly expedited = new Set<VersionId>();
  /** The word that a process is about to have committed. */
  readonly words = new Map<string, Word>();
  /** Stores that the policy gave up while nothing was in flight. */
  readonly forsaken = new Set<string>();
  /** Reasons that make a blocked end true. */
  readonly occurred = new Set<string>();
  /** Where a rollback must lead, from the moment that a person has asked for it. */
  wayBack: VersionId | null = null;
  /** When the newest rotation ended. */
  endedAt = 0;
  /** When a revocation was intended last: nobody looks at the stores after it, before the next rotation. */
  revokedAt = Infinity;
  /** Stores that joined the policy after the run that revoked last had read it. */
  overlooked: readonly string[] = [];
  /** Consumer → the version that a person is about to vouch for. */
  readonly vouched = new Map<string, VersionId>();
  outageAccepted = false;
  shortestMinimum: number;
  shortestSoak: number;
  readonly #sent = new Set<string>();
  readonly #events = new Map<number, string>();

  constructor(readonly world: World) {
    this.shortestMinimum = world.scenario.rules.overlap.minimum;
    this.shortestSoak = world.scenario.rules.soak.for;
  }

  versionOf(keyId: KeyId): VersionId | null {
    return (
      this.world.doc?.versions.find((v) => v.keyId === keyId)?.id ?? this.world.issuer.keys.get(keyId)?.label ?? null
    );
  }

  wrongIdentity(): boolean {
    const { from, until } = this.world.scenario.identityWrong;
    return !this.world.calm && this.world.now >= from && this.world.now < until;
  }

  /** P1: every value that a store may serve is accepted by the issuer. */
  served(): void {
    if (this.outageAccepted) return;
    for (const store of this.world.stores.values()) {
      if (this.forsaken.has(store.spec.id)) continue;
      for (const value of store.servable()) {
        const key = this.world.issuer.of(value);
        if (key === null || key.owner === "stranger" || key.byHand || this.world.issuer.accepts(key)) continue;
        const now = store.held?.value === value;
        this.world.violate(
          "P1",
          `${store.spec.id} ${now ? "serves" : "may still serve"} ${key.id} (${this.versionOf(key.id)}), which is ${key.deletedAt === null ? "disabled" : "deleted"}`,
        );
      }
    }
  }

  /** P1: a consumer that keeps to its declaration is never refused. */
  refused(consumer: Consumer, key: TruthKey): void {
    this.world.say(consumer.spec.instance, () => `is refused with ${key.id}`);
    this.occurred.add("refused-use");
    if (!consumer.spec.within || consumer.misled || this.forsaken.has(consumer.spec.store)) return;
    if (key.byHand || this.#excused(key)) return;
    this.world.violate("P1", `${consumer.spec.instance} is refused with ${key.id} (${this.versionOf(key.id)})`);
  }

  /** P3, P8: right before a key comes into being. */
  issuing(label: VersionId, rotation: string | null): void {
    const { world } = this;
    const { fullSince, spec } = world.issuer;
    const rec = [...world.intents.values()].find((c) => c.intent.effect === "issue" && c.intent.version === label);
    if (rec !== undefined && fullSince !== null && rec.at - fullSince > spec.timing.listSettle + 60_000) {
      world.violate(
        "P8",
        `asked for a key although all ${spec.maxKeys} slots have been taken for ${rec.at - fullSince} ms`,
      );
    }
    if (rec !== undefined && this.wrongIdentity() && rec.at - world.scenario.identityWrong.from > 60_000)
      world.violate("P8", "asked the wrong account for a key");
    const other = world.issuer
      .alive()
      .find((k) => k.owner === "ours" && k.label !== null && k.rotation === rotation && !this.#doomed(k.label));
    if (other) world.violate("P3", `${label} is minted while ${other.label} (${other.id}) of the same rotation lives`);
  }

  /** Rules 3.1 and 3.2: one intent, one send, within its duration. */
  sent(process: Process, effect: string, object: string, version: VersionId | null): void {
    const { world } = this;
    const rec = world.intents.get(process.id);
    if (rec === undefined || rec.intent.effect !== effect || rec.intent.version !== version) {
      return this.#rule(
        "3.1",
        `${effect} ${object} (${version}) is sent by ${process.id} without an intent of its own`,
      );
    }
    if (this.#sent.has(rec.intent.id)) this.#rule("3.1", `${effect} ${object} is sent twice on one intent`);
    this.#sent.add(rec.intent.id);
    if (world.now - rec.at > rec.intent.duration)
      this.#rule("3.2", `${effect} ${object} is sent ${world.now - rec.at} ms after its commit`);
  }

  /** P2, P4, P11: a key has just been switched on, off, or taken away by us. */
  turned(
    effect: "disable" | "enable" | "delete",
    key: TruthKey,
    disabledAt: number | null,
    rec: Committed | undefined,
  ): void {
    const { world } = this;
    if (effect === "enable") {
      const version = this.versionOf(key.id);
      if (version !== null && rec !== undefined && rec.at > (this.leaked.get(version) ?? Infinity))
        world.violate("P11", `${version} has leaked and is enabled again`);
      return this.served();
    }
    if (key.owner === "stranger") this.#strangersKey(effect, key);
    else this.#revoked(effect, key, disabledAt);
    this.served();
  }

  #strangersKey(effect: "disable" | "delete", key: TruthKey): void {
    const { world } = this;
    const version = world.doc?.versions.find((v) => v.keyId === key.id);
    const grain = world.issuer.spec.timing.timeGranularity;
    const created = EPOCH + key.createdAt + world.issuer.spec.skew;
    const inferred = version?.origin === "inferred" && !world.issuer.spec.labels;
    if (!inferred) return world.violate("P2", `${key.id} is a stranger's, and gets a ${effect}`);
    const mint = version.mint;
    if (mint && (created <= mint.listedAt - grain || created > mint.listedAt + mint.within)) {
      return world.violate("P2", `${key.id} was made outside the window of the lost mint, and gets a ${effect}`);
    }
    if (effect === "delete" && key.uses.some((u) => u.ok && !u.own))
      world.violate("P2", `${key.id} is a stranger's, was used, and is deleted`);
    this.occurred.add("inferred-stranger");
  }

  #revoked(effect: "disable" | "delete", key: TruthKey, disabledAt: number | null): void {
    const { world } = this;
    const lastServed = Math.max(-Infinity, ...[...world.stores.values()].map((s) => this.#lastServed(s, key)));
    if (this.#excused(key) || lastServed === -Infinity) return;
    for (const store of world.stores.values()) {
      const served = store.held === null || this.forsaken.has(store.spec.id) ? null : world.issuer.of(store.held.value);
      if (served?.byHand && served !== key && !served.enabled && world.now - served.changedAt > 60_000)
        world.violate(
          "P4",
          `${effect} of ${key.id} while ${served.id}, which ${store.spec.id} serves, is switched off`,
        );
    }
    const blind = world.scenario.rules.usage === "none" ? 2 : 1;
    if (world.now < lastServed + this.shortestMinimum * blind) {
      world.violate(
        "P4",
        `${effect} of ${key.id} (${this.versionOf(key.id)}) ${world.now - lastServed} ms after a store served it last; the minimum overlap is ${this.shortestMinimum * blind} ms`,
      );
    }
    if (key.enabled || disabledAt === null || effect === "disable") {
      const user = world.consumers.find(
        (c) => c.spec.within && !c.misled && !this.forsaken.has(c.spec.store) && c.wouldUse(key),
      );
      if (user)
        world.violate(
          "P4",
          `${effect} of ${key.id} (${this.versionOf(key.id)}), which ${user.spec.instance} goes on using`,
        );
    }
    if (effect === "delete" && world.issuer.spec.canDisable) {
      if (disabledAt === null) world.violate("P5", `${key.id} is deleted without having been disabled`);
      else if (world.now - disabledAt < this.shortestSoak && world.doc?.incident == null)
        world.violate(
          "P5",
          `${key.id} is deleted ${world.now - disabledAt} ms after its disable; the soak is ${this.shortestSoak} ms`,
        );
    }
  }

  #lastServed(store: StoreTruth, key: TruthKey): number {
    if (this.forsaken.has(store.spec.id)) return -Infinity;
    return store.held?.value === key.value ? Infinity : (store.lastServable.get(key.value) ?? -Infinity);
  }

  /** P10, P11: a store has just got another value from us. */
  wrote(store: StoreTruth, value: SecretValue, replaced: SecretValue | null, rec: Committed | undefined): void {
    const { world } = this;
    const key = world.issuer.of(value);
    const version = key === null ? null : this.versionOf(key.id);
    if (
      version !== null &&
      rec !== undefined &&
      rec.at > (this.leaked.get(version) ?? Infinity) &&
      !this.#lastResort(value, store)
    ) {
      world.violate("P11", `${version} has leaked and is brought to ${store.spec.id}`);
    }
    if (replaced !== null && world.issuer.of(replaced) === null && rec !== undefined && !rec.doc.rotation?.repair) {
      const readable = store.spec.traits.proof === "value";
      if (readable && rec.at > store.damagedAt + 60_000)
        world.violate("P10", `a value that is none of ours was written over in ${store.spec.id}`);
    }
  }

  /** Rule 3.11: every slot is held by leaked versions, and the authority serves this one. */
  #lastResort(value: SecretValue, store: StoreTruth): boolean {
    const { issuer, stores } = this.world;
    const alive = issuer.alive();
    const full = alive.length >= issuer.spec.maxKeys;
    return full && store.spec.id !== "authority" && stores.get("authority")?.held?.value === value;
  }

  /** P3, P4, P5, P6, P7, P9: a document has just been saved. */
  committed(before: SecretState | null, next: SecretState, process: Process): void {
    const { world } = this;
    const said = this.words.get(process.id);
    if (before !== null && next.seq < before.seq) this.#rule("3.6", "the document went back in time");
    if (before !== null && next.incident !== null && next.incident.id !== before.incident?.id) {
      const named = said?.word === "emergency" ? said.versions : null;
      // Said again, it means the keys that it meant.
      const since = before.incident?.at ?? Infinity;
      const meant = living(before).filter(
        (v) => named?.includes(v.id) ?? (v.compromised || (v.since < since && v.origin !== "inferred")),
      );
      for (const v of meant) if (!this.leaked.has(v.id)) this.leaked.set(v.id, world.now);
      if (next.incident.acceptOutage) this.outageAccepted = true;
      this.wayBack = null;
    }
    for (const v of next.versions) {
      if (v.expedite) this.expedited.add(v.id);
      if (v.compromised && !this.leaked.has(v.id)) this.leaked.set(v.id, world.now);
    }
    if (said?.word === "ack" && next.acks !== before?.acks) this.#acknowledged(said.name, next);
    this.#rollbackAsked(before, next);
    if (next.intent !== null && next.intent.id !== before?.intent?.id) this.#intended(next, process);
    if (before !== null && before.rotation !== null && next.rotation?.id !== before.rotation.id) this.#ended(next);
    for (const event of next.outbox.events) if (!this.#events.has(event.seq)) this.#events.set(event.seq, event.hash);
    for (const id of world.stores.keys())
      if (next.rotation === null && !world.rules.deliveries.some((d) => d.id === id)) this.forsaken.add(id);
    if (next.seq % 64 === 20) this.clean("document", next);
    world.say(process.id, () => `commit ${next.seq}: ${describe(before, next)}`);
    world.happened("commit");
  }

  #intended(next: SecretState, process: Process): void {
    const { world } = this;
    const intent = next.intent as NonNullable<SecretState["intent"]>;
    world.intents.set(intent.runner, { intent, at: world.now, doc: next });
    const destroys = intent.effect === "disable" || intent.effect === "delete" || intent.effect === "discard";
    if (destroys && next.holds.some((h) => h.until === null) && !next.incident?.overrideHold) {
      world.violate("P4", `${intent.effect} of ${intent.version} is intended under a hold`);
    }
    const urgent =
      next.incident !== null || (next.rotation?.rollback ?? null) !== null || this.expedited.has(intent.version);
    if (intent.effect === "disable" || intent.effect === "delete") {
      this.revokedAt = world.now;
      this.overlooked = [...world.stores.keys()].filter((id) => !process.stores.includes(id));
    }
    if (
      next.paused !== null &&
      !urgent &&
      (intent.effect === "issue" || intent.effect === "disable" || intent.effect === "delete")
    ) {
      world.violate("P4", `${intent.effect} of ${intent.version} is intended while paused`);
    }
    if (intent.effect === "delete" && intent.version === this.wayBack)
      world.violate("P5", `delete of ${intent.version} is intended after a rollback to it was asked for`);
    world.happened(`intent:${intent.effect}`);
  }

  /** The word names no version: a person may have meant an earlier one. */
  #acknowledged(name: string, next: SecretState): void {
    const meant = this.vouched.get(name);
    const taken = next.acks.find((a) => a.name === name && a.version !== meant);
    const consumer = this.world.consumers.find((c) => c.spec.name === name);
    if (taken && consumer) consumer.misled = true;
  }

  #rollbackAsked(before: SecretState | null, next: SecretState): void {
    const rotation = next.rotation;
    if (rotation?.rollback && !before?.rotation?.rollback) {
      this.occurred.add("rollback");
      const from = next.versions.find((v) => v.id === rotation.from);
      if (from && !from.compromised && next.incident === null) this.wayBack = from.id;
    }
    if (this.wayBack !== null && next.versions.some((v) => v.id === this.wayBack && v.compromised)) this.wayBack = null;
    if (before?.rotation?.rollback && rotation?.id === before.rotation.id && !rotation.rollback) this.#gaveUp(next);
  }

  /** P5: there was no way back. */
  #gaveUp(next: SecretState): void {
    const { world } = this;
    const target = world.issuer.keys.get(next.versions.find((v) => v.id === this.wayBack)?.keyId ?? "");
    const lives = target !== undefined && target.deletedAt === null;
    const held = [...world.stores.values()].some(
      (s) => target !== undefined && (s.held?.value === target.value || [...s.staged.values()].includes(target.value)),
    );
    if (lives && held)
      world.violate("P5", `the rollback to ${this.wayBack} is given up, though key and value are there`);
    this.wayBack = null;
  }

  /** P5, P6: a rotation is over. */
  #ended(next: SecretState): void {
    const { world } = this;
    this.endedAt = world.now;
    // A person's word begins another before this one has come to its end.
    if (next.rotation !== null && (next.incident !== null || next.rotation.reason === "emergency")) return;
    const current = next.versions.find((v) => v.status === "current");
    const stray = world.issuer.alive().find((k) => k.owner === "ours" && k.enabled && k.id !== current?.keyId);
    if (stray) world.violate("P6", `the rotation is over and ${stray.id} (${this.versionOf(stray.id)}) lives`);
    const flight = [...world.inFlight][0];
    if (flight) world.violate("P6", `the rotation is over and ${flight.effect} ${flight.object} may still take effect`);
    if (this.wayBack === null) return;
    const target = world.issuer.keys.get(next.versions.find((v) => v.id === this.wayBack)?.keyId ?? "");
    // Dead by a delete that was sent before the word, or by hand: one intended after it breaks P5 at its intent.
    if (target === undefined || target.deletedAt !== null) {
      this.wayBack = null;
      return;
    }
    for (const store of world.stores.values()) {
      if (
        this.forsaken.has(store.spec.id) ||
        store.damagedAt > -Infinity ||
        store.held === null ||
        store.held.value === target.value
      )
        continue;
      world.violate(
        "P5",
        `rolled back to ${this.wayBack}, but ${store.spec.id} serves ${world.issuer.of(store.held.value)?.id ?? "a foreign value"}`,
      );
    }
    this.wayBack = null;
  }

  /** P9: no value stands in what others may read. */
  clean(where: string, data: unknown): void {
    if (JSON.stringify(data).includes(CANARY)) this.world.violate("P9", `a value stands in a ${where}`);
  }

  /** Rule 3.12: nothing is told before its commit. */
  audited(entries: readonly AuditEntry[]): void {
    for (const entry of entries) {
      if (this.#events.get(entry.seq) !== entry.hash)
        this.#rule("3.12", `audit entry ${entry.seq} (${entry.type}) was never committed`);
      const there = this.world.state.audit.get(entry.seq);
      if (there !== undefined && there.hash !== entry.hash) this.#rule("3.12", `audit entry ${entry.seq} is rewritten`);
    }
    if (entries.length > 0 && entries[0] && entries[0].seq % 8 === 0) this.clean("audit entry", entries);
  }

  threw(process: Process, error: unknown): void {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    this.world.say(process.id, () => `throws ${text}`);
    if (error instanceof ProviderError || error instanceof UserError) return;
    this.world.violate(
      "P7",
      `${process.id} threw ${error instanceof Error ? (error.stack ?? text).split("\n").slice(0, 6).join("\n    ") : text}`,
    );
  }

  /** Consent or leak: nobody is promised anything about this key. */
  #excused(key: TruthKey): boolean {
    const version = this.versionOf(key.id);
    return this.outageAccepted || (version !== null && (this.leaked.has(version) || this.expedited.has(version)));
  }

  #doomed(version: VersionId): boolean {
    return this.leaked.has(version) || this.expedited.has(version);
  }

  #rule(rule: string, text: string): void {
    if (this.world.off.size === 0) this.world.violate(rule, text);
  }
}

function describe(before: SecretState | null, next: SecretState): string {
  const parts: string[] = [];
  if (next.intent && next.intent.id !== before?.intent?.id)
    parts.push(`intent ${next.intent.effect} ${next.intent.version} ${next.intent.delivery ?? ""}`);
  if (!next.intent && before?.intent) parts.push(`closed ${before.intent.effect} ${before.intent.version}`);
  if (next.lease?.runner !== before?.lease?.runner)
    parts.push(next.lease ? `lease ${next.lease.runner}` : "lease released");
  for (const v of next.versions) {
    const old = before?.versions.find((o) => o.id === v.id);
    if (old?.status !== v.status) parts.push(`${v.id} ${old?.status ?? "new"}→${v.status}${v.compromised ? "!" : ""}`);
  }
  if (next.mayLand.length !== (before?.mayLand.length ?? 0))
    parts.push(`mayLand ${next.mayLand.map((m) => `${m.effect} ${m.version}`).join(", ") || "empty"}`);
  if (next.stopped?.reason !== before?.stopped?.reason) parts.push(`stopped ${next.stopped?.reason ?? "no more"}`);
  if (next.outbox.seq !== before?.outbox.seq)
    parts.push(
      `[${next.outbox.events
        .filter((e) => e.seq > (before?.outbox.seq ?? 0))
        .map((e) => e.type)
        .join(" ")}]`,
    );
  return parts.join(", ") || "-";
}
