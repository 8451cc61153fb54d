import { registry } from "../../src/adapters/registry.ts";
import { describe, expect, test } from "vitest";
import { ISSUER, policyWith, refusal, STORES } from "./support.ts";

const GOOD = `${ISSUER}\n${STORES}`;

/** What is wrong, the policy, the whole message. Lines and columns count from 1. */
const cases: [string, string, string][] = [
  [
    "unknown key of a secret",
    policyWith(`${ISSUER}\nsotres: [{ type: local }]`),
    [
      "rotation.config.yaml:3:3: secrets.payments: stores is missing",
      'rotation.config.yaml:5:5: unknown key "sotres" in secrets.payments: did you mean "stores"?',
    ].join("\n"),
  ],
  [
    "a misspelt usage, and nothing that only follows from it",
    policyWith(`issuer: { type: vault-token, role: r }\n${STORES}\nusgae: none`),
    'rotation.config.yaml:6:5: unknown key "usgae" in secrets.payments: did you mean "usage"?',
  ],
  [
    "unknown key at the top",
    "version: 1\nsecret: {}\n",
    'rotation.config.yaml:2:1: unknown key "secret": did you mean "secrets"?',
  ],
  [
    "unknown key of an adapter",
    policyWith(
      `issuer: { type: api-keys, url: "http://a", client: a, adminToken: "\${env:T}", scope: [a] }\n${STORES}`,
    ),
    'rotation.config.yaml:4:83: unknown key "scope" in secrets.payments.issuer: did you mean "scopes"?',
  ],
  [
    "unknown key of a store",
    policyWith(GOOD, "stores:\n  room: { type: local, pathh: x }\n"),
    'rotation.config.yaml:3:24: unknown key "pathh" in stores.room: did you mean "path"?',
  ],
  [
    "unknown key of a delivery",
    policyWith(`${ISSUER}\nstores:\n  - type: local\n    feilds: {}`),
    'rotation.config.yaml:7:9: unknown key "feilds" in secrets.payments.stores[0]: did you mean "fields"?',
  ],
  [
    "values that keyturn would have to make",
    policyWith(`issuer: { type: exec, command: [x], traits: { valueFrom: caller } }\nusage: none\n${STORES}`),
    "rotation.config.yaml:4:62: secrets.payments.issuer.traits.valueFrom: must be issuer",
  ],
  [
    "unknown key in defaults",
    "version: 1\ndefaults: { overlap: { minimun: 1h } }\nsecrets: {}\n",
    'rotation.config.yaml:2:24: unknown key "minimun" in defaults.overlap: did you mean "minimum"?',
  ],
  [
    "unknown key of a hook point",
    policyWith(`${GOOD}\nhooks: { afterDone: [{ rnu: x }] }`),
    [
      "rotation.config.yaml:6:26: secrets.payments.hooks.afterDone[0]: run is missing",
      'rotation.config.yaml:6:28: unknown key "rnu" in secrets.payments.hooks.afterDone[0]: did you mean "run"?',
    ].join("\n"),
  ],
  [
    "unknown key of a consumer",
    policyWith(`${GOOD}\nconsumers:\n  - name: a\n    cadance: 1h`),
    'rotation.config.yaml:8:9: unknown key "cadance" in secrets.payments.consumers[0]: did you mean "cadence"?',
  ],
  [
    "unknown key of a usage entry",
    policyWith(`${GOOD}\nusage: [{ type: issuer, lagg: 1h }]`),
    'rotation.config.yaml:6:29: unknown key "lagg" in secrets.payments.usage[0]: did you mean "lag"?',
  ],
  [
    "type written wrongly",
    policyWith(`issuer: { tpye: api-keys }\n${STORES}`),
    'rotation.config.yaml:4:15: unknown key "tpye" in secrets.payments.issuer: did you mean "type"?',
  ],
  [
    "no type",
    policyWith(`issuer: { client: a }\n${STORES}`),
    "rotation.config.yaml:4:5: secrets.payments.issuer: type is missing",
  ],
  [
    "unknown type",
    policyWith(`issuer: { type: api-kyes }\n${STORES}`),
    'rotation.config.yaml:4:21: secrets.payments.issuer.type: unknown issuer type "api-kyes": did you mean "api-keys"?',
  ],
  [
    "type of a later version",
    policyWith(`issuer: { type: random, length: 32 }\n${STORES}`),
    `rotation.config.yaml:4:21: secrets.payments.issuer.type: issuer type "random" is not in this version: known are ${Object.keys(registry.issuer).join(", ")}`,
  ],
  [
    "inherited names are no types",
    policyWith(`issuer: { type: constructor }\nstores: [{ use: toString }]`),
    [
      `rotation.config.yaml:4:21: secrets.payments.issuer.type: unknown issuer type: known are ${[...Object.keys(registry.issuer), ...registry.planned.issuer].join(", ")}`,
      "rotation.config.yaml:5:21: secrets.payments.stores[0].use: unknown store",
    ].join("\n"),
  ],
  [
    "one IAM user in two secrets",
    [
      "version: 1",
      "secrets:",
      ...["one", "two"].flatMap((name) => [
        `  ${name}:`,
        `    issuer: { type: aws-iam, user: app, expect: { account: "123456789012" }, exclusive: ${name === "one"} }`,
        "    stores: [{ type: local }]",
      ]),
    ].join("\n"),
    "rotation.config.yaml:7:13: secrets.two.issuer: is the same owner as that of one: its slots hold one rotation at a time",
  ],
  [
    "an event that nobody sends",
    'version: 1\nnotifiers: { ops: { type: webhook, url: "http://h", events: [bloked] } }\n',
    'rotation.config.yaml:2:62: notifiers.ops.events[0]: is unknown: did you mean "blocked"?',
  ],
  [
    "a misspelt key of an inline store is told beside what is missing",
    policyWith(`${ISSUER}\nstores: [{ type: dotenv, pth: app.env }]`),
    [
      "rotation.config.yaml:5:14: secrets.payments.stores[0]: path is missing",
      'rotation.config.yaml:5:30: unknown key "pth" in secrets.payments.stores[0]: did you mean "path"?',
    ].join("\n"),
  ],
  [
    "no fields where nobody knows them",
    policyWith(
      "issuer: { type: exec, command: [x], traits: { maxKeys: 2 } }\nusage: none\nstores: [{ type: local }, { type: dotenv, path: app.env }]",
    ),
    "rotation.config.yaml:6:31: secrets.payments.stores[1]: fields is missing",
  ],
  [
    "a method that is none",
    "version: 1\nstores: { v: { type: vault-kv, mount: secret, auth: { method: aprole } } }\n",
    'rotation.config.yaml:2:63: stores.v.auth.method: must be token or approle or kubernetes or jwt or aws or userpass: did you mean "approle"?',
  ],
  [
    "usage of another type",
    policyWith(`${GOOD}\nusage: [{ type: isuer }]`),
    'rotation.config.yaml:6:21: secrets.payments.usage[0].type: unknown usage type "isuer": did you mean "issuer"?',
  ],
  [
    "a setting that is missing",
    policyWith(`issuer: { type: api-keys, client: a, adminToken: "\${env:T}" }\n${STORES}`),
    "rotation.config.yaml:4:5: secrets.payments.issuer: url is missing",
  ],
  [
    "a setting of the wrong kind",
    policyWith(`issuer: { type: api-keys, url: 7, client: a, adminToken: "\${env:T}" }\n${STORES}`),
    "rotation.config.yaml:4:36: secrets.payments.issuer.url: must be a text",
  ],
  [
    "unknown store",
    policyWith(`${ISSUER}\nstores: [{ use: prdo }]`, "stores:\n  prod: { type: local }\n"),
    'rotation.config.yaml:7:21: secrets.payments.stores[0].use: unknown store "prdo": did you mean "prod"?',
  ],
  [
    "use and type",
    policyWith(`${ISSUER}\nstores: [{ use: prod, type: local }]`, "stores:\n  prod: { type: local }\n"),
    "rotation.config.yaml:7:33: secrets.payments.stores[0].type: use and type exclude each other",
  ],
  [
    "neither use nor type",
    policyWith(`${ISSUER}\nstores: [{ name: a }]`),
    "rotation.config.yaml:5:14: secrets.payments.stores[0]: use is missing",
  ],
  [
    "no stores",
    policyWith(`${ISSUER}\nstores: []`),
    "rotation.config.yaml:5:13: secrets.payments.stores: must not be empty",
  ],
  [
    "unknown field of the issuer",
    policyWith(`${ISSUER}\nstores: [{ type: local, fields: { KEY: apiKy } }]`),
    'rotation.config.yaml:5:44: secrets.payments.stores[0].fields.KEY: is no field of the issuer: did you mean "apiKey"?',
  ],
  [
    "a credential in clear",
    policyWith(`issuer: { type: api-keys, url: "http://a", client: a, adminToken: "swordfish" }\n${STORES}`),
    "rotation.config.yaml:4:71: secrets.payments.issuer.adminToken: a credential stands here in clear",
  ],
  [
    "a password in a URL",
    policyWith(
      `issuer: { type: api-keys, url: "http://me:swordfish@host/", client: a, adminToken: "\${env:T}" }\n${STORES}`,
    ),
    "rotation.config.yaml:4:36: secrets.payments.issuer.url: a password stands in this URL in clear",
  ],
  [
    "a broken reference",
    policyWith(`issuer: { type: api-keys, url: "\${env:}", client: a, adminToken: "\${env:T}" }\n${STORES}`),
    "rotation.config.yaml:4:36: secrets.payments.issuer.url: holds a broken reference: write ${env:NAME} or ${file:PATH}",
  ],
  [
    "no duration",
    policyWith(`${GOOD}\noverlap: { quiet: 26 }`),
    "rotation.config.yaml:6:23: secrets.payments.overlap.quiet: is no duration: write 90d, 1h30m, 0s",
  ],
  [
    "no duration, as a scalar",
    policyWith(`${GOOD}\nsoak: soon`),
    "rotation.config.yaml:6:11: secrets.payments.soak.for: is no duration: write 90d, 1h30m, 0s",
  ],
  [
    "a word out of a list",
    policyWith(`${GOOD}\noverlap: { onMaximum: blok }`),
    'rotation.config.yaml:6:27: secrets.payments.overlap.onMaximum: must be block or alert: did you mean "block"?',
  ],
  [
    "usage of the wrong kind",
    policyWith(`${GOOD}\nusage: nobody`),
    "rotation.config.yaml:6:12: secrets.payments.usage: must be none or a list",
  ],
  [
    "every and cron",
    policyWith(`${GOOD}\nschedule: { every: 1d, cron: "0 3 * * *" }`),
    "rotation.config.yaml:6:15: secrets.payments.schedule: every and cron exclude each other",
  ],
  [
    "a cron expression",
    policyWith(`${GOOD}\nschedule: { cron: "every day" }`),
    "rotation.config.yaml:6:23: secrets.payments.schedule.cron: is no cron expression such as 0 3 1 * *",
  ],
  [
    "a cron that never comes",
    policyWith(`${GOOD}\nschedule: { cron: "0 0 30 2 *" }`),
    "rotation.config.yaml:6:23: secrets.payments.schedule.cron: names no moment that ever comes",
  ],
  [
    "a cron's zone",
    policyWith(`${GOOD}\nschedule: { cron: "0 3 * * *", zone: Europe/Berlim }`),
    "rotation.config.yaml:6:42: secrets.payments.schedule.zone: is no time zone such as Europe/Berlin",
  ],
  [
    "a window that never opens",
    policyWith(`${GOOD}\nschedule: { every: 1d, window: "Mon 09:00-09:00" }`),
    "rotation.config.yaml:6:36: secrets.payments.schedule.window: never opens: a range starts when it ends (all day is 00:00-24:00)",
  ],
  [
    "a window's zone",
    policyWith(`${GOOD}\nschedule: { every: 1d, window: "09:00-10:00 Mars" }`),
    "rotation.config.yaml:6:36: secrets.payments.schedule.window: ends in something that is no time zone such as Europe/Berlin",
  ],
  [
    "minimum over maximum",
    policyWith(`${GOOD}\noverlap: { minimum: 20d }`),
    "rotation.config.yaml:6:25: secrets.payments.overlap.minimum: is longer than overlap.maximum",
  ],
  [
    "spread over deadline, in defaults, told once",
    policyWith(GOOD, "defaults: { verify: { spread: 6m } }\n"),
    "rotation.config.yaml:2:31: defaults.verify.spread: is longer than verify.deadline",
  ],
  [
    "unknown notifier",
    policyWith(
      `${GOOD}\nconsumers: [{ name: a, notify: opps }]`,
      'notifiers: { ops: { type: webhook, url: "http://h" } }\n',
    ),
    'rotation.config.yaml:7:36: secrets.payments.consumers[0].notify: unknown notifier "opps": did you mean "ops"?',
  ],
  [
    "a consumer twice",
    policyWith(`${GOOD}\nconsumers: [{ name: a }, { name: a }]`),
    "rotation.config.yaml:6:38: secrets.payments.consumers[1].name: this consumer is named twice",
  ],
  [
    "two writers of one field",
    policyWith(`${ISSUER}\nstores: [{ type: dotenv, path: .env, fields: { A: apiKey } }]`) +
      `  orders:\n    ${ISSUER}\n    stores: [{ type: dotenv, path: ./.env, fields: { A: apiKey } }]\n`,
    "rotation.config.yaml:8:14: secrets.orders.stores[0]: writes the same field of the same object as secrets.payments.stores[0]",
  ],
  [
    "a name with a slash",
    'version: 1\nsecrets:\n  "a/b": 3\n',
    [
      "rotation.config.yaml:3:3: secrets: a name is letters, digits, dot, dash and underscore, starts with a letter or digit, and has at most 63",
      "rotation.config.yaml:3:10: secrets.…: must be a map",
    ].join("\n"),
  ],
  ["a section of the wrong kind", "version: 1\nsecrets: [a]\n", "rotation.config.yaml:2:10: secrets: must be a map"],
  ["no version", "secrets: {}\n", "rotation.config.yaml:1:1: the policy: version is missing"],
  ["another version", "version: 2\nsecrets: {}\n", "rotation.config.yaml:1:10: version: must be 1"],
  [
    "$import is an unknown key",
    "version: 1\n$import: other.yaml\nsecrets: {}\n",
    "rotation.config.yaml:2:1: unknown key: known are version, include, state, maxConcurrent, blackouts, defaults, stores, notifiers, secrets",
  ],
  [
    "a state URL with a typing error",
    "version: 1\nstate: sqlte:x.db\n",
    'rotation.config.yaml:2:8: state: is no state URL such as sqlite:.keyturn/state.db: did you mean "sqlite"?',
  ],
  [
    "a state URL with an unknown key",
    "version: 1\nstate: s3://ops/p?regoin=eu-west-1\n",
    'rotation.config.yaml:2:8: state: has an unknown key "regoin": did you mean "region"?',
  ],
  [
    "a password in the state URL",
    'version: 1\nstate: { url: "sqlite://me:swordfish@host/db" }\n',
    "rotation.config.yaml:2:15: state.url: a password stands in this URL in clear",
  ],
];

describe("bad input is refused at its place", () => {
  test.each(cases)("%s", async (_, text, message) => {
    const error = await refusal(text);
    expect(error.message).toBe(message);
    expect(error.code).toBe("policy-invalid");
    expect(error.options.exit).toBe(2);
    expect(error.options.at).toBe(message.split(": ")[0]);
  });
});

const syntax: [string, string, string][] = [
  ["a key twice", "version: 1\nversion: 1\n", "rotation.config.yaml:2:1: this key stands here for the second time"],
  ["a tab", "version: 1\nsecrets:\n\tpayments: {}\n", "rotation.config.yaml:3:1: a tab where YAML wants spaces"],
  [
    "a bracket left open",
    "version: 1\nsecrets: { a: [\n",
    "rotation.config.yaml:3:1: a bracket or quote that is not closed, or a comma that is missing",
  ],
  ["a tag", "version: !!js/function 'x'\n", "rotation.config.yaml:1:27: a tag (!…): a policy is plain data"],
  [
    "an alias without its anchor",
    "version: *nobody\n",
    "rotation.config.yaml:1:17: an alias (*…) without its anchor (&…), or a broken one",
  ],
  ["two documents", "version: 1\n---\nversion: 1\n", "rotation.config.yaml: more than one document"],
  [
    "an alias to itself",
    "version: 1\nsecrets: &a { b: *a }\n",
    "rotation.config.yaml: it is nested too deeply, or its aliases (*…) unfold without end",
  ],
  [
    "a key that is no key",
    "version: 1\nsecrets: { __proto__: { a: 1 } }\n",
    "rotation.config.yaml: no key may be called __proto__",
  ],
];

describe("broken YAML is told in our own words", () => {
  test.each(syntax)("%s", async (_, text, message) => {
    const error = await refusal(text);
    expect(error.message).toBe(message);
    expect([error.code, error.options.exit]).toEqual(["policy-syntax", 2]);
  });

  test("JSON too: a key twice", async () => {
    const error = await refusal({ "rotation.config.json": '{\n\t"version": 1,\n\t"version": 1\n}' });
    expect(error.message).toBe("rotation.config.json:3:2: this key stands here for the second time");
  });

  test("aliases of aliases do not eat the machine", async () => {
    const levels = Array.from(
      { length: 30 },
      (_, n) =>
        `  a${n}: &a${n} [${
          n === 0
            ? "x"
            : Array(9)
                .fill(`*a${n - 1}`)
                .join(",")
        }]`,
    ).join("\n");
    expect((await refusal(`version: 1\nsecrets:\n${levels}\n`)).code).toBe("policy-syntax");
  });
});

test("every issue is listed, twenty at most, and the hints say what helps", async () => {
  const secrets = Array.from(
    { length: 30 },
    (_, n) =>
      `  s${n}:\n    issuer: { type: api-keys, url: "http://a", client: a, adminToken: clear }\n    ${STORES}\n`,
  ).join("");
  const error = await refusal(`version: 1\nsecrets:\n${secrets}`);
  const lines = error.message.split("\n");
  expect(lines).toHaveLength(21);
  expect(lines[1]).toMatch(/^rotation\.config\.yaml:7:\d+: secrets\.s1\.issuer\.adminToken: a credential/);
  expect(lines.at(-1)).toBe("and 10 more");
  expect(error.options.hints).toEqual([expect.stringContaining("${env:NAME}")]);
});

test("places are found in JSON and in package.json as well", async () => {
  const json = { version: 1, secrets: { a: { issuer: { type: "nothing" }, stores: [{ type: "local" }] } } };
  expect((await refusal({ "rotation.config.json": JSON.stringify(json, null, "\t") })).options.at).toBe(
    "rotation.config.json:6:13",
  );
  expect((await refusal({ "package.json": JSON.stringify({ name: "x", rotation: json }, null, 2) })).options.at).toBe(
    "package.json:8:19",
  );
});
