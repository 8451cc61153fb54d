import { UserError } from "../core/errors.ts";
import type { Word } from "../core/words.ts";
import { say } from "../engine/say.ts";
import { reportOf } from "./advance.ts";
import { chooseNames, EVERYTHING, selectionOf } from "./choose.ts";
import { refused, rowOf, type Row } from "./members.ts";
import { moment, required } from "./options.ts";
import { pauseFor, parallel } from "./timing.ts";
import type { Session } from "./session.ts";
import { subjectOf } from "./subject.ts";
import { verb, type Options, type Report } from "./verb.ts";

/** Commits a word to each document. No provider is called and no run is waited for. */
export async function sayTo(session: Session, names: readonly string[], word: Word): Promise<Report> {
  const deps = await session.engine();
  const rows = await parallel(names, async (name): Promise<Row> => {
    const said = await say(deps, name, word);
    const row = rowOf(await subjectOf(session, name, said.state === null ? null : { state: said.state, age: 0 }));
    if (!said.ok) return refused(row, said.reason, said.message);
    if (said.note !== undefined) session.terminal.say(`${name}: ${said.note}`);
    return { member: { ...row.member, outcome: "done" }, hints: [] };
  });
  return {
    ...reportOf(session, rows),
    text: () =>
      rows
        .filter(({ member }) => member.outcome === "done")
        .map(({ member }) => `${member.name}: ${DONE[word.word]}`)
        .join("\n"),
  };
}

const DONE: Record<Word["word"], string> = {
  rotate: "will rotate",
  hold: "held: no key is disabled or deleted",
  unhold: "no longer held",
  ack: "acknowledged",
  rollback: "rolls back",
  revoke: "will be revoked",
  emergency: "in emergency",
  pause: "paused: nothing starts, nothing is destroyed",
  resume: "goes on",
  unlock: "unlocked",
  release: "released",
};

/** A word without anything but whom it is for. */
function simple(word: Extract<Word, { word: "unhold" | "unlock" }>) {
  return verb({
    parse: (args: readonly string[], options: Options) => selectionOf(args, options),
    run: async (selection, session) => sayTo(session, await chooseNames(session, selection), word),
  });
}

export const unhold = simple({ word: "unhold" });
export const unlock = simple({ word: "unlock" });

export const hold = verb({
  parse: (args, options) => ({
    selection: selectionOf(args, options),
    reason: required(options, "--reason"),
    until: moment(options, "--until"),
  }),
  run: async ({ selection, reason, until }, session) => {
    const end = until?.(session.now()) ?? null;
    if (end !== null && end <= session.now()) throw new UserError("usage", "--until lies in the past", { exit: 2 });
    const report = await sayTo(session, await chooseNames(session, selection), { word: "hold", reason, until: end });
    const late = report.secrets.filter((member) => member.reason === "too-late");
    await Promise.all(late.map(({ name }) => outcomeOf(session, name)));
    return report;
  },
});

/** Long enough for any effect to end or to be given up. */
const PATIENCE = 30_000;

/** Waits until the effect that a hold came too late for is no longer open, so that a rollback can follow at once. */
async function outcomeOf(session: Session, name: string): Promise<void> {
  const state = await session.state();
  session.terminal.say(`${name}: waiting for the outcome`);
  for (let waited = 0; waited < PATIENCE && !session.signal.aborted; waited += 250) {
    if ((await state.load(name))?.state.intent == null) return;
    await pauseFor(250, session.signal);
  }
}

/** Without names the pause is of everything. */
async function pausable(session: Session, selection: ReturnType<typeof selectionOf>): Promise<string[]> {
  const { names = [], tag, store, issuer } = selection;
  return names.length === 0 && tag === undefined && store === undefined && issuer === undefined
    ? [EVERYTHING]
    : chooseNames(session, selection);
}

async function pauseOrResume(session: Session, selection: ReturnType<typeof selectionOf>, word: Word): Promise<Report> {
  const names = await pausable(session, selection);
  const report = await sayTo(session, names, word);
  if (names[0] !== EVERYTHING) return report;
  // It is no secret: the document lists none.
  return {
    ...report,
    secrets: [],
    text: () => (word.word === "pause" ? "everything is paused: nothing starts, nothing is destroyed" : "goes on"),
  };
}

export const pause = verb({
  parse: (args, options) => ({ selection: selectionOf(args, options), reason: required(options, "--reason") }),
  run: ({ selection, reason }, session) => pauseOrResume(session, selection, { word: "pause", reason }),
});

export const resume = verb({
  parse: (args, options) => selectionOf(args, options),
  run: (selection, session) => pauseOrResume(session, selection, { word: "resume" }),
});

export const release = verb({
  parse: ([name = "", keyId = ""]) => ({ name, keyId }),
  run: async ({ name, keyId }, session) =>
    sayTo(session, await chooseNames(session, { names: [name] }), { word: "release", keyId }),
});
