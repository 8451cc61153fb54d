import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { AdminClient } from "../api-keys/index.ts";
import { localSource, type Served } from "../client/index.ts";
import { loadPolicy } from "../config/load.ts";
import type { SecretPolicy } from "../config/model.ts";
import { UserError } from "../core/errors.ts";
import type { EngineDeps, SecretPorts } from "../engine/deps.ts";
import { runSecret } from "../engine/run.ts";
import type { Progress, RunResult } from "../engine/result.ts";
import { say } from "../engine/say.ts";
import { openState, Wiring, type World } from "../wire.ts";
import { Children } from "./children.ts";
import { Clients, type ClientPlan } from "./clients.ts";
import type { ClientReport } from "./messages.ts";
import { ADMIN_TOKEN, policyText, SECRET, type Times } from "./policy.ts";
import { openReminderBox } from "./reminders.ts";

export interface StageOptions extends World {
  /** The built command line and the built client process. */
  readonly files: { readonly cli: string; readonly client: string };
  readonly clients: readonly ClientPlan[];
  readonly times: Times;
  readonly actor: string;
  readonly signal: AbortSignal;
  readonly onReport?: (client: string, report: ClientReport) => void;
  /** keyturn reminded these consumers. */
  readonly onReminder?: (who: readonly string[]) => void;
}

/**
 * A temporary folder with a policy, state and store, an authority and clients as processes of their own, and keyturn
 * in this one. All of it is gone when `act` has ended, in whatever way.
 *
 * @throws what `act` throws; UserError `demo-process-lost` when a process ended on its own, whatever `act` did then.
 */
export async function onStage<T>(options: StageOptions, act: (stage: Stage) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-demo-"));
  const env = { ...options.env, [ADMIN_TOKEN]: randomBytes(24).toString("hex") };
  const trouble = new AbortController();
  const children = new Children(env, (lost) => trouble.abort(lost), options.debug);
  const hangUp = () => trouble.abort(new UserError("interrupted", "the terminal has gone", { exit: 1 }));
  // A second Ctrl-C leaves no time for more than this.
  const atExit = () => {
    children.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("SIGHUP", hangUp);
  process.once("exit", atExit);
  const signal = AbortSignal.any([options.signal, trouble.signal]);
  const stage = new Stage({ ...options, env, signal }, folder, children);
  try {
    await stage.open();
    const result = await act(stage);
    signal.throwIfAborted();
    return result;
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    await stage.close();
    await children.stop();
    rmSync(folder, { recursive: true, force: true });
    process.off("exit", atExit);
    process.off("SIGHUP", hangUp);
  }
}

export class Stage {
  readonly clients: Clients;
  readonly #closers: (() => unknown)[] = [];
  #authority = "";
  #deps: EngineDeps | null = null;
  #ports: SecretPorts | null = null;

  constructor(
    private readonly options: StageOptions,
    private readonly folder: string,
    private readonly children: Children,
  ) {
    this.clients = new Clients(options.clients, children, options.onReport);
  }

  get signal(): AbortSignal {
    return this.options.signal;
  }

  async open(): Promise<void> {
    const { files, env, signal, clients, times, actor, onReminder = () => {} } = this.options;
    const reminders = await openReminderBox(onReminder);
    this.#closers.push(() => reminders.close());

    const db = join(this.folder, "authority.db");
    const serve = ["api-keys", "serve", "--db", db, "--listen", "127.0.0.1:0"];
    this.#authority = await addressOf(this.children.start("the authority", files.cli, serve), signal);
    const admin = new AdminClient({ url: this.#authority, adminToken: env[ADMIN_TOKEN] ?? "", signal });
    await admin.addClient(SECRET);

    const consumers = clients.map(({ name }) => name);
    const file = join(this.folder, "rotation.config.yaml");
    writeFileSync(file, policyText(this.#authority, reminders.url, consumers, times));
    const { policy } = await loadPolicy({ cwd: this.folder, file, env });
    const state = await openState(policy, null, this.options);
    this.#closers.push(() => state.close());
    const wiring = new Wiring(policy, this.options);
    this.#deps = wiring.engine(state, actor);
    this.#ports = await wiring.ports(policy.secrets.get(SECRET) as SecretPolicy);
  }

  /** `keyturn rotate --wait`. @throws when it is interrupted. */
  async rotate(onProgress: (progress: Progress) => void = () => {}): Promise<RunResult> {
    const deps = this.#deps as EngineDeps;
    const said = await say(deps, SECRET, { word: "rotate", repair: false });
    if (!said.ok) throw new UserError(said.reason, said.message, { exit: 3 });
    const options = { start: false, sit: "all", waitMax: null, lockTimeout: 0, signal: this.signal } as const;
    const result = await runSecret(deps, this.#ports as SecretPorts, { ...options, onProgress });
    this.signal.throwIfAborted();
    if (result.outcome !== "done") throw new UserError(result.reason, result.message, { exit: 1, hints: result.hints });
    return result;
  }

  startClients(): void {
    this.clients.start(this.options.files.client, { url: this.#authority, source: this.#source });
  }

  /** What consumers would get now. */
  served(): Promise<Served> {
    return localSource(this.#source)();
  }

  /** Presents a key to the authority as a consumer would. */
  async present(value: Served["value"]): Promise<{ readonly status: number; readonly error: string | null }> {
    const headers = { "x-api-key": value["apiKey"] ?? "", "x-keyturn-instance": "demo", connection: "close" };
    const answer = await fetch(`${this.#authority}/v1/whoami`, { headers, signal: this.signal });
    const { error = null } = (await answer.json()) as { readonly error?: string };
    return { status: answer.status, error };
  }

  async close(): Promise<void> {
    for (const close of this.#closers.toReversed()) await close();
  }

  get #source() {
    return { name: SECRET, path: join(this.folder, "store"), identity: join(this.folder, "identity") };
  }
}

/** The address in the one line that the authority prints when it is ready. */
async function addressOf(authority: ChildProcess, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted();
  const lines = createInterface({ input: authority.stdout as NodeJS.ReadableStream, signal });
  for await (const line of lines) {
    const url = /https?:\/\/\S+/.exec(line)?.[0];
    if (url !== undefined) return url;
  }
  signal.throwIfAborted();
  throw new UserError("demo-process-lost", "the authority ended before it was ready", { exit: 1 });
}
