import { UserError } from "../core/errors.ts";
import type { Word } from "../core/words.ts";
import type { SecretState } from "../core/model.ts";
import { say } from "../engine/say.ts";
import { reportOf } from "./advance.ts";
import { chooseNames, EVERYTHING, selectionOf } from "./choose.ts";
import { refused, rowOf, type Row } from "./members.ts";
import { moment, required } from "./options.ts";
import type { Session } from "./session.ts";
import { Slots } from "./slots.ts";
import { subjectOf } from "./subject.ts";
import { pauseFor } from "./timing.ts";
import { verb, type Options, type Report } from "./verb.ts";

/** Commits a word to each document. No provider is called and no run is waited for. */
export async function sayTo(session: Session, names: readonly string[], word: Word): Promise<Report> {
  const deps = await session.engine();
  const answer = async (name: string): Promise<{ row: Row; text: string }> => {
    const before = (await deps.state.load(name))?.state ?? null;
    const isPaused =
      word.word === "resume" &&
      name !== EVERYTHING &&
      ((await deps.state.load(EVERYTHING))?.state.paused ?? null) !== null;
    const nothing = nothingToDo(before, word, isPaused);
    const said = nothing === null ? await say(deps, name, word) : ({ ok: true, state: before } as const);
    const row = rowOf(await subjectOf(session, name, said.state === null ? null : { state: said.state, age: 0 }));
    if (!said.ok) return { row: refused(row, said.reason, said.message), text: "" };
    if ("note" in said) session.terminal.say(`${name}: ${said.note}`);
    return {
      row: { member: { ...row.member, outcome: "done" }, hints: [] },
      text: nothing ?? doneText(before, word, isPaused),
    };
  };
  const slots = new Slots((await session.policy()).maxConcurrent.overall);
  const answers = await Promise.all(names.map((name) => slots.hold(() => answer(name))));
  return {
    ...reportOf(
      session,
      answers.map(({ row }) => row),
    ),
    text: () =>
      answers
        .filter(({ row }) => row.member.outcome === "done")
        .map(({ row, text }) => `${row.member.name}: ${text}`)
        .join("\n"),
  };
}

/** Why a word has nothing to end: it is not said then, and the audit log does not hear of it. */
function nothingToDo(state: SecretState | null, word: Word, isAllPaused: boolean): string | null {
  switch (word.word) {
    case "unhold":
      return (state?.holds.length ?? 0) === 0 ? "nothing held it" : null;
    case "unlock":
      return (state?.lease ?? null) === null ? "not locked" : null;
    case "resume":
      if ((state?.paused ?? null) !== null) return null;
      return isAllPaused && state?.name !== EVERYTHING
        ? "not paused itself; everything is: keyturn resume"
        : "not paused";
    case "release":
      return state?.strangers.includes(word.keyId) === true ? `${word.keyId} is known as not ours already` : null;
    default:
      return null;
  }
}

function doneText(before: SecretState | null, word: Word, isAllPaused: boolean): string {
  if (word.word === "resume" && isAllPaused) return "no longer paused itself; everything still is: keyturn resume";
  if (word.word !== "release" || before?.versions.some(({ keyId }) => keyId === word.keyId) === true)
    return DONE[word.word];
  return `${word.keyId} is noted as not ours; nothing was recorded of it before`;
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
  forget: "forgotten",
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
    reason: required(options, "--reason", "change freeze until Monday"),
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
    text: (terminal) =>
      word.word === "pause"
        ? "everything is paused: nothing starts, nothing is destroyed"
        : report.text(terminal).replace(`${EVERYTHING}: `, "everything: "),
  };
}

export const pause = verb({
  parse: (args, options) => ({
    selection: selectionOf(args, options),
    reason: required(options, "--reason", "change freeze until Monday"),
  }),
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
