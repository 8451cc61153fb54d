import * as fc from "fast-check";
import { expect, test } from "vitest";
import { PolicyError } from "../../src/config/issues.ts";
import { loadPolicy } from "../../src/config/load.ts";
import { UserError } from "../../src/core/errors.ts";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { folderWith } from "./support.ts";

const CANARY = "kt_9fQ2canary77XvLw0Zr8";

/** All that an error could print. */
function printed(error: UserError): string {
  const issues = error instanceof PolicyError ? error.issues : [];
  return JSON.stringify([error.message, error.options, error.code, issues, error.stack]);
}

/** Loads it. Whatever is thrown is a UserError with exit code 2 that says nothing of the canary. */
async function outcome(folder: string, text: string): Promise<void> {
  writeFileSync(join(folder, "rotation.config.yaml"), text);
  const error = await loadPolicy({ cwd: folder, env: { SET: CANARY } }).then(
    () => new UserError("none", "", { exit: 2 }),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof UserError)) throw error;
  expect([error.options.exit, printed(error).includes(CANARY)]).toEqual([2, false]);
}

const word = fc.constantFrom(
  CANARY,
  `Bearer ${CANARY}`,
  `https://me:${CANARY}@host/`,
  "${env:SET}",
  "${env:NOT_SET}",
  "${env:}",
  "${file:none}",
  "${env:x",
  "api-keys",
  "local",
  "dotenv",
  "sqlite",
  "webhook",
  "aws-iam",
  "issuer",
  "none",
  "constructor",
  "__proto__",
  "toString",
  "90d",
  "0s",
  "1",
  "",
  "Mon 09:00-10:00",
  "0 3 * * *",
  "block",
  "room",
  "a",
);
// Without `include`: a file that is not there is rightly named, whatever it is called.
const key = fc.constantFrom(
  "version",
  "state",
  "defaults",
  "stores",
  "notifiers",
  "secrets",
  "issuer",
  "usage",
  "consumers",
  "hooks",
  "tags",
  "owner",
  "schedule",
  "verify",
  "overlap",
  "soak",
  "retry",
  "type",
  "use",
  "fields",
  "timing",
  "adminToken",
  "url",
  "client",
  "path",
  "name",
  "every",
  "cron",
  "window",
  "zone",
  "quiet",
  "for",
  "run",
  "match",
  "notify",
  "events",
  "afterDone",
  "__proto__",
  "constructor",
  "room",
  "a",
  CANARY,
);
const scalar = fc.oneof(word, fc.integer(), fc.boolean(), fc.constant(null), fc.double({ noNaN: true }));
const { tree } = fc.letrec((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    scalar,
    fc.array(tie("tree"), { maxLength: 3 }),
    fc.dictionary(key, tie("tree"), { maxKeys: 5, noNullPrototype: true }),
  ),
}));

/** A policy that nearly is one, with a few parts replaced by junk. */
const nearly = fc.record(
  {
    version: fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: tree }),
    stores: fc.oneof(
      fc.record({ room: fc.oneof(tree, fc.record({ type: word, path: tree }, { requiredKeys: ["type"] })) }),
      tree,
    ),
    defaults: fc.option(tree, { nil: undefined }),
    state: fc.option(tree, { nil: undefined }),
    notifiers: fc.option(
      fc.record({ ops: fc.record({ type: word, url: tree, secret: tree, events: tree }, { requiredKeys: [] }) }),
      { nil: undefined },
    ),
    secrets: fc.dictionary(
      fc.constantFrom("a", "b", "constructor", CANARY),
      fc.oneof(
        tree,
        fc.record(
          {
            issuer: fc.oneof(
              tree,
              fc.record(
                {
                  type: fc.constantFrom("api-keys", CANARY),
                  url: tree,
                  client: tree,
                  adminToken: tree,
                  expires: tree,
                  timing: tree,
                },
                { requiredKeys: ["type"] },
              ),
            ),
            stores: fc.oneof(
              tree,
              fc.array(
                fc.record({ use: word, type: word, fields: tree, name: tree, path: tree }, { requiredKeys: [] }),
                { maxLength: 3 },
              ),
            ),
            usage: tree,
            consumers: fc.oneof(
              tree,
              fc.array(fc.record({ name: word, match: tree, notify: word }, { requiredKeys: [] }), { maxLength: 2 }),
            ),
            schedule: fc.oneof(
              tree,
              fc.record({ every: word, cron: word, window: word, zone: word }, { requiredKeys: [] }),
            ),
            overlap: tree,
            hooks: tree,
            owner: tree,
            tags: tree,
          },
          { requiredKeys: ["issuer", "stores"] },
        ),
      ),
      { maxKeys: 3 },
    ),
  },
  { requiredKeys: ["version", "secrets"] },
);

test("data of any shape ends in a policy or a UserError that quotes nothing", async () => {
  const folder = folderWith({});
  // As secrets' own names a canary is a name, and names are printed: there it is swapped for a plain one.
  const named = (data: unknown) => JSON.stringify(data).replaceAll(`"${CANARY}":`, '"plain":');
  await fc.assert(
    fc.asyncProperty(fc.oneof(tree, nearly), (data) => outcome(folder, named(data))),
    { numRuns: 3000 },
  );
}, 60_000);

test("so does text of any shape", async () => {
  const folder = folderWith({});
  const piece = fc.oneof(
    fc.constantFrom(
      "version: 1\n",
      "secrets:\n",
      "  a:\n",
      "    issuer: ",
      "{",
      "}",
      "[",
      "]",
      ": ",
      "- ",
      "\n",
      "\t",
      "&a ",
      "*a",
      "!!x ",
      "|\n",
      "'",
      '"',
      "#",
      "? ",
      "%",
      "@",
      "---\n",
      CANARY,
      `adminToken: ${CANARY}\n`,
    ),
    fc.string(),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 25 }), (pieces) => outcome(folder, pieces.join(""))),
    { numRuns: 3000 },
  );
}, 60_000);
