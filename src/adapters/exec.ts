import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { formatDuration, type Duration } from "../core/duration.ts";
import { ProviderError, type Applied } from "../core/errors.ts";
import type { SecretValue } from "../core/secret-value.ts";
import { path, type AdapterDeps } from "../ports/adapter.ts";
import type { Ctx, Finding } from "../ports/context.ts";
import { endGroup } from "./process-group.ts";
import { duration, ms } from "./settings.ts";

const PROTOCOL = 1;
/** Between SIGTERM and SIGKILL. */
const GRACE: Duration = 2000;
/** For what is still in the pipes once the program has exited: what it left behind may hold them open for ever. */
const DRAIN: Duration = 250;
const ANSWER_MAX = 1024 * 1024;
const LOG_MAX = 64 * 1024;
const MASK = "[secret]";

/** What every `exec` takes. */
export const execSettings = {
  command: z
    .array(path())
    .min(1)
    .describe("Program and arguments; no shell reads them, and the program runs in the policy's folder."),
  env: z
    .record(z.string().regex(/^[A-Za-z_]\w*$/), z.string())
    .default({})
    .describe("Variables that it gets besides keyturn's own. Default: none."),
  settings: z
    .record(z.string(), z.unknown())
    .default({})
    .describe("Handed to it as `settings` in every request, for whatever it needs to know. Default: none."),
  timeout: duration(1).default("30s").describe("For one call; then it and all it started are ended. Default: 30s."),
};

export interface ExecSettings {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly timeout: string;
}

export interface ExecCall {
  readonly ctx: Pick<Ctx, "signal" | "fence">;
  /** Whether it may change something: then it is fenced, and an answer that did not come is applied `maybe`. */
  readonly mutates: boolean;
  /** What goes along under names of its own; a `SecretValue` is revealed by the adapter that puts it there. */
  readonly request?: Readonly<Record<string, unknown>>;
  /** Values in the request, masked in what the program logs. */
  readonly values?: readonly (SecretValue | null)[];
}

const KINDS = [
  "denied",
  "not-found",
  "conflict",
  "throttled",
  "unavailable",
  "invalid",
  "quota",
  "unauthenticated",
] as const;
const envelope = z.discriminatedUnion("ok", [
  z.object({ ok: z.literal(true), result: z.unknown().optional() }),
  z.object({
    ok: z.literal(false),
    error: z.object({
      kind: z.enum(KINDS),
      applied: z.enum(["no", "maybe"]).default("maybe"),
      message: z.string().optional(),
      retryAfter: z.number().nonnegative().optional(),
    }),
  }),
]);

const CUT = {
  timeout: (after: Duration) => `did not end within ${formatDuration(after)}`,
  aborted: () => "was ended with the run",
  "too-much": () => "answered more than 1 MiB",
};

type End = { readonly how: "exit"; readonly code: number | null } | { readonly how: keyof typeof CUT };

/**
 * A program of the user's own: one process a call, one JSON document on its stdin
 * (`{ protocol: 1, op, secret, settings, … }`), one on its stdout (`{ ok: true, result }` or
 * `{ ok: false, error: { kind, applied, message } }`), its stderr for `--verbose`. Values are on stdin and stdout
 * only; the words of its refusals go to `--verbose` as well, with the values that passed masked.
 *
 * It has a process group of its own, which is ended whole when the time is up or the run is. A program does nothing
 * before it has read its stdin: the fence is asked in the tick in which the request is written.
 */
export class Program {
  constructor(
    private readonly options: ExecSettings,
    private readonly secret: string,
    private readonly deps: AdapterDeps,
  ) {}

  /**
   * @returns what the program answered as `result`, read by `schema`
   * @throws ProviderError; no call is made twice
   */
  async call<T extends z.ZodType>(op: string, schema: T, call: ExecCall): Promise<z.output<T>> {
    const { ctx, mutates } = call;
    const failed = (why: string, kind: (typeof KINDS)[number] = "unavailable", applied: Applied = "maybe") =>
      new ProviderError(kind, mutates ? applied : "no", `${this.#name} ${op}: ${why}`);
    if (ctx.signal.aborted) throw failed("interrupted", "unavailable", "no");
    const child = await this.#start(op);
    const ended = ending(child);
    const output = gather(child.stdout, ANSWER_MAX);
    const log = gather(child.stderr, LOG_MAX);
    const over = new AbortController();
    try {
      // It need not read its stdin to the end.
      child.stdin.on("error", () => {});
      const { settings } = this.options;
      const document = JSON.stringify({ protocol: PROTOCOL, op, secret: this.secret, settings, ...call.request });
      if (mutates) ctx.fence();
      child.stdin.end(document);
      const end = await Promise.race([ended, this.#cut(ctx.signal, output.full, over.signal)]);
      if (end.how !== "exit") throw failed(CUT[end.how](ms(this.options.timeout)));
      await Promise.race([Promise.all([output.done, log.done]), sleep(DRAIN, undefined, { signal: over.signal })]);
      if (end.code !== 0) throw failed(end.code === null ? "was ended by a signal" : `exited with ${end.code}`);
      const answer = envelope.safeParse(parsed(output.text()));
      if (!answer.success) throw failed("answered something else than the protocol says");
      if (answer.data.ok) {
        const result = schema.safeParse(answer.data.result);
        if (result.success) return result.data;
        throw failed(`answered a result of another shape: ${placesOf(result.error)}`);
      }
      const { kind, applied, message, retryAfter } = answer.data.error;
      this.#debug(op, message ?? "", call, output.text());
      const refusal = failed(`refused (${kind})`, kind, applied);
      const hint = message === undefined ? {} : { hint: "its own words are shown with --verbose" };
      throw new ProviderError(refusal.kind, refusal.applied, refusal.message, {
        ...(retryAfter !== undefined && { retryAfter }),
        ...hint,
      });
    } finally {
      over.abort();
      if (child.exitCode === null && child.signalCode === null) await endGroup(child, ended, GRACE);
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
      for (const line of log.text().split("\n")) this.#debug(op, line, call, output.text());
    }
  }

  /** A relative program is one of the policy's folder; its arguments stay out of every text. */
  get #name(): string {
    return `exec ${this.options.command[0] ?? ""}`;
  }

  async #start(op: string): Promise<ChildProcessWithoutNullStreams> {
    const [file = "", ...args] = this.options.command;
    const not = (code: unknown) => {
      const why = typeof code === "string" ? code : "for an unknown reason";
      const hint = `is ${file} there, and may it be executed?`;
      return new ProviderError("invalid", "no", `${this.#name} ${op}: could not be started (${why})`, { hint });
    };
    try {
      const env = { ...this.deps.env, ...this.options.env };
      const child = spawn(file, args, { cwd: this.deps.folder, env, detached: true, stdio: "pipe" });
      await once(child, "spawn");
      return child;
    } catch (error) {
      throw not((error as NodeJS.ErrnoException).code);
    }
  }

  async #cut(abort: AbortSignal, full: Promise<void>, over: AbortSignal): Promise<End> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve({ how: "timeout" }), ms(this.options.timeout));
      over.addEventListener("abort", () => clearTimeout(timer), { once: true });
      abort.addEventListener("abort", () => resolve({ how: "aborted" }), { once: true, signal: over });
      if (abort.aborted) resolve({ how: "aborted" });
      void full.then(() => resolve({ how: "too-much" }));
    });
  }

  #debug(op: string, line: string, { values = [] }: ExecCall, answer: string): void {
    if (line.trim() === "") return;
    const sent = values.flatMap((value) => Object.values(value?.reveal() ?? {}));
    const hidden = [...sent, ...stringsOf(parsed(answer), "value")].flatMap((text) => [text, ...text.split(/\r?\n/)]);
    const masked = hidden
      .filter((text) => text.trim() !== "")
      .toSorted((a, b) => b.length - a.length)
      .reduce((shown, text) => shown.replaceAll(text, MASK), line);
    this.deps.debug(`${this.#name} ${op}: ${masked}`);
  }
}

/** What a program says of itself: where the thing really lives, what is wrong, what it can do. */
export function descriptionOf<T extends z.ZodType>(traits: T) {
  return z.object({
    binding: z.string().min(1),
    findings: z
      .array(
        z.object({
          reason: z.enum([
            "identity-mismatch",
            "permission-missing",
            "foreign-pending",
            "name-conflict",
            "store-unsuitable",
            "credentials-missing",
          ]),
          blocks: z.boolean().default(true),
          message: z.string().min(1).max(300),
          hint: z.string().max(300).optional(),
        }),
      )
      .default([]),
    traits,
  });
}

/** The program knows what it can do, the policy had to say it beforehand: where they differ, the policy is mended. */
export function traitFindings(reason: Finding["reason"], said: object, real: object): Finding[] {
  const policy = said as Readonly<Record<string, unknown>>;
  return Object.entries(real).flatMap(([name, value]): Finding[] => {
    const [own, theirs] = [JSON.stringify(policy[name]), JSON.stringify(value)];
    if (own === theirs) return [];
    const message = `the program says ${name} ${theirs}, the policy ${own ?? "nothing"}`;
    return [{ reason, blocks: true, message, hint: `write \`traits: { ${name}: ${theirs} }\`` }];
  });
}

/** Without `undefined` members. */
export function findingsOf(told: readonly (Omit<Finding, "hint"> & { hint?: string | undefined })[]): Finding[] {
  return told.map(({ hint, ...finding }) => (hint === undefined ? finding : { ...finding, hint }));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Every text below a member of that name. */
function stringsOf(value: unknown, name: string, inside = false): string[] {
  if (typeof value === "string") return inside ? [value] : [];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => stringsOf(item, name, inside || key === name));
}

/** Where a result is wrong; never what stands there. */
function placesOf(error: z.ZodError): string {
  return [...new Set(error.issues.map((issue) => issue.path.join(".") || "the result itself"))].slice(0, 3).join(", ");
}

function ending(child: ChildProcess): Promise<End> {
  return new Promise((resolve) => child.once("exit", (code) => resolve({ how: "exit", code })));
}

interface Gathered {
  readonly text: () => string;
  /** There is no more of it. */
  readonly done: Promise<void>;
  /** There is more of it than is kept. */
  readonly full: Promise<void>;
}

function gather(stream: Readable, most: number): Gathered {
  const chunks: Buffer[] = [];
  let size = 0;
  let overflow = (): void => {};
  const full = new Promise<void>((resolve) => (overflow = resolve));
  stream.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size <= most) chunks.push(chunk);
    else overflow();
  });
  stream.on("error", () => {});
  const done = new Promise<void>((resolve) => stream.once("close", resolve));
  return { text: () => Buffer.concat(chunks).toString("utf8"), done, full };
}
