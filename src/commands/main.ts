import { guarded } from "../ci/guard.ts";
import { publish } from "../ci/publish.ts";
import { runnerOf } from "../ci/runner.ts";
import type { Told, ToldFinding } from "../ci/told.ts";
import { UserError } from "../core/errors.ts";
import { document } from "../ui/document.ts";
import { errorMember, failureOf, failureText, type Failure } from "../ui/failure.ts";
import { plain } from "../ui/text.ts";
import { Terminal, type Stream, type TerminalOptions } from "../ui/terminal.ts";
import { exitCode, INTERRUPTED, type CommandOutcome } from "./exit.ts";
import { globalsOf, guessGlobals, type Globals } from "./globals.ts";
import { findVerb, HelpWanted, parse, type Words } from "./program.ts";
import { Session } from "./session.ts";
import type { VerbLine } from "./table.ts";
import type { Prepared, Report } from "./verb.ts";

/** What the process gives a command. */
export interface Process extends Pick<TerminalOptions, "stdin" | "stdout" | "stderr" | "env"> {
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly version: string;
  /** Aborts at the first SIGINT or SIGTERM, whose name is the reason. */
  readonly signal: AbortSignal;
  /** Rejects when something was thrown that nobody awaited. */
  readonly crashed: Promise<never>;
  /** Wall clock, ms. */
  readonly now: () => number;
}

/** From the command line to the exit code. Whatever happens, with `--json` one document is on stdout at the end. */
export async function main(process: Process): Promise<number> {
  let globals = guessGlobals(new Set(process.argv));
  let words: Words | null = null;
  let prepared: Prepared;
  try {
    words = findVerb(process.argv);
    globals = guessGlobals(words.flags);
    if (words.verb === null && (words.flags.has("--version") || words.flags.has("-V")))
      throw new HelpWanted(`${process.version}\n`);
    const { args, options } = await parse(words);
    globals = globalsOf(options);
    prepared = (await (words.verb as VerbLine).load()).prepare(args, options);
  } catch (error) {
    if (error instanceof HelpWanted) {
      process.stdout.write(error.message);
      return 0;
    }
    return await fail(error, words?.verb ?? null, globals, await terminalOf(process, globals), process);
  }
  return execute(words.verb as VerbLine, prepared, globals, process);
}

async function execute(verb: VerbLine, prepared: Prepared, globals: Globals, process: Process): Promise<number> {
  const terminal = await terminalOf(process, globals);
  const session = new Session(globals, terminal, process);
  try {
    const report = await Promise.race([prepared(session), process.crashed]);
    tell(report, verb.name, globals, terminal, process);
    await tellRunner(report, verb, terminal, process);
    if (process.signal.aborted && verb.untilStopped !== true) return interrupted(verb, terminal, process);
    return exitCode(verb.answers === true && !globals.detailed ? "done" : report.outcome, globals.detailed);
  } catch (error) {
    return await fail(error, verb, globals, terminal, process);
  } finally {
    await session.close();
  }
}

function tell(report: Report, command: string, globals: Globals, terminal: Terminal, { now }: Process): void {
  terminal.clear();
  if (report.instead !== undefined) terminal.out(report.instead);
  else if (globals.json) terminal.out(document({ ...report, command, at: now(), error: null }));
  else terminal.out(report.text(terminal));
  for (const { line, hints } of report.complaints ?? []) {
    const lines = [...(line === null ? [] : [`keyturn: ${line}`]), ...hints.map((hint) => `hint: ${hint}`)];
    terminal.announce(lines.map(plain).join("\n"));
  }
}

/** In CI, beside the answer: annotations, the job's summary, the step's outputs. */
async function tellRunner(report: Report, verb: VerbLine, terminal: Terminal, process: Process): Promise<void> {
  if (verb.answers === true || report.secrets.length === 0) return;
  const { run, check } = (report.member ?? {}) as { run?: { nextDue: string | null }; check?: readonly ToldFinding[] };
  const findings = check ?? [];
  const text = document({ ...report, command: verb.name, at: process.now(), error: null });
  const hints = new Map((report.complaints ?? []).map((one) => [one.secret, one.hints]));
  // What `check` looks at is told as what it found.
  const secrets =
    verb.name === "check" ? [] : report.secrets.map((one) => ({ ...one, hints: hints.get(one.name) ?? [] }));
  const { outcome } = report;
  await toRunner(
    { command: verb.name, outcome, secrets, findings, nextDue: run?.nextDue ?? null, failure: null, summary: true },
    text,
    terminal,
    process,
  );
}

async function toRunner(
  told: Omit<Told, "document" | "folder">,
  text: string,
  terminal: Terminal,
  { env, cwd }: Pick<Process, "env" | "cwd">,
): Promise<void> {
  const runner = await runnerOf(env);
  if (runner === null) return;
  const line = (said: string) => terminal.announce(said);
  const warn = (said: string) => terminal.say(`warning: ${plain(said)}`);
  publish(runner, { ...told, folder: cwd, document: JSON.stringify(JSON.parse(text)) }, env, line, warn);
}

function interrupted(verb: VerbLine, terminal: Terminal, { signal }: Process): number {
  const name = signal.reason as keyof typeof INTERRUPTED;
  if (verb.answers !== true) terminal.announce(failureText(failureOf(interruption(verb, name)), false));
  return INTERRUPTED[name];
}

function interruption(verb: VerbLine | null, signal: string): UserError {
  const leaves = verb?.leavesNothing ? "nothing is left of it" : "the state is consistent";
  const hints = verb?.leavesNothing ? [] : ["keyturn run goes on from here"];
  return new UserError("interrupted", `stopped by ${signal}: ${leaves}`, { hints });
}

async function fail(
  thrown: unknown,
  verb: VerbLine | null,
  globals: Globals,
  terminal: Terminal,
  process: Process,
): Promise<number> {
  terminal.clear();
  // Ctrl-C at a question is a key like any other, and no signal; what it stopped says so itself.
  const isSaid = thrown instanceof UserError && thrown.code === "interrupted";
  const signal = process.signal.aborted
    ? (process.signal.reason as keyof typeof INTERRUPTED)
    : isSaid
      ? "SIGINT"
      : null;
  const failure = failureOf(signal !== null && !isSaid ? interruption(verb, signal) : thrown);
  const error = errorMember(failure);
  const [command, outcome] = [verb?.name ?? null, outcomeOf(failure)];
  const text = document({ command, at: process.now(), outcome, secrets: [], error });
  if (globals.json) terminal.out(text);
  terminal.announce(failureText(failure, globals.verbose));
  const summary = verb?.answers !== true;
  const told = { command, outcome, secrets: [], findings: [], nextDue: null, failure: error, summary };
  await toRunner(told, text, terminal, process);
  return signal === null ? failure.exit : INTERRUPTED[signal];
}

function outcomeOf({ exit }: Failure): CommandOutcome {
  return exit === 3 ? "blocked" : exit === 4 ? "locked" : "failed";
}

async function terminalOf(process: Process, { quiet, verbose, noColour }: Globals): Promise<Terminal> {
  const { env, stdout, stderr } = process;
  const isRead = (await runnerOf(env)) !== null;
  const safe = (stream: Stream) => (isRead ? guarded(stream) : stream);
  return Terminal.open({ ...process, stdout: safe(stdout), stderr: safe(stderr), quiet, verbose, noColour });
}
