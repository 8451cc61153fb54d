import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";

/**
 * Files that a pattern names, sorted; `*` stands for any part of one name, and hidden files need their dot.
 * A name without `*` is given back whether or not it is there.
 */
export function matchFiles(folder: string, pattern: string): string[] {
  let found = [resolve(folder, pattern.startsWith("/") ? "/" : ".")];
  for (const segment of pattern.split("/").filter((part) => part !== "" && part !== ".")) {
    found = segment.includes("*")
      ? found.flatMap((parent) => namesLike(parent, segment))
      : found.map((parent) => join(parent, segment));
  }
  return found;
}

function namesLike(parent: string, segment: string): string[] {
  const pattern = new RegExp(
    `^${segment
      .split("*")
      .map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, "\\$&"))
      .join(".*")}$`,
    "s",
  );
  const visible = (name: string) => segment.startsWith(".") || !name.startsWith(".");
  let names: string[];
  try {
    names = readdirSync(parent);
  } catch {
    return [];
  }
  return names
    .filter((name) => visible(name) && pattern.test(name))
    .sort()
    .map((name) => join(parent, name));
}
