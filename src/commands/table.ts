import type { Verb } from "./verb.ts";

export interface OptionLine {
  /** `--wait-max <duration>`: takes a value; `--wait`: does not. */
  readonly flags: string;
  readonly summary: string;
  /** May be given several times. */
  readonly many?: true;
}

export interface VerbLine {
  /** May be several words: `api-keys client add`. */
  readonly name: string;
  readonly summary: string;
  /** As commander writes them: `<secret>`, `[secrets...]`. */
  readonly arguments: string;
  readonly options: readonly OptionLine[];
  readonly load: () => Promise<Verb>;
  /** It only tells: exit 0 when it could answer, unless --detailed-exitcode. */
  readonly answers?: true;
  /** A signal is how it ends: no interruption, exit 0. */
  readonly untilStopped?: true;
  /** Nothing of it outlives it: interrupted, there is nothing to go on with. */
  readonly leavesNothing?: true;
}

/** Before or after every verb. No verb has an option of the same name, nor one name with and without a value. */
export const GLOBAL_OPTIONS: readonly OptionLine[] = [
  { flags: "-c, --config <file>", summary: "the policy file (default: rotation.config.* in this folder)" },
  {
    flags: "--state <url>",
    summary: "where the state lives, instead of what the policy says: sqlite:PATH, postgres://…, s3://…, vault-kv:PATH",
  },
  { flags: "--json", summary: "exactly one JSON document on stdout" },
  { flags: "--quiet", summary: "no prose and no progress; errors still show" },
  { flags: "--verbose", summary: "say more; stack frames of errors" },
  { flags: "--no-color", summary: "no colours (also NO_COLOR)" },
  { flags: "--yes", summary: "answer every question with yes" },
  { flags: "--detailed-exitcode", summary: "exit 8 while something is awaited; telling commands exit as run would" },
  { flags: "--lock-timeout <duration>", summary: "wait so long for another run's lease (default: 0s)" },
];

const SELECTORS: readonly OptionLine[] = [
  { flags: "--tag <tag>", summary: "secrets with this tag" },
  { flags: "--store <name>", summary: "secrets delivered to this store, by name or type" },
  { flags: "--issuer <type>", summary: "secrets of this type of issuer" },
  { flags: "--all", summary: "all secrets" },
];

const WAIT: readonly OptionLine[] = [
  { flags: "--wait", summary: "stay until the rotation has ended" },
  { flags: "--wait-max <duration>", summary: "stay no longer than this" },
];

const LIMIT: OptionLine = { flags: "--limit <number>", summary: "so many of the newest entries (default: 50)" };
const CLIENT: OptionLine = { flags: "--client <name>", summary: "whose key" };
const KEY: OptionLine = { flags: "--key <id>", summary: "the key's id at the issuer" };
const URL_: OptionLine = { flags: "--url <url>", summary: "the authority's address (or KEYTURN_API_KEYS_URL)" };

const apiKeys = async (name: "serve" | "clientAdd" | "keyAdd" | "keyList" | "keyDisable" | "keyEnable" | "keyDelete") =>
  (await import("./api-keys-verbs.ts"))[name];
const word = async (name: "hold" | "unhold" | "pause" | "resume" | "unlock" | "release") =>
  (await import("./words.ts"))[name];

export const VERBS: readonly VerbLine[] = [
  {
    name: "init",
    summary: "begin a policy, or add a secret to it: looks at what is here, asks, writes, checks",
    arguments: "",
    options: [
      { flags: "--name <name>", summary: "what the secret is called in the policy" },
      { flags: "--issuer <spec>", summary: "who makes its keys: TYPE,key=value,…" },
      {
        flags: "--store <spec>",
        summary: "where consumers read it: TYPE or NAME,key=value,…,fields.NAME=FIELD",
        many: true,
      },
      { flags: "--every <duration>", summary: "age at which a key is replaced; never: by hand only (default: 90d)" },
    ],
    load: async () => (await import("./init.ts")).init,
    leavesNothing: true,
  },
  {
    name: "validate",
    summary: "check the policy",
    arguments: "",
    options: [],
    answers: true,
    load: async () => (await import("./validate.ts")).validate,
  },
  {
    name: "schema",
    summary: "print the policy's JSON Schema",
    arguments: "",
    options: [],
    answers: true,
    load: async () => (await import("./validate.ts")).schema,
  },
  {
    name: "doctor",
    summary: "check identities, permissions, slots and names; changes nothing",
    arguments: "[secrets...]",
    options: SELECTORS,
    load: async () => (await import("./doctor.ts")).doctor,
  },
  {
    name: "permissions",
    summary: "the least privilege that the policy needs",
    arguments: "[secrets...]",
    options: [{ flags: "--format <form>", summary: "print a policy: iam, vault or terraform" }, ...SELECTORS],
    answers: true,
    load: async () => (await import("./permissions.ts")).permissions,
  },
  {
    name: "plan",
    summary: "what would happen now, and when the rest would; changes nothing",
    arguments: "[secrets...]",
    options: [
      { flags: "--until <time>", summary: "instead: what the schedule starts until then, 30d or a date" },
      { flags: "--format <form>", summary: "ics: that as an iCalendar file" },
      ...SELECTORS,
    ],
    answers: true,
    load: async () => (await import("./plan.ts")).plan,
  },
  {
    name: "adopt",
    summary: "take over the key that is served now",
    arguments: "<secret>",
    options: [KEY],
    load: async () => (await import("./adopt.ts")).adopt,
  },
  {
    name: "rotate",
    summary: "begin a rotation now, or take it up again",
    arguments: "[secrets...]",
    options: [...WAIT, { flags: "--repair", summary: "write over stores that drifted" }, ...SELECTORS],
    load: async () => (await import("./rotate.ts")).rotate,
  },
  {
    name: "run",
    summary: "start what is due, advance all that is in flight",
    arguments: "[secrets...]",
    options: [...WAIT, ...SELECTORS],
    load: async () => (await import("./run.ts")).run,
  },
  {
    name: "status",
    summary: "where everything stands, and why",
    arguments: "[secrets...]",
    options: [
      { flags: "--watch", summary: "draw it again every two seconds" },
      { flags: "--refresh", summary: "look at the providers instead of the state alone" },
      ...SELECTORS,
    ],
    answers: true,
    load: async () => (await import("./status.ts")).status,
  },
  {
    name: "show",
    summary: "everything known of one secret",
    arguments: "<secret>",
    options: [],
    answers: true,
    load: async () => (await import("./show.ts")).show,
  },
  {
    name: "history",
    summary: "what happened to a secret",
    arguments: "[secrets...]",
    options: [LIMIT, ...SELECTORS],
    answers: true,
    load: async () => (await import("./history.ts")).history,
  },
  {
    name: "rollback",
    summary: "serve the old key again",
    arguments: "[secrets...]",
    options: SELECTORS,
    load: async () => (await import("./rollback.ts")).rollback,
  },
  {
    name: "hold",
    summary: "let no key of a secret be disabled or deleted",
    arguments: "[secrets...]",
    options: [
      { flags: "--reason <text>", summary: "why" },
      { flags: "--until <time>", summary: "ends by itself: a duration from now, or a date" },
      ...SELECTORS,
    ],
    load: () => word("hold"),
  },
  {
    name: "unhold",
    summary: "end the holds",
    arguments: "[secrets...]",
    options: SELECTORS,
    load: () => word("unhold"),
  },
  {
    name: "ack",
    summary: "say that a consumer or store certainly has the current version",
    arguments: "<secret>",
    options: [
      { flags: "--consumer <name>", summary: "a consumer of the policy", many: true },
      { flags: "--store <name>", summary: "a store of the secret", many: true },
    ],
    load: async () => (await import("./ack.ts")).ack,
  },
  {
    name: "revoke",
    summary: "end one version as soon as no store serves it",
    arguments: "<secret>",
    options: [
      { flags: "--key-version <id>", summary: "which version", many: true },
      { flags: "--compromised", summary: "it has leaked: it never comes back" },
    ],
    load: async () => (await import("./revoke.ts")).revoke,
  },
  {
    name: "emergency",
    summary: "replace leaked keys and kill them",
    arguments: "[secrets...]",
    options: [
      { flags: "--key-version <id>", summary: "only this version has leaked (default: all living ones)", many: true },
      { flags: "--key-id <id>", summary: "only the version with this key has leaked", many: true },
      { flags: "--grace <duration>", summary: "how long the old keys' usage is waited for (default: 5m)" },
      { flags: "--revoke-first", summary: "kill before the new key is served; needs --accept-outage" },
      { flags: "--accept-outage", summary: "a leaked key may die while a store still serves it" },
      { flags: "--override-hold <secret>", summary: "the holds of this secret do not stop it", many: true },
      ...SELECTORS,
    ],
    load: async () => (await import("./emergency.ts")).emergency,
  },
  {
    name: "pause",
    summary: "start nothing and destroy nothing; without names: of any secret",
    arguments: "[secrets...]",
    options: [{ flags: "--reason <text>", summary: "why" }, ...SELECTORS],
    load: () => word("pause"),
  },
  { name: "resume", summary: "end a pause", arguments: "[secrets...]", options: SELECTORS, load: () => word("resume") },
  {
    name: "unlock",
    summary: "end a stuck lease",
    arguments: "[secrets...]",
    options: SELECTORS,
    load: () => word("unlock"),
  },
  {
    name: "forget",
    summary: "end the management of a secret",
    arguments: "<secret>",
    options: [],
    load: async () => (await import("./forget.ts")).forget,
  },
  {
    name: "release",
    summary: "a key that looks like an orphan of ours is not ours",
    arguments: "<secret> <keyid>",
    options: [],
    load: () => word("release"),
  },
  {
    name: "check",
    summary: "exit 5 and names of what is late, in debt, drifted or not in the policy",
    arguments: "[secrets...]",
    options: [
      { flags: "--max-age <duration>", summary: "how old a key may be (default: its schedule)" },
      { flags: "--grace <duration>", summary: "how long after it is due a rotation may begin (default: 0s)" },
      { flags: "--fail-on <kinds>", summary: "exit 5 for these alone, with commas (default: all)", many: true },
      ...SELECTORS,
    ],
    load: async () => (await import("./check.ts")).check,
  },
  {
    name: "worker",
    summary: "rotate all secrets until it is stopped, beside other workers; needs state in PostgreSQL",
    arguments: "",
    options: [
      { flags: "--concurrency <number>", summary: "secrets at a time, at most (default: maxConcurrent of the policy)" },
      { flags: "--listen <address>", summary: "host and port of its pages (default: 127.0.0.1:9464)" },
      { flags: "--sweep <duration>", summary: "how often it reads every document (default: 1m)" },
    ],
    load: async () => (await import("./worker.ts")).worker,
    untilStopped: true,
  },
  {
    name: "audit",
    summary: "the audit log",
    arguments: "[secret]",
    options: [LIMIT],
    answers: true,
    load: async () => (await import("./history.ts")).audit,
  },
  {
    name: "state migrate",
    summary: "move the whole state to another place; the old one is kept, and says where it went",
    arguments: "",
    options: [{ flags: "--to <url>", summary: "the other place: postgres://…, s3://…, vault-kv:PATH, sqlite:PATH" }],
    load: async () => (await import("./state.ts")).migrate,
  },
  {
    name: "state export",
    summary: "print the whole state as one JSON document; no value is in it",
    arguments: "",
    options: [],
    answers: true,
    load: async () => (await import("./state.ts")).exportState,
  },
  {
    name: "state import",
    summary: "put an exported state into an empty place",
    arguments: "<file>",
    options: [],
    load: async () => (await import("./state.ts")).importState,
  },
  {
    name: "api-keys serve",
    summary: "run the API-key authority",
    arguments: "",
    options: [
      { flags: "--db <file>", summary: "its database" },
      { flags: "--listen <address>", summary: "host and port (default: 127.0.0.1:8787)" },
    ],
    load: () => apiKeys("serve"),
    untilStopped: true,
  },
  {
    name: "api-keys client add",
    summary: "a new client of the authority",
    arguments: "<name>",
    options: [
      { flags: "--max-keys <number>", summary: "how many keys it may have (default: 2)" },
      { flags: "--scopes <scopes>", summary: "what its keys may do, with commas" },
      URL_,
    ],
    load: () => apiKeys("clientAdd"),
  },
  {
    name: "api-keys key add",
    summary: "a new key, printed once",
    arguments: "",
    options: [CLIENT, URL_],
    load: () => apiKeys("keyAdd"),
  },
  {
    name: "api-keys key list",
    summary: "a client's keys",
    arguments: "",
    options: [CLIENT, URL_],
    load: () => apiKeys("keyList"),
  },
  {
    name: "api-keys key disable",
    summary: "refuse a key",
    arguments: "",
    options: [CLIENT, KEY, URL_],
    load: () => apiKeys("keyDisable"),
  },
  {
    name: "api-keys key enable",
    summary: "accept a key again",
    arguments: "",
    options: [CLIENT, KEY, URL_],
    load: () => apiKeys("keyEnable"),
  },
  {
    name: "api-keys key delete",
    summary: "end a key for ever",
    arguments: "",
    options: [CLIENT, KEY, URL_],
    load: () => apiKeys("keyDelete"),
  },
  {
    name: "completion",
    summary: "print a script that completes verbs, options and secrets: bash, zsh or fish",
    arguments: "<shell>",
    options: [],
    answers: true,
    load: async () => (await import("./completion.ts")).completionOf(VERBS, GLOBAL_OPTIONS),
  },
  {
    name: "demo",
    summary: "a whole rotation against embedded parts: no account, no network",
    arguments: "",
    options: [],
    load: async () => (await import("./demo.ts")).demo,
    leavesNothing: true,
  },
];
