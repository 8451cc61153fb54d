import type { SecretPolicy } from "../config/model.ts";
import { ProviderError, UserError } from "../core/errors.ts";
import type { EffectKind } from "../core/model.ts";
import { hintOf, REASONS, type ReasonCode } from "../core/reasons.ts";
import type { Word } from "../core/words.ts";
import type { SecretPorts } from "../engine/deps.ts";
import { runSecret } from "../engine/run.ts";
import type { Progress, RunOptions } from "../engine/result.ts";
import { say } from "../engine/say.ts";
import { failureOf } from "../ui/failure.ts";
import { relative } from "../ui/time.ts";
import { EVERYTHING } from "./choose.ts";
import { worst } from "./exit.ts";
import { complaintsOf, overview, ranRow, refused, rowOf, withSaid, type Row } from "./members.ts";
import { parallel } from "./timing.ts";
import type { Session } from "./session.ts";
import { nextDue, subjectOf } from "./subject.ts";
import type { Report } from "./verb.ts";

export interface Advance extends Pick<RunOptions, "start" | "sit" | "waitMax"> {
  /** Said to each before it runs. */
  readonly word?: (secret: SecretPolicy) => Word;
}

/** Wires the chosen secrets, says the word to each, and runs each as far as `sit` allows. */
export async function advance(
  session: Session,
  secrets: readonly SecretPolicy[],
  { word, ...how }: Advance,
): Promise<Report> {
  const deps = await session.engine();
  const { signal, globals } = session;
  const options: RunOptions = {
    ...how,
    signal,
    lockTimeout: globals.lockTimeout,
    pausedAll: async () => (await deps.state.load(EVERYTHING))?.state.paused ?? null,
    onProgress: progressOf({ terminal: session.terminal, now: () => session.now() }),
  };
  return eachWired(session, secrets, async (secret, ports) => {
    const said = word === undefined ? null : await say(deps, secret.name, word(secret));
    if (said?.ok === false) {
      const loaded = said.state === null ? null : { state: said.state, age: 0 };
      return refused(rowOf(await subjectOf(session, secret.name, loaded, ports.rules)), said.reason, said.message);
    }
    const result = await runSecret(deps, ports, options);
    const wall = session.now();
    const subject = {
      name: secret.name,
      policy: secret,
      rules: ports.rules,
      nextDue: await nextDue(secret, result.state, wall),
    };
    return ranRow(subject, result, wall);
  });
}

/**
 * Works on secrets in parallel. Settings are resolved for all before anything is called; where that, or the state,
 * fails for some of several secrets, the others go on.
 */
export async function eachWired(
  session: Session,
  secrets: readonly SecretPolicy[],
  work: (secret: SecretPolicy, ports: SecretPorts) => Promise<Row>,
): Promise<Report> {
  const wired = await parallel(secrets, (secret) => guarded(() => session.ports(secret)));
  if (wired.length > 0 && wired.every(isFailed)) throw (wired[0] as Failed).failed;
  const places = secrets.map((secret, index) => ({ secret, ports: wired[index] as Guarded<SecretPorts> }));
  const rows = await parallel(places, async ({ secret, ports }) => {
    const row = isFailed(ports) ? ports : await guarded(() => work(secret, ports.value));
    return isFailed(row) ? failedRow(session, secret, row.failed) : row.value;
  });
  return reportOf(session, rows);
}

export function reportOf(session: Session, rows: readonly Row[]): Report {
  const members = rows.map(({ member }) => member);
  return {
    outcome: worst(members.map(({ outcome }) => outcome)),
    secrets: members,
    complaints: complaintsOf(rows),
    text: (terminal) => overview(members, terminal, session.now()),
  };
}

interface Failed {
  readonly failed: UserError | ProviderError;
}
type Guarded<T> = { readonly value: T } | Failed;

function isFailed(attempt: Guarded<unknown>): attempt is Failed {
  return "failed" in attempt;
}

/** Failures in our own words stay with their secret; a bug does not. */
async function guarded<T>(work: () => Promise<T>): Promise<Guarded<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    if (error instanceof UserError || error instanceof ProviderError) return { failed: error };
    throw error;
  }
}

async function failedRow(session: Session, { name }: SecretPolicy, error: UserError | ProviderError): Promise<Row> {
  const { code, lines, hints, exit } = failureOf(error);
  const reason = Object.hasOwn(REASONS, code) ? (code as ReasonCode) : "provider-unavailable";
  const outcome = exit === 3 ? "blocked" : exit === 4 ? "locked" : "failed";
  const usual = hintOf(reason, name);
  const row = rowOf(await subjectOf(session, name, null));
  return withSaid(
    row,
    { outcome, reason, message: lines.join("; "), until: null },
    hints.length > 0 || usual === null ? hints : [usual],
  );
}

/** Shows what is being done and what is awaited: on a terminal at every look, elsewhere when it becomes another thing. */
function progressOf({ terminal, now }: Pick<Session, "terminal" | "now">): (progress: Progress) => void {
  const shown = new Map<string, string>();
  return ({ name, phase, reason, message, until, event }) => {
    if (event === undefined) {
      const what = `${phase} ${reason}`;
      if (!terminal.isLive && shown.get(name) === what) return;
      shown.set(name, what);
      const next = until === null || until < now() + 1000 ? "" : ` (${relative(until, now())})`;
      terminal.progress(`${name} ${phase}: ${message}${next}`);
      return;
    }
    // An effect is told of when it begins; its success shows in what comes next.
    const { effect, version, keyId } = event.data;
    const which = typeof keyId === "string" ? `: ${keyId}` : "";
    if (event.type === "intent") terminal.progress(`${name} ${phase}: ${effect} ${version}`);
    else if (!EFFECTS.has(event.type)) terminal.progress(`${name} ${phase}: ${NEWS[event.type] ?? event.type}${which}`);
  };
}

const EFFECTS: ReadonlySet<string> = new Set<EffectKind>([
  "issue",
  "stage",
  "promote",
  "put",
  "enable",
  "disable",
  "delete",
  "discard",
]);

/** Events as people read them while they happen; the audit log has the short names. */
const NEWS: Readonly<Record<string, string>> = {
  started: "the rotation begins",
  "overlap-started": "every store serves the new key",
  "key-found": "the key of a request without an answer is found",
  abandoned: "given up",
  destroyed: "a key is dead",
  straggler: "somebody is still on the old key",
  "overlap-maximum": "the overlap has reached its maximum",
  "rolling-back": "going back to the key from before",
  "rolled-back": "went back to the key from before",
  "hook-done": "a hook is done",
  refused: "a provider refused",
  failed: "a step failed",
};
