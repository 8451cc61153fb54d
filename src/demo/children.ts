import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Duration } from "../core/duration.ts";
import { UserError } from "../core/errors.ts";

const PATIENCE: Duration = 3_000;

/** The processes of one demo. One that ends unasked is told of; none outlives `stop` or `kill`. */
export class Children {
  readonly #running = new Set<ChildProcess>();
  readonly #endings = new WeakSet<ChildProcess>();

  constructor(
    private readonly env: Readonly<Record<string, string | undefined>>,
    /** One of them ended, though nobody told it to. */
    private readonly onLost: (error: UserError) => void,
    private readonly debug: (line: string) => void,
  ) {}

  /** Starts node on a file, with a pipe for its stdout and a channel for messages. */
  start(what: string, file: string, args: readonly string[]): ChildProcess {
    const child = spawn(process.execPath, [file, ...args], {
      env: this.env,
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      windowsHide: true,
    });
    this.#running.add(child);
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.debug(`${what}: ${text.trimEnd()}`));
    child.on("error", () => this.#lost(child, `${what} could not be started`));
    child.once("close", (code, signal) => this.#lost(child, `${what} ended unasked (${signal ?? `exit ${code}`})`));
    return child;
  }

  /** From now on its end is no surprise. */
  expectEnd(child: ChildProcess): void {
    this.#endings.add(child);
  }

  /** Asks all to end, and ends those that do not. */
  async stop(): Promise<void> {
    const ends = [...this.#running].map((child) => once(child, "close").catch(() => {}));
    this.#signal("SIGTERM");
    const late = setTimeout(() => this.kill(), PATIENCE);
    await Promise.all(ends);
    clearTimeout(late);
  }

  /** At once, for when this process has no time left. */
  kill(): void {
    this.#signal("SIGKILL");
  }

  #signal(name: "SIGTERM" | "SIGKILL"): void {
    for (const child of this.#running) {
      this.expectEnd(child);
      child.kill(name);
    }
  }

  #lost(child: ChildProcess, message: string): void {
    this.#running.delete(child);
    if (!this.#endings.has(child)) this.onLost(new UserError("demo-process-lost", message, { exit: 1 }));
  }
}
