import type { Policy, SecretPolicy } from "../config/model.ts";

/** So many may work at a time. Who waits for time to pass works not, and lets another in meanwhile. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  get isFull(): boolean {
    return this.#free === 0;
  }

  async hold<T>(work: () => Promise<T>): Promise<T> {
    await this.#enter();
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  /** Within `hold`: so long another may work. */
  async aside(nap: () => Promise<void>): Promise<void> {
    this.#leave();
    try {
      await nap();
    } finally {
      await this.#enter();
    }
  }

  async #enter(): Promise<void> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}

/** Around a sleep within work that holds a slot. */
export type Aside = (nap: () => Promise<void>) => Promise<void>;

/** At most `overall` at a time, and of one issuer type no more than the policy says. */
export class Crew {
  readonly #overall: Slots;
  readonly #issuers: ReadonlyMap<string, Slots>;

  constructor({ overall, issuers }: Policy["maxConcurrent"]) {
    this.#overall = new Slots(overall);
    this.#issuers = new Map([...issuers].map(([type, count]) => [type, new Slots(count)]));
  }

  work<T>({ issuer }: SecretPolicy, work: (aside: Aside) => Promise<T>): Promise<T> {
    const overall = this.#overall;
    const narrow = this.#issuers.get(issuer.type);
    if (narrow === undefined) return overall.hold(() => work((nap) => overall.aside(nap)));
    const aside: Aside = (nap) => overall.aside(() => narrow.aside(nap));
    return narrow.hold(() => overall.hold(() => work(aside)));
  }

  /** The same, but null where others of its issuer's type have all the places of that type. */
  tryWork<T>(secret: SecretPolicy, work: (aside: Aside) => Promise<T>): Promise<T> | null {
    return this.#issuers.get(secret.issuer.type)?.isFull === true ? null : this.work(secret, work);
  }
}
