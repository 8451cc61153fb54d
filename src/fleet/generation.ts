import { createHash } from "node:crypto";
import type { Verdict } from "../commands/members.ts";
import { Crew } from "../commands/slots.ts";
import type { Session } from "../commands/session.ts";
import type { Policy, SecretPolicy } from "../config/model.ts";
import type { SecretState } from "../core/model.ts";
import type { SecretRules } from "../core/rules.ts";
import type { EngineDeps, SecretPorts } from "../engine/deps.ts";
import { told, type Call } from "../telemetry/calls.ts";
import { Crowd } from "./crowd.ts";

/** One policy as it was loaded, with everything that was opened by it; the next one takes over, and this one ends. */
export class Generation {
  readonly crew: Crew;
  /** Secrets at a time. */
  readonly concurrency: number;
  /** Of secrets whose adapters were made once: they do not change while the policy stays. */
  readonly rules = new Map<string, SecretRules>();
  /** What kept a secret's last turn here from beginning, and at which revision: its document does not tell. */
  readonly failures = new Map<string, Pick<Verdict, "outcome" | "reason"> & { readonly seq: number }>();
  readonly crowd = new Crowd();
  readonly #marks = new Map<string, string>();
  /** Secret and policy's mark of wakes that others set and this one has replaced. */
  readonly #overruled = new Set<string>();
  #users = 0;
  #isOver = false;

  private constructor(
    readonly session: Session,
    readonly policy: Policy,
    readonly engine: EngineDeps,
    private readonly called: (call: Call) => void,
    concurrency: number | null,
  ) {
    const { overall } = policy.maxConcurrent;
    this.concurrency = Math.min(concurrency ?? overall, overall);
    this.crew = new Crew({ ...policy.maxConcurrent, overall: this.concurrency });
  }

  /**
   * @param concurrency secrets at a time, where that is fewer than the policy says; null: as the policy says
   * @throws UserError for a policy that does not hold
   */
  static async open(session: Session, called: (call: Call) => void, concurrency: number | null): Promise<Generation> {
    return new Generation(session, await session.policy(), await session.engine(), called, concurrency);
  }

  async ports(secret: SecretPolicy): Promise<SecretPorts> {
    const ports = told(secret, await this.session.ports(secret), {
      heard: this.called,
      now: this.session.process.now,
      notifiers: this.policy.notifiers,
    });
    this.rules.set(secret.name, ports.rules);
    return ports;
  }

  /** What is known when something is decided about a secret: its document, the pause of everything, its policy. */
  stamp(name: string, state: SecretState | null, everything: SecretState | null): string {
    return `${state?.seq ?? 0}.${everything?.seq ?? 0}.${this.#mark(name)}`;
  }

  /**
   * Whether a wake differs from what is known here by nothing but the policy of whoever set it, and differed so before:
   * while workers of two policies are at work, they do not go on overruling each other.
   */
  hasOverruled(name: string, theirs: string | null, ours: string): boolean {
    const [[documents, mark], [known]] = [halves(theirs ?? ""), halves(ours)];
    if (documents !== known) return false;
    const what = `${name} ${mark}`;
    const before = this.#overruled.has(what);
    this.#overruled.add(what);
    return before;
  }

  /** Keeps it open for so long. */
  async use<T>(work: (generation: Generation) => Promise<T>): Promise<T> {
    this.#users += 1;
    try {
      return await work(this);
    } finally {
      this.#users -= 1;
      if (this.#isOver && this.#users === 0) await this.session.close();
    }
  }

  /** Closes once nobody uses it. */
  async end(): Promise<void> {
    this.#isOver = true;
    if (this.#users === 0) await this.session.close();
  }

  #mark(name: string): string {
    const known = this.#marks.get(name);
    if (known !== undefined) return known;
    // References are not resolved here, so no value goes into it.
    const text = JSON.stringify(this.policy.secrets.get(name) ?? null);
    const mark = createHash("sha256").update(text).digest("hex").slice(0, 12);
    this.#marks.set(name, mark);
    return mark;
  }
}

/** Of a stamp: which documents, which policy. */
function halves(stamp: string): [documents: string, mark: string] {
  const at = stamp.lastIndexOf(".");
  return [stamp.slice(0, Math.max(0, at)), stamp.slice(at + 1)];
}
