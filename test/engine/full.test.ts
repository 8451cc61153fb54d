import { afterEach, beforeEach, expect, test } from "vitest";
import { UserError } from "../../src/core/errors.ts";
import { Document } from "../../src/engine/document.ts";
import { runSecret } from "../../src/engine/run.ts";
import { say } from "../../src/engine/say.ts";
import { EMERGENCY } from "../core/support.ts";
import { Bench, depsOf, options } from "./support.ts";

let bench: Bench;
beforeEach(() => (bench = new Bench()));
afterEach(() => bench.dispose());

async function full() {
  const deps = depsOf(bench.state);
  await say(deps, "payments", { word: "rotate", repair: false });
  await runSecret(deps, bench.ports(), options({ sit: "served" }));
  bench.state.auditFails = true;
  const document = await Document.open(deps, "payments");
  await document.commit(
    Array.from({ length: 201 }, () => ({ fact: "noticed", event: "failed-use", data: {} }) as const),
  );
  return deps;
}

test("a log that takes nothing stops a rotation, and no emergency", async () => {
  const deps = await full();
  expect(await runSecret(deps, bench.ports(), options())).toMatchObject({
    outcome: "blocked",
    reason: "audit-unavailable",
  });
  await say(deps, "payments", EMERGENCY);
  await runSecret(deps, bench.ports(), options({ sit: "dead" }));
  expect(bench.issuer.calls).toEqual(expect.arrayContaining(["disable key-1", "delete key-1"]));
  expect(bench.state.document?.state.outbox.events.length).toBeGreaterThan(200);
});

test("a log that tells otherwise is told apart from one that does not answer", async () => {
  const deps = await full();
  bench.state.audit.append = async () => {
    throw new UserError("state-damaged", "another entry");
  };
  expect(await runSecret(deps, bench.ports(), options())).toMatchObject({
    outcome: "blocked",
    reason: "state-damaged",
  });
});
