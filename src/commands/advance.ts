import type { SecretPolicy } from "../config/model.ts";
import { ProviderError, UserError } from "../core/errors.ts";
import { hintOf, REASONS, type ReasonCode } from "../core/reasons.ts";
import type { Word } from "../core/words.ts";
import type { SecretPorts } from "../engine/deps.ts";
import { runSecret } from "../engine/run.ts";
import type { RunOptions } from "../engine/result.ts";
import { say } from "../engine/say.ts";
import { failureOf } from "../ui/failure.ts";
import { worst } from "./exit.ts";
import { complaintsOf, overview, ranRow, refused, rowOf, withSaid, type Row } from "./members.ts";
import { ProgressLines } from "./progress.ts";
import { pauseOf } from "./pause.ts";
import { Crew, type Aside } from "./slots.ts";
import type { Session } from "./session.ts";
import { nextDue, subjectOf } from "./subject.ts";
import type { Report } from "./verb.ts";

export interface Advance extends Pick<RunOptions, "start" | "sit" | "waitMax"> {
  /** Said to each before it runs. */
  readonly word?: (secret: SecretPolicy) => Word;
  /** Secrets that have nothing to do. */
  readonly known?: ReadonlyMap<string, Row>;
}

/** Wires the chosen secrets, says the word to each, and runs each as far as `sit` allows. */
export async function advance(
  session: Session,
  secrets: readonly SecretPolicy[],
  { word, known, ...how }: Advance,
): Promise<Report> {
  const deps = await session.engine();
  const { signal, globals } = session;
  const progress = new ProgressLines(
    session.terminal,
    () => session.now(),
    secrets.flatMap(({ name }) => (known?.has(name) ? [] : [name])),
  );
  const options: RunOptions = {
    ...how,
    signal,
    lockTimeout: globals.lockTimeout,
    onProgress: (what) => progress.tell(what),
  };
  const work = async (secret: SecretPolicy, ports: SecretPorts, aside: Aside): Promise<Row> => {
    const said = word === undefined ? null : await say(deps, secret.name, word(secret));
    if (said?.ok === false) {
      const loaded = said.state === null ? null : { state: said.state, age: 0 };
      return refused(rowOf(await subjectOf(session, secret.name, loaded, ports.rules)), said.reason, said.message);
    }
    const result = await runSecret(deps, ports, {
      ...options,
      aside,
      pausedAll: () => pauseOf(deps.state, secret, deps.clock.wall()),
    }).finally(() => progress.end(secret.name));
    const wall = session.now();
    const subject = {
      name: secret.name,
      policy: secret,
      rules: ports.rules,
      nextDue: await nextDue(secret, result.state, wall),
    };
    return ranRow(subject, result, wall);
  };
  return eachWired(session, secrets, work, known);
}

/**
 * Works on secrets in parallel. Settings are resolved for all before anything is called; where that, or the state,
 * fails for some of several secrets, the others go on.
 */
export async function eachWired(
  session: Session,
  secrets: readonly SecretPolicy[],
  work: (secret: SecretPolicy, ports: SecretPorts, aside: Aside) => Promise<Row>,
  known: ReadonlyMap<string, Row> = new Map(),
): Promise<Report> {
  const open = secrets.filter(({ name }) => !known.has(name));
  const wired = await Promise.all(open.map((secret) => guarded(() => session.ports(secret))));
  if (wired.length > 0 && wired.length === secrets.length && wired.every(isFailed)) throw (wired[0] as Failed).failed;
  const places = open.map((secret, index) => ({ secret, ports: wired[index] as Guarded<SecretPorts> }));
  const crew = new Crew((await session.policy()).maxConcurrent);
  const found = await Promise.all(
    places.map(({ secret, ports }) =>
      crew.work(secret, async (aside) => {
        const row = isFailed(ports) ? ports : await guarded(() => work(secret, ports.value, aside));
        return isFailed(row) ? failedRow(session, secret, row.failed) : row.value;
      }),
    ),
  );
  const rows = new Map([...known, ...open.map(({ name }, index) => [name, found[index] as Row] as const)]);
  return reportOf(
    session,
    secrets.map(({ name }) => rows.get(name) as Row),
  );
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
