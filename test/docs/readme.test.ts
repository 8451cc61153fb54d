import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { registry } from "../../src/adapters/registry.ts";
import { VERBS } from "../../src/commands/table.ts";
import { expectGenerated, page, table } from "./generated.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

test("the README lists every command", () => {
  const rows = VERBS.map(({ name, arguments: args, summary }) => [`\`${[name, args].join(" ").trim()}\``, summary]);
  expectGenerated("README.md", "commands", table(["command", "what it does"], rows));
});

test("the README leads to every provider's page", () => {
  const kinds = { issuer: "issuers", store: "stores", usage: "usage", notifier: "notifiers", state: "state" } as const;
  const rows = Object.entries(kinds).map(([kind, name]) => {
    const types = Object.keys(registry[kind as keyof typeof kinds]).sort();
    return [name, types.map((type) => `[${type}](docs/providers/${type}.md)`).join(" · ")];
  });
  expectGenerated("README.md", "providers", table(["what", "types"], rows));
});

const pages = [
  "README.md",
  "CONTRIBUTING.md",
  "examples/README.md",
  ...readdirSync(join(ROOT, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

test.each(pages)("the links of %s lead somewhere", (file) => {
  const links = [...page(file).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)/g)];
  const broken = links.filter(([, target = "", anchor]) => {
    const to = target === "" ? file : join(dirname(file), target);
    if (!existsSync(join(ROOT, to))) return true;
    return anchor !== undefined && !anchors(page(to)).includes(anchor);
  });
  expect(broken.map(([link]) => link)).toEqual([]);
});

/** As they are made out of headings by those who show the pages. */
function anchors(text: string): string[] {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
