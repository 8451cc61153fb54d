import { expect, test } from "vitest";
import { PROMISE_4 } from "../../src/core/checks.ts";
import { RULES } from "../../src/core/decide.ts";
import { STATUSES } from "../../src/core/model.ts";
import { MOVES } from "../../src/core/status.ts";
import { expectGenerated, table } from "./generated.ts";

const PAGE = "docs/how-it-decides.md";

test("the picture and the table of states are the transition table", () => {
  const picture = [
    "```mermaid",
    "stateDiagram-v2",
    "    [*] --> minting",
    ...MOVES.map(({ from, to, when }) => `    ${from} --> ${to}: ${when.replaceAll(/[;:]/g, ",")}`),
    "    destroyed --> [*]",
    "```",
  ];
  const rows = MOVES.map(({ from, to, when }) => [`\`${from}\``, `\`${to}\``, when]);
  expectGenerated(PAGE, "moves", [...picture, "", table(["from", "to", "when"], rows)].join("\n"));
});

test("every status is drawn", () => {
  expect(new Set(MOVES.flatMap(({ from, to }) => [from, to]))).toEqual(new Set(STATUSES));
});

const numbered = (names: readonly string[]) => names.map((name, index) => `${index + 1}. ${name}`).join("\n");

test("the rules stand in their order", () => {
  expectGenerated(PAGE, "rules", numbered(RULES.map(({ name }) => name)));
});

test("the checks of promise 4 stand in their order", () => {
  expectGenerated(PAGE, "promise-4", numbered(PROMISE_4.map(({ name }) => name)));
});
