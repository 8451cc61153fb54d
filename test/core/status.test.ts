import * as fc from "fast-check";
import { expect, test } from "vitest";
import { STATUSES } from "../../src/core/model.ts";
import { IllegalTransition, mayMove, move } from "../../src/core/status.ts";
import { version } from "./support.ts";

const LISTED = [
  "minting>pending",
  "minting>abandoned",
  "pending>current",
  "pending>abandoned",
  "pending>retiring",
  "current>retiring",
  "retiring>current",
  "retiring>disabled",
  "retiring>destroyed",
  "disabled>retiring",
  "disabled>destroyed",
  "abandoned>destroyed",
  "destroyed>abandoned",
];
const ALL = STATUSES.flatMap((from) => STATUSES.filter((to) => to !== from).map((to) => [from, to] as const));

const isListed = ([from, to]: readonly [string, string]) => LISTED.includes(`${from}>${to}`);

test.each(ALL.filter(isListed))("a version may go from %s to %s", (from, to) => {
  const before = version("v1", from);
  expect(move(before, to)).toEqual({ ...before, status: to });
});

test.each(ALL.filter((pair) => !isListed(pair)))("a version may not go from %s to %s", (from, to) => {
  const before = version("v1", from);
  expect(mayMove(before, to)).toBe(false);
  expect(() => move(before, to)).toThrow(IllegalTransition);
});

test("to stay is no move, even for a leaked version", () => {
  for (const status of STATUSES) {
    const leaked = version("v1", status, { compromised: true });
    expect(move(leaked, status)).toBe(leaked);
  }
});

test("promise 11: however it is moved about, a leaked version is never again promoted or enabled", () => {
  const walk = fc.tuple(fc.constantFrom(...STATUSES), fc.array(fc.constantFrom(...STATUSES), { maxLength: 12 }));
  fc.assert(
    fc.property(walk, ([start, steps]) => {
      let leaked = version("v1", start, { compromised: true });
      for (const to of steps) {
        const from = leaked.status;
        if (!mayMove(leaked, to)) continue;
        leaked = move(leaked, to);
        expect(["pending>current", "retiring>current", "disabled>retiring"]).not.toContain(`${from}>${to}`);
        expect(leaked.compromised).toBe(true);
      }
    }),
  );
});

test("the refusal of a leaked version says why", () => {
  const leaked = version("v1", "disabled", { compromised: true });
  expect(() => move(leaked, "retiring")).toThrow("version v1 cannot go from disabled to retiring (compromised)");
});
