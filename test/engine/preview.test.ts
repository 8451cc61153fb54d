import { afterEach, beforeEach, expect, test } from "vitest";
import { preview } from "../../src/engine/preview.ts";
import { runSecret } from "../../src/engine/run.ts";
import { say } from "../../src/engine/say.ts";
import { Bench, depsOf, options } from "./support.ts";

let bench: Bench;
beforeEach(() => (bench = new Bench()));
afterEach(() => bench.dispose());

const look = { looks: true, force: true, signal: new AbortController().signal };

test("what is in the way brings its own hint, as it does in a run", async () => {
  const hint = "aws iam attach-user-policy";
  const finding = { reason: "permission-missing", blocks: true, message: "may not issue", hint } as const;
  bench.issuer.describe = async () => ({ binding: "issuer", findings: [finding] }) as never;
  const deps = depsOf(bench.state);
  expect(await preview(deps, bench.ports(), look)).toMatchObject({ outcome: "blocked", hints: [hint] });
  await say(deps, "payments", { word: "rotate", repair: false });
  expect(await runSecret(deps, bench.ports(), options())).toMatchObject({ outcome: "blocked", hints: [hint] });
});

test("the first key has nothing to end; the next one has", async () => {
  const deps = depsOf(bench.state);
  const steps = async () => (await preview(deps, bench.ports(), look)).timeline.map(({ what }) => what).join("; ");
  expect(await steps()).toMatch(/^issue a new key; .*put it: [^;]*$/);
  await say(deps, "payments", { word: "rotate", repair: false });
  expect(await runSecret(deps, bench.ports(), options())).toMatchObject({ outcome: "done" });
  expect(await steps()).toMatch(/the old key, once proven quiet/);
});

test.each([
  ["of everything", { reason: "stock-taking", by: "ada" }, "keyturn resume"],
  ["by the policy", { reason: "freeze", by: "the policy", until: 1e15 }, "one of the policy's blackouts is under way"],
])("a pause %s is not ended by resuming this secret", async (_, paused, hint) => {
  const deps = depsOf(bench.state);
  const seen = await preview(deps, bench.ports(), { ...look, pausedAll: paused });
  expect([seen.reason, seen.hints]).toEqual(["paused", [hint]]);
  await say(deps, "payments", { word: "rotate", repair: false });
  const ran = await runSecret(deps, bench.ports(), options({ pausedAll: async () => paused }));
  expect([ran.reason, ran.hints]).toEqual(["paused", [hint]]);
});

test("a pause of this secret is", async () => {
  const deps = depsOf(bench.state);
  await say(deps, "payments", { word: "pause", reason: "stock-taking" });
  const seen = await preview(deps, bench.ports(), look);
  expect([seen.reason, seen.hints]).toEqual(["paused", ["keyturn resume payments"]]);
});
