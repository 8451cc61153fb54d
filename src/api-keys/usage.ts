import type { Db } from "./database.ts";

/** Why a use was refused; `unknown` is the use of a deleted key. */
export type Refused = "disabled" | "expired" | "unknown";

/** What one instance did with one key, for one outcome. Instants and durations in ms. */
export interface UsageEvent {
  /** As the caller named itself; "" for callers that did not. */
  readonly instance: string;
  readonly outcome: "ok" | "denied";
  readonly reason: Refused | null;
  readonly first: number;
  readonly last: number;
  readonly count: number;
  /** The longest silence between two of these uses; null before the second. */
  readonly longestGap: number | null;
  /** The key version that the caller reported last; "" for none. */
  readonly version: string;
}

interface Register {
  readonly key: string;
  readonly instance: string;
  readonly outcome: "ok" | "denied";
  readonly reason: string;
  readonly first: number;
  last: number;
  count: number;
  longestGap: number;
  version: string;
}

/** Callers choose their names, so a key keeps at most so many registers; the callers beyond share one. */
const REGISTERS_PER_KEY = 500;
const OVERFLOW = "overflow";
const FLUSH_EVERY = 200;

/**
 * Counts uses per (key, instance, outcome) in memory and writes them to the database every 200 ms, at `close`
 * and before any answer, so that an authentication waits for no disk.
 *
 * A crash may lose the uses of the last 200 ms. The next start sees that the one before did not end well and
 * moves `watchedFrom` to its own time: silence is then only claimed for what was certainly recorded.
 */
export class UsageBook {
  /** From this instant on, every use is in the book. */
  readonly watchedFrom: number;
  readonly #byKey = new Map<string, Map<string, Register>>();
  readonly #unsaved = new Set<Register>();
  readonly #timer: NodeJS.Timeout;

  constructor(
    private readonly db: Db,
    private readonly now: () => number,
  ) {
    this.watchedFrom = this.#openBook();
    const rows = db.prepare(
      "SELECT key, instance, outcome, reason, first, last, count, longest_gap longestGap, version FROM usage",
    );
    for (const row of rows.all() as Register[]) this.#registersOf(row.key).set(addressOf(row), row);
    this.#timer = setInterval(() => this.#flushQuietly(), FLUSH_EVERY).unref();
  }

  note(key: string, instance: string, version: string, refused: Refused | null): void {
    const now = this.now();
    const register = this.#register(key, instance, refused, now);
    register.longestGap = Math.max(register.longestGap, now - register.last);
    register.last = Math.max(register.last, now);
    register.count++;
    if (version !== "") register.version = version;
    this.#unsaved.add(register);
  }

  /**
   * What was seen of a key at or after `since`. `crowded`: more callers than are kept apart used it in that time,
   * so an instance that is not named here may have.
   */
  of(key: string, since: number): { crowded: boolean; events: UsageEvent[] } {
    const recent = [...(this.#byKey.get(key)?.values() ?? [])].filter((register) => register.last >= since);
    return { crowded: recent.some((register) => register.reason === OVERFLOW), events: recent.map(toEvent) };
  }

  /** Everything noted so far is on disk when it returns. */
  flush(): void {
    if (this.#unsaved.size === 0) return;
    const save = this.db.prepare(
      `INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
       last = excluded.last, count = excluded.count, longest_gap = excluded.longest_gap, version = excluded.version`,
    );
    this.db
      .transaction(() => {
        for (const r of this.#unsaved) {
          save.run(r.key, r.instance, r.outcome, r.reason, r.first, r.last, r.count, r.longestGap, r.version);
        }
      })
      .immediate();
    this.#unsaved.clear();
  }

  close(): void {
    clearInterval(this.#timer);
    this.flush();
    this.#meta("open", "no");
  }

  /** A full disk must not stop authentication: what could not be saved stays unsaved until it can be. */
  #flushQuietly(): void {
    try {
      this.flush();
    } catch {
      return;
    }
  }

  #openBook(): number {
    const meta = new Map(
      (this.db.prepare("SELECT name, value FROM meta").all() as { name: string; value: string }[]).map((row) => [
        row.name,
        row.value,
      ]),
    );
    const known = meta.get("watched-from");
    const watchedFrom = known !== undefined && meta.get("open") === "no" ? Number(known) : this.now();
    this.#meta("watched-from", String(watchedFrom));
    this.#meta("open", "yes");
    return watchedFrom;
  }

  #meta(name: string, value: string): void {
    this.db.prepare("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value").run(name, value);
  }

  #registersOf(key: string): Map<string, Register> {
    let registers = this.#byKey.get(key);
    if (!registers) this.#byKey.set(key, (registers = new Map()));
    return registers;
  }

  #register(key: string, instance: string, refused: Refused | null, now: number): Register {
    const registers = this.#registersOf(key);
    const named = { key, instance, outcome: refused === null ? "ok" : "denied", reason: refused ?? "" } as const;
    const known = registers.get(addressOf(named));
    if (known) return known;
    const full = registers.size >= REGISTERS_PER_KEY;
    const place = full ? ({ ...named, instance: "", reason: OVERFLOW } as const) : named;
    const shared = registers.get(addressOf(place));
    if (shared) return shared;
    const made: Register = { ...place, first: now, last: now, count: 0, longestGap: 0, version: "" };
    registers.set(addressOf(place), made);
    return made;
  }
}

function addressOf(register: Pick<Register, "instance" | "outcome" | "reason">): string {
  return `${register.outcome}/${register.reason}/${register.instance}`;
}

function toEvent({ instance, outcome, reason, first, last, count, longestGap, version }: Register): UsageEvent {
  const known = reason === "" || reason === OVERFLOW ? null : (reason as Refused);
  return { instance, outcome, reason: known, first, last, count, longestGap: count > 1 ? longestGap : null, version };
}
