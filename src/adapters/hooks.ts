import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from "node:child_process";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Duration } from "../core/duration.ts";
import { formatDuration } from "../core/duration.ts";
import type { HookPoint } from "../core/rules.ts";
import type { SecretValue } from "../core/secret-value.ts";
import { endGroup } from "./process-group.ts";

/** What to run: a text for `sh -c`, or an argument list that no shell sees. */
export type HookCommand = string | readonly [string, ...string[]];

export type HookSpec =
  | HookCommand
  | {
      readonly run: HookCommand;
      /** Puts the value into the JSON on stdin. Default: false. */
      readonly passValue?: boolean;
      /** Default: ten minutes. */
      readonly timeout?: Duration;
    };

/** What a hook is told. Never a value: that is `HookCall.value`. */
export interface HookContext {
  readonly reason: string;
  readonly version: string | null;
  readonly keyId: string | null;
  readonly [name: string]: unknown;
}

export interface HookCall {
  readonly point: HookPoint;
  /** Place in the policy's list, from 0. */
  readonly index: number;
  readonly rotationId: string;
  /** The same however often this hook is run for this rotation: hooks are at-least-once. */
  readonly hookId: string;
  readonly secret: string;
  readonly context: HookContext;
  /** Masked in what the hook prints; handed to it only if it asked by `passValue`. */
  readonly value?: SecretValue;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** One line that the hook printed, on either stream. */
  readonly log: (line: string) => void;
}

export type HookEnd =
  | { readonly how: "exit"; readonly code: number }
  | { readonly how: "signal"; readonly signal: string }
  | { readonly how: "timeout"; readonly after: Duration }
  | { readonly how: "aborted" }
  | { readonly how: "not-started"; readonly code: string };

/** A hook that did not succeed. What it printed went to `log` and is not part of the message. */
export class HookFailed extends Error {
  override readonly name = "HookFailed";
  constructor(
    readonly point: HookPoint,
    readonly index: number,
    readonly end: HookEnd,
  ) {
    super(`hook ${point}[${index}] ${describe(end)}`);
  }
}

const TIMEOUT: Duration = 600_000;
/** Between SIGTERM and SIGKILL. */
const GRACE: Duration = 5000;
/** For what is still in the pipes once the hook has exited: a process that it left behind may hold them for ever. */
const DRAIN: Duration = 250;
const LONGEST_TIMER = 2 ** 31 - 1;
const LONGEST_LINE = 16_384;
const MASK = "[secret]";

/**
 * Runs one hook to its end: context as JSON on stdin and in `KEYTURN_*`, in a process group of its own.
 *
 * When `signal` aborts or the time is up the whole group gets SIGTERM, and SIGKILL five seconds later; the promise
 * settles only then. A process that a hook leaves behind when it exits is left alone and no longer read.
 *
 * @throws HookFailed for anything but exit code 0.
 */
export async function runHook(spec: HookSpec, call: HookCall): Promise<void> {
  const { run, passValue = false, timeout = TIMEOUT } = isCommand(spec) ? { run: spec } : spec;
  const fail = (end: HookEnd) => new HookFailed(call.point, call.index, end);
  if (call.signal.aborted) throw fail({ how: "aborted" });

  const [file, ...args] = typeof run === "string" ? (["/bin/sh", "-c", run] as const) : run;
  const child = start(file, args, call);
  if (typeof child === "string") throw fail({ how: "not-started", code: child });
  const ended = ending(child);
  const drained = new Promise((resolve) => child.once("close", resolve));
  if (child.pid === undefined) throw fail(await ended);
  const mask = masking(call.value);
  const streams = [child.stdout, child.stderr];
  const readers = streams.map((stream) => readLines(stream, mask, call.log));
  // A hook need not read its stdin: a broken pipe is no failure.
  child.stdin.on("error", () => {});
  child.stdin.end(JSON.stringify(document(call, passValue)));

  const cut = new AbortController();
  const stopped = stopping(call.signal, timeout, cut.signal);
  try {
    const first = await Promise.race([ended, stopped]);
    if (first.how === "timeout" || first.how === "aborted") await endGroup(child, ended, GRACE);
    else await Promise.race([drained, sleep(DRAIN, undefined, { signal: cut.signal })]);
    if (first.how !== "exit" || first.code !== 0) throw fail(first);
  } finally {
    cut.abort();
    for (const stream of [...streams, child.stdin]) stream.destroy();
    for (const reader of readers) reader.finish();
  }
}

function isCommand(spec: HookSpec): spec is HookCommand {
  return typeof spec === "string" || Array.isArray(spec);
}

function describe(end: HookEnd): string {
  switch (end.how) {
    case "exit":
      return `exited with ${end.code}`;
    case "signal":
      return `was ended by ${end.signal}`;
    case "timeout":
      return `did not end within ${formatDuration(end.after)}`;
    case "aborted":
      return "was stopped with the run";
    case "not-started":
      return `could not be started (${end.code})`;
  }
}

/** The context's texts and numbers under `KEYTURN_` and their names in capitals, then our own names, which win. */
function environment({
  context,
  point,
  secret,
  rotationId,
  hookId,
  env,
}: HookCall): Record<string, string | undefined> {
  const told: Record<string, string | undefined> = {};
  for (const [name, value] of Object.entries(context)) {
    const plain = typeof value === "string" || typeof value === "number";
    told[`KEYTURN_${name.replace(/[A-Z]/g, "_$&").toUpperCase()}`] = plain ? String(value) : undefined;
  }
  return {
    ...env,
    ...told,
    KEYTURN_HOOK: point,
    KEYTURN_SECRET: secret,
    KEYTURN_ROTATION_ID: rotationId,
    KEYTURN_HOOK_ID: hookId,
  };
}

function document({ context, point, index, secret, rotationId, hookId, value }: HookCall, passValue: boolean): object {
  const told = { ...context, hook: point, index, secret, rotationId, hookId };
  return passValue ? { ...told, value: value?.reveal() ?? null } : told;
}

/** @returns the child, or the code of what was wrong with the command, environment or folder. */
function start(file: string, args: readonly string[], call: HookCall): ChildProcessWithoutNullStreams | string {
  try {
    return spawn(file, args, { cwd: call.cwd, env: environment(call), detached: true, stdio: "pipe" });
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unknown";
  }
}

function ending(child: ChildProcess): Promise<HookEnd> {
  return new Promise((resolve) => {
    child.once("error", (error: NodeJS.ErrnoException) =>
      resolve({ how: "not-started", code: error.code ?? "unknown" }),
    );
    child.once("exit", (code, signal) =>
      resolve(code === null ? { how: "signal", signal: signal ?? "unknown" } : { how: "exit", code }),
    );
  });
}

function stopping(abort: AbortSignal, timeout: Duration, cut: AbortSignal): Promise<HookEnd> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve({ how: "timeout", after: timeout }), Math.min(timeout, LONGEST_TIMER));
    cut.addEventListener("abort", () => clearTimeout(timer), { once: true });
    abort.addEventListener("abort", () => resolve({ how: "aborted" }), { once: true, signal: cut });
  });
}

/** Hands on whole lines; of one longer than 16 KiB the rest is dropped. `finish` hands on an unfinished last one. */
function readLines(stream: Readable, mask: Masking, log: (line: string) => void): { finish(): void } {
  const keep = LONGEST_LINE + mask.longest;
  let held = "";
  const flush = () => {
    const line = mask.apply(held);
    // The last characters of a line that was cut may be the beginning of a value.
    log(held.length < keep ? line : `${line.slice(0, -mask.longest - 1)}…`);
    held = "";
  };
  stream.setEncoding("utf8");
  stream.on("error", () => {});
  stream.on("data", (text: string) => {
    const [first = "", ...rest] = text.split("\n");
    held = (held + first).slice(0, keep);
    for (const part of rest) {
      flush();
      held = part.slice(0, keep);
    }
  });
  return { finish: () => (held === "" ? undefined : flush()) };
}

interface Masking {
  /** Length of the longest text that is masked. */
  readonly longest: number;
  apply(line: string): string;
}

/** Masks each field as it is, as JSON writes it, and line by line. */
function masking(value: SecretValue | undefined): Masking {
  const fields = Object.values(value?.reveal() ?? {});
  const forms = fields.flatMap((field) => [JSON.stringify(field).slice(1, -1), ...field.split(/\r?\n/)]);
  // Longest first, so that a field which holds another is masked as a whole.
  const hidden = forms.filter((form) => form.trim() !== "").toSorted((a, b) => b.length - a.length);
  if (hidden.length === 0) return { longest: 0, apply: (line) => line };
  const pattern = new RegExp(hidden.map((form) => form.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|"), "g");
  return { longest: hidden[0]?.length ?? 0, apply: (line) => line.replace(pattern, MASK) };
}
