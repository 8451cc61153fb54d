import { relative, resolve } from "node:path";
import { additionText, extendPolicy } from "../config/extend.ts";
import type { Policy } from "../config/model.ts";
import { readPolicy, type Source } from "../config/source.ts";
import { UserError } from "../core/errors.ts";
import { failureOf } from "../ui/failure.ts";
import { hanging, plain } from "../ui/text.ts";
import { catalogue, type Catalogue } from "../wire.ts";
import { doctor } from "./doctor.ts";
import { everyProblem, interview, nameProblem, type Answered, type Interview } from "./init-ask.ts";
import { lookRound, namesAt } from "./init-look.ts";
import { additionOf, deliveryWish, issuerWish, type KnownStore, type Wish } from "./init-wish.ts";
import { writePolicy } from "./init-write.ts";
import { text as option, usageError } from "./options.ts";
import type { Session } from "./session.ts";
import { verb, type Complaint, type Options, type Report } from "./verb.ts";

const NEW = "rotation.config.yaml";
const EXAMPLE =
  "keyturn init --yes --name payments --issuer aws-iam,user=payments-app --store aws-secrets-manager,region=eu-west-1,name=prod/payments,fields.AWS_ACCESS_KEY_ID=accessKeyId,fields.AWS_SECRET_ACCESS_KEY=secretAccessKey";

/** What the flags say, not yet understood. */
interface Flags {
  readonly name: string | null;
  readonly issuer: string | null;
  readonly stores: readonly string[];
  readonly every: string | null;
}

export const init = verb({
  parse: (_, options: Options): Flags => {
    const every = option(options, "--every");
    if (every !== null && every !== "never" && everyProblem(every) !== null)
      throw usageError(`--every: ${JSON.stringify(every)} ${everyProblem(every)}`, "or never: by hand only");
    const stores = options["store"];
    return {
      name: option(options, "--name"),
      issuer: option(options, "--issuer"),
      // As they were written: commas are theirs.
      stores: Array.isArray(stores) ? (stores as readonly string[]) : [],
      every,
    };
  },
  run: async (flags, session) => {
    const asks = !session.globals.yes;
    if (asks && !session.terminal.interactive) {
      throw new UserError("needs-answer", "init asks questions, and nobody can be asked here", {
        exit: 2,
        hints: ["--yes with --name, --issuer and --store answers them, and --every if it is not to be 90d", EXAMPLE],
      });
    }
    const all = await catalogue();
    const there = await existing(session);
    const known = { stores: storesOf(there?.policy), secrets: new Set(there?.policy.secrets.keys()) };
    const said = understood(flags, all, known, asks);
    const wish = asks ? await asked(session, all, known, said) : (said as Wish);

    const addition = additionOf(wish, all, known.stores);
    const file = there?.source.file ?? fileOf(session);
    const shown = relative(session.process.cwd, file) || file;
    session.terminal.say(plainLines(`\n${additionText(addition)}`));
    const text = extendPolicy(there?.source ?? null, addition);
    await check(session, file, text);
    if (asks) await agreed(session, there === null ? `Write this to ${shown}?` : `Add this to ${shown}?`);
    writePolicy(file, there?.source.text ?? null, text);
    return finish(session, wish.name, shown, there === null);
  },
});

interface Known {
  readonly stores: ReadonlyMap<string, KnownStore>;
  readonly secrets: ReadonlySet<string>;
}

/** The policy that is there, which has to be sound; null: there is none. */
async function existing({ process: { cwd, env }, globals }: Session) {
  const { config } = globals;
  let source: Source;
  try {
    source = readPolicy(cwd, config ?? undefined);
  } catch (error) {
    if (error instanceof UserError && error.code === "policy-not-found" && !config?.endsWith(".json")) return null;
    throw error;
  }
  const { loadPolicy } = await import("../config/load.ts");
  const { policy } = await loadPolicy({ cwd, env, file: source.file });
  return { source, policy };
}

function storesOf(policy: Policy | undefined): Map<string, KnownStore> {
  return new Map([...(policy?.stores ?? [])].map(([name, { type, settings }]) => [name, { type, settings }]));
}

/** The flags by themselves; what they leave open is an error where nobody is asked. */
function understood(flags: Flags, all: Catalogue, known: Known, asks: boolean): Answered {
  const missing = [
    ...(flags.name === null ? ["--name"] : []),
    ...(flags.issuer === null ? ["--issuer"] : []),
    ...(flags.stores.length === 0 ? ["--store"] : []),
  ];
  if (!asks && missing.length > 0) throw usageError(`init --yes needs ${missing.join(", ")}`, `for example ${EXAMPLE}`);
  const problem = flags.name === null ? null : nameProblem(flags.name, known);
  if (problem !== null) throw usageError(`--name: ${problem}`);
  const every = flags.every === "never" ? null : (flags.every ?? (asks ? undefined : "90d"));
  return {
    name: flags.name ?? undefined,
    issuer: flags.issuer === null ? undefined : issuerWish(flags.issuer, all),
    deliveries: flags.stores.length === 0 ? undefined : flags.stores.map((one) => deliveryWish(one, all, known.stores)),
    every,
  };
}

async function asked(session: Session, all: Catalogue, known: Known, said: Answered): Promise<Wish> {
  const { terminal, signal } = session;
  const { env, now, cwd } = session.process;
  const { askerOf } = await import("../ui/ask.ts");
  terminal.live(["looking at what is here …"]);
  const quietly = () => {};
  const world = { env, now, debug: (line: string) => terminal.debug(line), announce: quietly, say: quietly };
  const looks = await lookRound(all, cwd, world, signal);
  terminal.clear();
  const told = new Map<string, string[]>();
  for (const look of looks) told.set(look.told, [...(told.get(look.told) ?? []), look.type]);
  for (const [text, types] of told) terminal.say(hanging(`${types.join(", ")}: `, plain(text), terminal.proseWidth, 2));
  terminal.say("");
  const ask = await askerOf(terminal, signal);
  const names: Interview["namesAt"] = (adapter, target) => namesAt(adapter, target, cwd, world, signal);
  return interview({ ask, all, looks, namesAt: names, ...known }, said);
}

async function agreed({ terminal, signal }: Session, question: string): Promise<void> {
  const { askerOf } = await import("../ui/ask.ts");
  if (await (await askerOf(terminal, signal)).confirm(question)) return;
  throw new UserError("declined", "nothing was written: the answer was no", { exit: 1 });
}

function fileOf({ process: { cwd }, globals }: Session): string {
  return resolve(cwd, globals.config ?? NEW);
}

/** By the loader that will read it. */
async function check({ process: { cwd, env } }: Session, file: string, text: string): Promise<void> {
  const { loadPolicy } = await import("../config/load.ts");
  await loadPolicy({ cwd, env, file, text });
}

async function finish(session: Session, name: string, shown: string, isNew: boolean): Promise<Report> {
  const done = `${shown}: ${isNew ? "written" : `has the secret ${name} now`}`;
  const examined = await examine(session, name, done);
  const next = `keyturn ${examined.next} ${name}`;
  return {
    outcome: "done",
    secrets: [],
    member: { init: { file: shown, created: isNew, secret: name, next }, ...examined.member },
    text: (terminal) => [done, "", ...examined.text(terminal), `next: ${next}`].join("\n"),
    complaints: examined.complaints,
  };
}

/** The doctor's word on the new secret. Whatever it is, the policy is written. */
async function examine(session: Session, name: string, done: string) {
  const none = { member: { doctor: [] as unknown }, text: (): string[] => [] };
  try {
    const report = await doctor.prepare([name], {})(session);
    if (session.signal.aborted) throw new UserError("interrupted", "stopped");
    const reason = report.secrets[0]?.reason;
    const next = reason === "unmanaged" ? "adopt" : report.outcome === "done" ? "plan" : "doctor";
    const text: Told = (terminal) => [report.text(terminal), ""];
    return { member: report.member ?? none.member, text, complaints: [], next };
  } catch (error) {
    if (session.signal.aborted) {
      const message = `stopped by ${String(session.signal.reason)}: ${done}`;
      throw new UserError("interrupted", message, { hints: [`keyturn doctor ${name} checks it`] });
    }
    const { lines, hints } = failureOf(error);
    const complaints: Complaint[] = lines.map((line, at) => ({ line, hints: at === lines.length - 1 ? hints : [] }));
    return { ...none, complaints, next: "doctor" };
  }
}

type Told = (...of: Parameters<Report["text"]>) => string[];

function plainLines(text: string): string {
  return text.split("\n").map(plain).join("\n");
}
