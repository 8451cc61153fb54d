import { setTimeout as sleep } from "node:timers/promises";
import { localSource, type KeySource } from "../../src/client/index.ts";
import type { TestAuthority } from "./authority.ts";
import { Place, policyText, type CommandLine, type Ended, type PolicyText, type Running } from "./command-line.ts";
import { startProxy, type Call, type Point, type Proxy } from "./proxy.ts";

/** Of what `status` tells of a secret. */
interface Told {
  readonly phase: string;
  readonly versions: readonly { readonly compromised: boolean }[];
  readonly current: { readonly keyId: string } | null;
}

/** One secret `one` of one policy with a client of its own at the authority, which holds a stranger's key as well. */
export class Lane {
  readonly place: Place;
  readonly stranger: string;
  /** Moments at which a store served, before and after, a key that was refused in between. */
  readonly outages: string[] = [];
  readonly #local: KeySource;
  #watching = true;
  readonly #watch: Promise<void>;

  private constructor(
    readonly client: string,
    readonly proxy: Proxy,
    stranger: string,
    private readonly authority: TestAuthority,
    private readonly commands: CommandLine,
    private readonly every: number,
  ) {
    this.place = new Place({ ADMIN: authority.adminToken });
    this.stranger = stranger;
    this.#local = localSource({
      name: "one",
      path: this.place.path(".keyturn/secrets"),
      identity: this.place.path(".keyturn/identity"),
    });
    this.write();
    this.#watch = this.#consume();
  }

  /** @param every ms between two uses of what each store serves */
  static async open(client: string, authority: TestAuthority, commands: CommandLine, every = 100): Promise<Lane> {
    await authority.addClient(client, { maxKeys: 5 });
    const stranger = await authority.addKey(client, { label: "somebody else's" });
    const proxy = await startProxy(() => authority.url);
    return new Lane(client, proxy, stranger.id, authority, commands, every);
  }

  write(text: PolicyText = {}): void {
    this.place.policy(policyText(this.proxy.url, [{ name: "one", client: this.client, maxKeys: 5 }], text));
  }

  start(...args: string[]): Running {
    return this.commands.start(this.place, args);
  }

  run(...args: string[]): Promise<Ended> {
    return this.commands.run(this.place, ...args);
  }

  json(...args: string[]): ReturnType<CommandLine["json"]> {
    return this.commands.json(this.place, ...args);
  }

  /** Holds the n-th call of a kind at a point; `reached` tells when it is there. */
  hold(kind: string, point: Point, nth = 1): { readonly reached: Promise<Call>; readonly release: () => void } {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let seen = 0;
    const reached = new Promise<Call>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no ${kind} came`)), 20_000);
      late.unref();
      this.proxy.at = (call, at) => {
        if (call.kind !== kind || at !== point || ++seen !== nth) return undefined;
        clearTimeout(late);
        resolve(call);
        return held;
      };
    });
    // Not everybody waits for it.
    reached.catch(() => undefined);
    return { reached, release };
  }

  /** What the local store serves, decrypted; null: nothing. */
  async local(): Promise<string | null> {
    return this.#local().then(
      ({ value }) => value["apiKey"] ?? null,
      () => null,
    );
  }

  /** Until `status` says so of the secret: a word given by another process has been committed. */
  async says(holds: (secret: Told) => boolean): Promise<void> {
    for (const began = Date.now(); Date.now() - began < 20_000; await sleep(50)) {
      const { document } = await this.json("status", "one");
      if (document.secrets[0] !== undefined && holds(document.secrets[0])) return;
    }
    throw new Error("the word was not committed in 20 s");
  }

  /** `run`, as a CI job would, until there is nothing left to do; says what stands in the way if that takes too long. */
  async settle(within = 30_000): Promise<string | null> {
    const began = Date.now();
    for (;;) {
      const { code, document } = await this.json("run", "one", "--quiet");
      const [secret] = document.secrets;
      if (code === 0 && secret?.outcome === "done") return null;
      if (Date.now() - began > within || code === 3)
        return `${code} ${secret?.outcome} ${secret?.reason}: ${secret?.message}`;
      await sleep(50);
    }
  }

  /**
   * What does not hold once everything is done; nothing: all is well.
   *
   * @param ended what a command with --json has just told; null: `status` is asked
   */
  async faults(ended: Ended | null = null): Promise<string[]> {
    const faults: string[] = [];
    const check = (holds: boolean, what: string): void => void (holds || faults.push(what));
    const keys = await this.authority.list(this.client);
    const ours = keys.filter(({ id }) => id !== this.stranger);
    check(keys.find(({ id }) => id === this.stranger)?.status === "enabled", "the stranger's key was touched");
    check(
      ours.length === 1 && ours[0]?.status === "enabled",
      `keys of ours: ${ours.map(({ id, status, label }) => `${id} ${status} ${label}`).join(", ")}`,
    );
    const [local, dotenv] = [await this.local(), this.place.dotenv("one")];
    check(local !== null && local === dotenv, "the stores serve different values, or none");
    const used = await this.authority.whoami(local ?? "", "app");
    check(used.status === 200 && used.body["keyId"] === ours[0]?.id, `the served key answers ${used.status}`);
    const { code, stdout } = ended ?? (await this.run("status", "one", "--json"));
    const [secret] = JSON.parse(stdout).secrets;
    check(code === 0 && secret?.phase === "idle", `status: ${code}, phase ${secret?.phase}`);
    check(secret?.debt.length === 0, "there is debt");
    check(secret?.current?.keyId === ours[0]?.id, "the state names another key as the current one");
    const bytes = this.place.stateBytes();
    check(![...this.proxy.issued].some((value) => bytes.includes(value)), "the state holds a value");
    return [...faults, ...this.outages.splice(0)];
  }

  async close(): Promise<void> {
    this.#watching = false;
    await this.#watch;
    await this.proxy.close();
    this.place.remove();
  }

  /** Promise 1 as a consumer sees it: reads each store and uses at once what it reads, all the time. */
  async #consume(): Promise<void> {
    const stores = { local: () => this.local(), dotenv: async () => this.place.dotenv("one") };
    while (this.#watching) {
      for (const [name, read] of Object.entries(stores)) {
        const value = await read();
        if (value === null) continue;
        const used = await this.authority.whoami(value, "app").catch(() => null);
        if (used !== null && used.status !== 200 && (await read()) === value)
          this.outages.push(
            `${name} served a key that the authority answered ${used.status} (${String(used.body["error"])})`,
          );
      }
      await sleep(this.every);
    }
  }
}
