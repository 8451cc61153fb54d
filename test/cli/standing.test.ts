import { describe, expect, test } from "vitest";
import type { SecretPolicy } from "../../src/config/model.ts";
import { rowOf } from "../../src/commands/members.ts";
import { standingOf } from "../../src/commands/standing.ts";
import type { SecretState } from "../../src/core/model.ts";
import { AUTHORITY, delivery, idle, NOW, overlapping, rotation, said, version } from "../core/support.ts";
import { emergency } from "../core/scenes.ts";

const YESTERDAY_ON = [{ from: NOW.wall - 1000, to: NOW.wall + 1e9, reason: "freeze", tags: null }];
const policyOf = (blackouts: readonly object[] = []) =>
  ({ blackouts, overlap: { minimum: 0 }, soak: { for: 0 }, enabled: true }) as unknown as SecretPolicy;
const pausedAll = { reason: "stock-taking", by: "ada" };
const around = { policy: policyOf(), rules: null, pausedAll: null, now: NOW };
const reasonOf = (state: SecretState, more: Partial<typeof around> | object) =>
  standingOf(state, { ...around, ...more }).reason;

/** The old value is on its way back. */
const turning = idle({
  versions: [version("v1", "retiring"), version("v2", "current")],
  deliveries: [delivery(AUTHORITY, "v2")],
  rotation: rotation("v1", "v2", { rollback: { at: NOW.doc, by: "ada" } }),
});

describe("a pause that does not hold is not told", () => {
  const pauses: readonly [string, object, (state: SecretState) => SecretState][] = [
    ["of everything", { pausedAll }, (state) => state],
    ["by the policy", { policy: policyOf(YESTERDAY_ON) }, (state) => state],
    ["of the secret", {}, (state) => said(state, { word: "pause", reason: "stock-taking" })],
  ];
  test.each(pauses)("%s", (_, more, paused) => {
    expect(reasonOf(paused(overlapping(1000)), more)).toBe("paused");
    expect(reasonOf(paused(emergency(overlapping(1000))), more)).not.toBe("paused");
    expect(reasonOf(paused(turning), more)).not.toBe("paused");
  });
});

test.each([
  ["of everything", { pausedAll }, "keyturn resume"],
  ["by the policy", { policy: policyOf(YESTERDAY_ON) }, "one of the policy's blackouts is under way"],
])("a pause %s brings its own hint", (_, more, hint) => {
  const state = overlapping(1000);
  expect(rowOf({ ...around, name: "payments", state, nextDue: null, ...more }).hints).toEqual([hint]);
});

test("a wait for a time that has passed is told no longer", () => {
  const waits = (until: number) => ({
    ...overlapping(1000),
    standing: {
      reason: "distributing",
      message: "readers may still get the old value",
      until,
      at: NOW.doc - 2000,
    } as const,
  });
  const policy = { ...policyOf(), overlap: { minimum: 86_400_000 } };
  expect(reasonOf(waits(NOW.doc + 1), { policy })).toBe("distributing");
  expect(reasonOf(waits(NOW.doc - 1), { policy })).toBe("minimum-overlap");
});
