import { UserError } from "../core/errors.ts";
import { living } from "../core/model.ts";
import { confirm } from "../ui/prompt.ts";
import { chooseNames } from "./choose.ts";
import { reportOf } from "./advance.ts";
import { rowOf } from "./members.ts";
import { subjectOf } from "./subject.ts";
import { verb } from "./verb.ts";

/** Removes the document. Keys stay as they are, and nobody watches them any more: those alive are named. */
export const forget = verb({
  parse: ([name = ""]) => ({ name }),
  run: async ({ name }, session) => {
    await chooseNames(session, { names: [name] });
    const state = await session.state();
    const loaded = await state.load(name);
    if (loaded === null)
      throw new UserError("unmanaged", `${name}: there is nothing to forget: no state is kept of it`, { exit: 3 });
    const alive = living(loaded.state).flatMap(({ keyId, status }) => (keyId === null ? [] : [{ keyId, status }]));
    const { rotation } = loaded.state;
    const left =
      alive.length === 0
        ? "no key of it is alive"
        : `left alive: ${alive.map(({ keyId, status }) => `${keyId} (${status})`).join(", ")}`;
    const flight = rotation === null ? "" : `; its rotation ${rotation.id} is in flight and will not be finished`;
    session.terminal.say(`${name}: ${left}${flight}`);
    const question = { command: "forget", question: `forget ${name}`, facts: [] };
    await confirm(question, session.globals.yes, session.terminal, session.signal);
    if ((await state.remove(name, loaded.revision)) === "stale") {
      throw new UserError("locked", `${name}: it changed at this moment; nothing was forgotten`, {
        exit: 4,
        hints: [`keyturn forget ${name}`],
      });
    }
    const row = rowOf(await subjectOf(session, name, null));
    return {
      ...reportOf(session, [
        { member: { ...row.member, outcome: "done", reason: "not-due", message: `forgotten; ${left}` }, hints: [] },
      ]),
      member: { forget: { name, leftAlive: alive, inFlight: rotation?.id ?? null } },
      text: () => `${name}: forgotten; ${left}`,
    };
  },
});
