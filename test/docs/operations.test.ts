import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { REASONS, type ReasonCode } from "../../src/core/reasons.ts";
import { VERBS } from "../../src/commands/table.ts";
import { expectGenerated, page, table } from "./generated.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const PAGE = "docs/operations.md";
const reasons = Object.entries(REASONS) as [ReasonCode, { outcome: string; message: string; hint?: string }][];
const CHAPTERS: Readonly<Record<string, string>> = {
  failed: "## Failed in this run (exit 1)",
  locked: "## Locked (exit 4)",
  found: "## Found by `check` (exit 5)",
  blocked: "## Blocked (exit 3): a person is needed",
};

const advice = (hint = "") =>
  hint.replaceAll("{secret}", "SECRET").replace(/keyturn [a-z]+(?: [A-Z]+| --\w+)*/g, "`$&`");

test("the waiting reasons are all there", () => {
  const rows = reasons.flatMap(([code, { outcome, message, hint }]) =>
    outcome === "waiting" ? [[`\`${code}\``, message, advice(hint)]] : [],
  );
  expectGenerated(PAGE, "waiting", table(["reason", "means", "if you know better"], rows));
});

test.each(Object.entries(CHAPTERS))("every reason that is %s has its paragraph, and no other", (outcome, heading) => {
  const chapter = page(PAGE).split(heading)[1]?.split(/^## /m)[0] ?? "";
  const told = [...chapter.matchAll(/^### `([\w-]+)`$/gm)].map(([, code]) => code);
  expect(told.sort()).toEqual(
    reasons
      .filter(([, one]) => one.outcome === outcome)
      .map(([code]) => code as string)
      .sort(),
  );
});

test("every code that a command can fail with is on the page, and no other", () => {
  const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" });
  const sources = files.filter((file) => file.endsWith(".ts")).map((file) => page(`src/${file}`));
  const thrown = sources.flatMap((text) =>
    [...text.matchAll(/new UserError\(\s*"([a-z-]+)"/g)].map(([, code]) => code),
  );
  const kinds = /type ProviderErrorKind =([^;]*);/.exec(page("src/core/errors.ts"))?.[1] ?? "";
  const unknown = [...page("src/config/select.ts").matchAll(/(?:unknown|matches)\("(\w+)"/g)].map(
    ([, kind]) => `unknown-${kind}`,
  );
  const codes = [...thrown, ...[...kinds.matchAll(/"([a-z-]+)"/g)].map(([, kind]) => kind), ...unknown, "bug"];
  const chapter = page(PAGE).split("## The whole command failed\n")[1]?.split(/^## /m)[0] ?? "";
  const rows = [...chapter.matchAll(/^\|((?: `[a-z-]+`)+) \|/gm)].flatMap(([, cell = ""]) => [
    ...cell.matchAll(/[a-z-]+/g),
  ]);
  expect(rows.map(([code]) => code).sort()).toEqual(
    [...new Set(codes)].filter((code = "") => !Object.hasOwn(REASONS, code)).sort(),
  );
});

test("the pages name no command that there is not", () => {
  const verbs = new Set(VERBS.flatMap(({ name }) => [name, name.split(" ")[0] as string]));
  for (const file of ["README.md", PAGE, "docs/how-it-decides.md", "docs/policy.md", "CONTRIBUTING.md"]) {
    const fences = [...page(file).matchAll(/^```\w*\n[\s\S]*?^```$/gm)].map(([fence]) => fence).join("\n");
    const spans = [...page(file).matchAll(/`keyturn [^`]*`/g)].map(([span]) => span.slice(1)).join("\n");
    const named = [...`${fences}\n${spans}`.matchAll(/^keyturn ([a-z][a-z-]*)/gm)].map(([, verb = ""]) => verb);
    expect([file, named.filter((verb) => !verbs.has(verb))]).toEqual([file, []]);
  }
});
