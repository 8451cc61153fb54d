import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node, type Pair } from "yaml";
import type { Issue, PlacedIssue } from "./issues.ts";
import type { Path } from "./path.ts";
import type { Source } from "./source.ts";

/**
 * Finds where issues stand in their files, sorted by place. Slow (it parses the files again, by a parser that
 * keeps positions), so imported only for policies that failed.
 */
export function placeIssues(issues: readonly Issue[], sourceOf: (path: Path) => Source): PlacedIssue[] {
  const parsed = new Map<Source, { document: Document; lines: LineCounter }>();
  const parse = (source: Source) => {
    let found = parsed.get(source);
    if (!found) {
      const lines = new LineCounter();
      found = {
        document: parseDocument(source.text, { lineCounter: lines, uniqueKeys: false, logLevel: "silent" }),
        lines,
      };
      parsed.set(source, found);
    }
    return found;
  };

  const placed = issues.map((issue) => {
    const source = sourceOf(issue.path);
    const { document, lines } = parse(source);
    const { line, col } = lines.linePos(offsetOf(document, [...source.root, ...issue.path], issue.mark));
    return { issue, source, line: Math.max(1, line), col: Math.max(1, col) };
  });
  placed.sort((a, b) => compare(a.source.shown, b.source.shown) || a.line - b.line || a.col - b.col);
  // Without the path: its keys may be values gone astray.
  return placed.map(({ issue: { message, hint, unresolved }, source, line, col }) => ({
    at: `${source.shown}:${line}:${col}`,
    message,
    ...(hint !== undefined && { hint }),
    ...(unresolved && { unresolved }),
  }));
}

function offsetOf(document: Document, path: Path, mark: Issue["mark"]): number {
  let node = document.contents as Node | null;
  let offset = 0;
  for (const step of path) {
    const target = isAlias(node) ? node.resolve(document) : node;
    if (isMap(target)) {
      const pair = target.items.find((item: Pair) => isScalar(item.key) && String(item.key.value) === String(step));
      if (!pair) break;
      const key = startOf(pair.key as Node);
      node = pair.value as Node | null;
      offset = mark === "key" ? key : startOf(node) || key;
    } else if (isSeq(target)) {
      const item = target.items[Number(step)] as Node | undefined;
      if (!item) break;
      node = item;
      offset = startOf(node);
    } else break;
  }
  return offset;
}

function startOf(node: Node | null): number {
  return node?.range?.[0] ?? 0;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
