import type { SecretPolicy } from "../config/model.ts";
import type { Duration } from "../core/duration.ts";
import { ProviderError, UserError } from "../core/errors.ts";
import type { Word } from "../core/words.ts";
import type { SecretPorts } from "../engine/deps.ts";
import { runSecret } from "../engine/run.ts";
import type { RunOptions } from "../engine/result.ts";
import { say } from "../engine/say.ts";
import { worst } from "./exit.ts";
import { complaintsOf, overview, ranRow, refused, rowOf, verdictOf, withSaid, type Row } from "./members.ts";
import { ProgressLines } from "./progress.ts";
import { pauseOf } from "./pause.ts";
import { Crew, type Aside } from "./slots.ts";
import type { Session } from "./session.ts";
import { nextDue, subjectOf } from "./subject.ts";
import type { Report } from "./verb.ts";

export interface Advance extends Pick<RunOptions, "start" | "sit" | "waitMax"> {
  /** Said to all of them before the first one runs: who kills the command has told them all the same. */
  readonly word?: (secret: SecretPolicy) => Word;
  /** The word is said even where a secret's adapters cannot be made here: others go on with it. */
  readonly regardless?: boolean;
  /** How long at least another run's lease is waited for; ms. */
  readonly patience?: Duration;
  /** Secrets that have nothing to do. */
  readonly known?: ReadonlyMap<string, Row>;
}

/** Wires the chosen secrets, says the word to each, and runs each as far as `sit` allows. */
export async function advance(
  session: Session,
  secrets: readonly SecretPolicy[],
  { word, known, patience = 0, regardless = false, ...how }: Advance,
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
    lockTimeout: Math.max(globals.lockTimeout, patience),
  };
  const tell = async (secret: SecretPolicy, ports: SecretPorts | null): Promise<Row | null> => {
    const said =
      word === undefined || (ports === null && !regardless) ? null : await say(deps, secret.name, word(secret));
    if (said === null || said.ok) return null;
    const loaded = said.state === null ? null : { state: said.state, age: 0 };
    const subject = await subjectOf(session, secret.name, loaded, ports?.rules ?? null);
    return refused(rowOf(subject), said.reason, said.message);
  };
  const work = async (secret: SecretPolicy, ports: SecretPorts, aside: Aside): Promise<Row> => {
    const traces = await session.traces();
    const result = await runSecret(deps, ports, {
      ...options,
      aside,
      onProgress: (what) => {
        traces?.happened(what);
        progress.tell(what);
      },
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
  return eachWired(session, secrets, work, { known, first: tell });
}

interface Around {
  /** Of secrets that have nothing to do. */
  readonly known?: ReadonlyMap<string, Row> | undefined;
  /** Done for all before any work begins; a row ends that secret's part. null: its adapters cannot be made. */
  readonly first?: (secret: SecretPolicy, ports: SecretPorts | null) => Promise<Row | null>;
}

/**
 * Works on secrets in parallel. Settings are resolved for all before anything is called; where that, or the state,
 * fails for some of several secrets, the others go on.
 */
export async function eachWired(
  session: Session,
  secrets: readonly SecretPolicy[],
  work: (secret: SecretPolicy, ports: SecretPorts, aside: Aside) => Promise<Row>,
  { known = new Map(), first = async () => null }: Around = {},
): Promise<Report> {
  const open = secrets.filter(({ name }) => !known.has(name));
  const wired = await Promise.all(open.map((secret) => guarded(() => session.ports(secret))));
  const places = open.map((secret, index) => ({ secret, ports: wired[index] as Guarded<SecretPorts> }));
  const crew = new Crew((await session.policy()).maxConcurrent);
  const ready = await Promise.all(
    places.map(({ secret, ports }) =>
      crew.work(secret, () => guarded(() => first(secret, isFailed(ports) ? null : ports.value))),
    ),
  );
  if (wired.length > 0 && wired.length === secrets.length && wired.every(isFailed)) throw (wired[0] as Failed).failed;
  const found = await Promise.all(
    places.map(({ secret, ports }, index) =>
      crew.work(secret, async (aside) => {
        const before = ready[index] as Guarded<Row | null>;
        if (isFailed(before)) return failedRow(session, secret.name, before.failed);
        if (before.value !== null) return before.value;
        if (isFailed(ports)) return failedRow(session, secret.name, ports.failed);
        const row = await guarded(() => work(secret, ports.value, aside));
        return isFailed(row) ? failedRow(session, secret.name, row.failed) : row.value;
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

/** A secret of which nothing is known but what went wrong. */
export async function failedRow(session: Session, name: string, error: UserError | ProviderError): Promise<Row> {
  const { hints, ...said } = verdictOf(error, name);
  return withSaid(rowOf(await subjectOf(session, name, null)), { ...said, until: null }, hints);
}
