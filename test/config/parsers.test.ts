import { readFileSync } from "node:fs";
import { CORE_SCHEMA, load } from "js-yaml";
import { expect, test } from "vitest";
import { parse } from "yaml";

/** One parser reads policies, another finds places in them: they must see the same things. */
const fixtures: Record<string, string> = {
  "the example": readFileSync(new URL("../../rotation.config.example.yaml", import.meta.url), "utf8"),
  "words that look like others": "a: [yes, no, on, off, true, False, null, ~, '', y, n]\n",
  numbers: "a: [0, 07, 0o17, 0x1f, 1e3, 1.5, -2, +3, .5, .inf, -.INF, 12:30, 2026-01-02, 1.2.3]\n",
  strings:
    "a: plain # comment\nb: 'it''s'\nc: \"tab\\t \\u00e9 \\x41\"\nd: |\n  kept\n    lines\ne: >-\n  folded\n  lines\nf: a#b\n",
  references: 'a: "${env:A}"\nb: ${env:B}\nc: ${file:/run/secrets/x}-y\n',
  "anchors and aliases": "a: &x { k: [1, 2] }\nb: *x\nc: { <<: *x }\n",
  flow: "{ a: [1, {b: c}, [d]], 'e f': \"g\", h: }\n",
  nested: "a:\n- b: 1\n  c:\n  - d\n  -\n    - e\n",
  json: '{\n\t"a": "\\u00e9\\ud83d\\ude00\\/",\n\t"b": [1, 2.5, -3e2, true, false, null],\n\t"c": {}\n}\n',
  "windows line ends and a mark at the front": "\uFEFFa: 1\r\nb:\r\n  - c\r\n",
};

test.each(Object.entries(fixtures))("both parsers read %s alike", (_, text) => {
  expect(load(text, { schema: CORE_SCHEMA })).toEqual(parse(text));
});
