import { UserError } from "../core/errors.ts";
import { stillOpen } from "../core/edit.ts";
import { living, type SecretState, type Version } from "../core/model.ts";
import type { Now } from "../core/rules.ts";
import type { EngineDeps } from "../engine/deps.ts";
import { Document } from "../engine/document.ts";
import { isTaken } from "../engine/lease.ts";
import { audit } from "../engine/outbox.ts";
import type { Loaded } from "../ports/state.ts";
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
    const deps = await session.engine();
    const loaded = await deps.state.load(name);
    if (loaded === null)
      throw new UserError("unmanaged", `${name}: there is nothing to forget: no state is kept of it`, { exit: 3 });
    refuseAtWork(deps, loaded);
    const alive = living(loaded.state);
    const { rotation } = loaded.state;
    const left = alive.length === 0 ? "no key of it is alive" : `left alive: ${alive.map(named).join(", ")}`;
    const flight = rotation === null ? "" : `; its rotation ${rotation.id} is in flight and will not be finished`;
    session.terminal.say(`${name}: ${left}${flight}`);
    const question = { command: "forget", question: `forget ${name}`, facts: [] };
    await confirm(question, session.globals.yes, session.terminal, session.signal);
    const changed = () => locked(name, "it changed at this moment", `keyturn forget ${name}`);
    await tellAll(deps, loaded.state);
    const document = await Document.open(deps, name);
    const said = { fact: "said", word: { word: "forget" }, by: deps.runner.actor, id: "" } as const;
    if ((await document.commit([said], loaded.state.seq)) === "stale") throw changed();
    if ((await tellAll(deps, document.state)) === "damaged")
      session.terminal.say(`${name}: its newest events are lost: the audit log tells otherwise`);
    const there = await deps.state.load(name);
    const isSame = there?.state.commitId === document.state.commitId;
    if (!isSame || (await deps.state.remove(name, there.revision)) === "stale") throw changed();
    const row = rowOf(await subjectOf(session, name, null));
    return {
      ...reportOf(session, [
        { member: { ...row.member, outcome: "done", reason: "not-due", message: `forgotten; ${left}` }, hints: [] },
      ]),
      member: {
        forget: {
          name,
          leftAlive: alive.map(({ id, keyId, status }) => ({ version: id, keyId, status })),
          inFlight: rotation?.id ?? null,
        },
      },
      text: () => `${name}: forgotten; ${left}`,
    };
  },
});

function named({ id, keyId, status }: Version): string {
  return keyId === null ? `a key may have been made as ${id}` : `${keyId} (${status})`;
}

/** Whatever a call under way makes would be in no document any more. */
function refuseAtWork(deps: EngineDeps, { state, age }: Loaded): void {
  const now: Now = { doc: state.clock + age, wall: deps.clock.wall() };
  const { name, lease, intent } = state;
  if (lease !== null && isTaken(state, deps, now))
    throw locked(name, `${lease.actor} (${lease.host}, process ${lease.pid}) works on it`, `keyturn forget ${name}`);
  const open = intent ?? stillOpen(state, now)[0];
  if (open !== undefined)
    throw locked(
      name,
      `the ${open.effect} of ${open.version} may still take place`,
      `keyturn run ${name}, then keyturn forget ${name}`,
    );
}

/** The audit log outlives the document, and nobody could tell it later. */
async function tellAll(deps: EngineDeps, state: SecretState): ReturnType<typeof audit> {
  const told = await audit(deps, state);
  if (told !== "unavailable") return told;
  throw new UserError("audit-unavailable", `${state.name}: the audit log takes no entries; nothing was forgotten`, {
    exit: 3,
  });
}

function locked(name: string, why: string, hint: string): UserError {
  return new UserError("locked", `${name}: ${why}; nothing was forgotten`, { exit: 4, hints: [hint] });
}
