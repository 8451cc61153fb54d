import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { extendPolicy, type Addition } from "../../src/config/extend.ts";
import { loadPolicy } from "../../src/config/load.ts";
import { readPolicy } from "../../src/config/source.ts";

const folder = mkdtempSync(join(tmpdir(), "keyturn-extend-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const addition: Addition = {
  stores: [{ key: "room", about: "Where keys rest.", lines: [{ key: "type", value: "local" }] }],
  secrets: [
    {
      key: "search",
      lines: [
        {
          key: "issuer",
          about:
            "Who makes the keys, said in so many words that one line of eighty-character-wide screens is no place.",
          lines: [
            { key: "type", value: "api-keys" },
            { key: "url", value: "http://127.0.0.1:1" },
            { key: "client", value: "search" },
            { key: "adminToken", about: "A reference.", value: "${env:ADMIN}" },
          ],
        },
        { key: "stores", items: [[{ key: "use", about: "Of `stores`.", value: "room" }]] },
      ],
    },
  ],
};
const WRITTEN = `  search:
    # Who makes the keys, said in so many words that one line of
    # eighty-character-wide screens is no place.
    issuer:
      type: api-keys
      url: http://127.0.0.1:1
      client: search
      # A reference.
      adminToken: "\${env:ADMIN}"
    stores:
      # Of \`stores\`.
      - use: room
`;

function extended(text: string, file = "rotation.config.yaml"): string {
  writeFileSync(join(folder, file), text);
  return extendPolicy(readPolicy(folder, file), addition);
}

const load = (text: string, file = "rotation.config.yaml") => loadPolicy({ cwd: folder, file, text, env: {} });

describe("a policy that is extended", () => {
  test("begins as a whole one with comments, which loads", async () => {
    const text = extendPolicy(null, addition);
    expect(text).toContain(`# What is rotated, by name.\nsecrets:\n${WRITTEN}`);
    expect(text).toContain("stores:\n  # Where keys rest.\n  room:\n    type: local\n");
    for (const line of text.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
    const { policy } = await load(text);
    expect([...policy.secrets.keys(), ...policy.stores.keys()]).toEqual(["search", "room"]);
  });

  test("keeps every byte that stood there, comments and spacing too", async () => {
    const stores = "stores:  # of ours\n    one:   { type: local }   # aligned\n\n";
    const secrets = `secrets:
    # the first
    first:
        issuer: { type: api-keys, url: "http://x", client: first, adminToken: "\${env:A}" }
        stores: [ { use: one } ]
    # the last words of the section
`;
    const tail = "\n# about the state\nstate: .keyturn/state.db # end\n";
    const next = extended(`# top\nversion: 1\n${stores}${secrets}${tail}`.replace(".keyturn/state.db", "sqlite:a.db"));
    const expected = [
      "# top\nversion: 1\n",
      stores.trimEnd(),
      "\n\n    # Where keys rest.\n    room:\n      type: local\n\n",
      secrets,
      `\n${WRITTEN.replace(/^ {2}/gm, "    ")}`,
      tail.replace(".keyturn/state.db", "sqlite:a.db"),
    ];
    // Deeper levels are two columns each, wherever the section stands.
    expect(next.replace(/^ +/gm, "")).toBe(expected.join("").replace(/^ +/gm, ""));
    expect([...(await load(next)).policy.secrets.keys()]).toEqual(["first", "search"]);
  });

  test.each([
    ["without the sections", "version: 1\n"],
    ["without a line end", "version: 1"],
    ["with empty sections", "version: 1\nstores: {} # none\nsecrets: # none yet\n"],
    ["with sections of null", "version: 1\nsecrets: ~\nstores:\n"],
    ["with the lines of another system", "version: 1\r\nsecrets:\r\nstores:\r\n  a: { type: local }\r\n"],
    [
      "with entries whose value is a block",
      "version: 1\nstores:\n  a:\n    type: local\n    path: |-\n      a\n\n\nsecrets:\n",
    ],
  ])("%s", async (_, text) => {
    const next = extended(text);
    expect([...(await load(next)).policy.secrets.keys()]).toEqual(["search"]);
    expect(next.endsWith("\n")).toBe(true);
    const eol = text.includes("\r") ? "\r\n" : "\n";
    expect(next.replaceAll(eol, "")).not.toMatch(/[\r\n]/);
    expect(next.match(/# none.*/g)).toEqual(text.match(/# none.*/g));
  });

  test("may be JSON, with its own indentation", async () => {
    const next = extended('{\n\t"version": 1,\n\t"secrets": {}\n}\n', "rotation.config.json");
    expect(next).toMatch(/^\{\n\t"version": 1,\n\t"secrets": \{\n\t\t"search": \{/);
    expect([...(await load(next, "rotation.config.json")).policy.secrets.keys()]).toEqual(["search"]);
  });

  test("may stand in package.json, whose other members stay", async () => {
    const next = extended(
      '{\n  "name": "shop",\n  "rotation": { "version": 1 },\n  "type": "module"\n}',
      "package.json",
    );
    expect(Object.keys(JSON.parse(next))).toEqual(["name", "rotation", "type"]);
    expect([...(await load(next, "package.json")).policy.secrets.keys()]).toEqual(["search"]);
  });

  test.each([
    ["braces with entries", "version: 1\nsecrets: { a: { } }\n", /secrets stands in braces/],
    ["JSON with comments", '{ "version": 1 # mine\n}\n', /no JSON/],
    ["an alias", "version: 1\nstores: &a\n  b: { type: local }\nsecrets: *a\n", /secrets is no map of its own/],
    ["an end mark", "version: 1\n...\n", /too unusual/],
  ])("is left alone where it has %s", (_, text, why) => {
    expect(() => extended(text)).toThrow(why);
  });
});
