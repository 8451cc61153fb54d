import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

/** @param file relative to the repository */
export function page(file: string): string {
  return readFileSync(place(file), "utf8");
}

/** The part of a page between its two `generated:NAME` comments says `text`. With UPDATE=1 it is written instead. */
export function expectGenerated(file: string, name: string, text: string): void {
  const before = page(file);
  const [open, close] = [`<!-- generated:${name} -->\n`, `<!-- /generated:${name} -->`];
  const [from, to] = [before.indexOf(open), before.indexOf(close)];
  expect(from >= 0 && to > from, `${file} has a place for ${name}`).toBe(true);
  const after = `${before.slice(0, from + open.length)}${text.trim()}\n${before.slice(to)}`;
  if (process.env["UPDATE"] === "1" && after !== before) writeFileSync(place(file), after);
  expect(page(file), `UPDATE=1 npx vitest run test/docs writes ${name} of ${file} anew`).toBe(after);
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), `|${head.map(() => "---|").join("")}`, ...rows.map(line)].join("\n");
}

function place(file: string): string {
  return fileURLToPath(new URL(`../../${file}`, import.meta.url));
}
