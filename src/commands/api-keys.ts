import { setTimeout as sleep } from "node:timers/promises";
import {
  AdminCallFailed,
  AdminClient,
  DatabaseUnusable,
  isUsableToken,
  startAuthority,
  type Key,
  type RunningAuthority,
} from "../api-keys/index.ts";
import { maskingOf } from "../ci/masking.ts";
import { runnerOf } from "../ci/runner.ts";
import { UserError } from "../core/errors.ts";
import { isLoopback, parseListen } from "./listen.ts";

const TOKEN = "KEYTURN_API_KEYS_ADMIN_TOKEN";
const URL_VARIABLE = "KEYTURN_API_KEYS_URL";
const DEFAULT_LISTEN = "127.0.0.1:8787";

interface Io {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
}

interface Answer {
  readonly exit: 0;
  /** For people, on stdout; without a line end. "" where nothing is left to say. */
  readonly text: string;
  /** The command's own member of the JSON document. */
  readonly member: Readonly<Record<string, unknown>>;
}

export interface AuthorityAddress {
  /** `--url`; else the environment says. */
  readonly url?: string | undefined;
}

export interface KeyAddress extends AuthorityAddress {
  readonly client: string;
  readonly key: string;
}

/**
 * Runs the authority until the signal aborts, then drains it. Prints one line with its address when it is ready.
 * @throws UserError when it cannot start
 */
export async function serve(
  options: { readonly db: string; readonly listen?: string | undefined },
  io: Io,
): Promise<Answer> {
  const { host, port } = parseListen(options.listen ?? DEFAULT_LISTEN, DEFAULT_LISTEN);
  const adminToken = tokenFrom(io.env);
  let running: RunningAuthority;
  try {
    running = await startAuthority({ db: options.db, host, port, adminToken });
  } catch (error) {
    throw startFailure(error, options.listen ?? DEFAULT_LISTEN);
  }
  if (!isLoopback(host))
    io.stderr.write("keyturn: this is plain HTTP on an address that others reach: put TLS before it\n");
  io.stdout.write(`keyturn api-keys: listening on ${running.url}\n`);
  if (!io.signal.aborted) {
    await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
  }
  await running.close();
  return { exit: 0, text: "", member: {} };
}

export async function clientAdd(
  options: AuthorityAddress & {
    readonly name: string;
    readonly maxKeys?: number | undefined;
    readonly scopes?: readonly string[] | undefined;
  },
  io: Io,
): Promise<Answer> {
  const { maxKeys, scopes } = options;
  const settings = { ...(maxKeys === undefined ? {} : { maxKeys }), ...(scopes === undefined ? {} : { scopes }) };
  const { createdAt, ...client } = await call(options, io, (authority) => authority.addClient(options.name, settings));
  const text = `client ${client.name}: up to ${client.maxKeys} keys${scopesText(client.scopes)}`;
  return { exit: 0, text, member: { client: { ...client, createdAt: iso(createdAt) } } };
}

/** The one command that prints a value, once. A runner is told to mask it before. */
export async function keyAdd(options: AuthorityAddress & { readonly client: string }, io: Io): Promise<Answer> {
  const { id, client, value, createdAt, scopes } = await call(options, io, (authority) =>
    authority.addKey(options.client),
  );
  await mask(value, io);
  const text = `key ${id} of client ${client}${scopesText(scopes)}; its value, shown this once:\n${value}`;
  return { exit: 0, text, member: { key: { id, client, value, createdAt: iso(createdAt), scopes } } };
}

/** A runner reads stdout and stderr side by side: so long it has for the mask before it sees the value, ms. */
const HEAD_START = 250;

async function mask(value: string, { env, stderr }: Io): Promise<void> {
  const runner = await runnerOf(env);
  if (runner === null) return;
  const tell = await maskingOf(env, (line) => stderr.write(`${line}\n`));
  if (tell === null) {
    stderr.write(`warning: ${runner.name} is not told to mask this value: let nothing print it\n`);
    return;
  }
  tell(value);
  await sleep(HEAD_START);
}

export async function keyList(options: AuthorityAddress & { readonly client: string }, io: Io): Promise<Answer> {
  const keys = await call(options, io, (authority) => authority.keys(options.client));
  const lines = keys.map((key) =>
    [key.id, key.status, iso(key.createdAt), `${key.prefix}…`, key.label].join("  ").trimEnd(),
  );
  return {
    exit: 0,
    text: lines.join("\n") || `client ${options.client} has no keys`,
    member: { keys: keys.map(shown) },
  };
}

export async function keyDisable(options: KeyAddress, io: Io): Promise<Answer> {
  return changed(await call(options, io, (authority) => authority.disable(options.client, options.key)));
}

export async function keyEnable(options: KeyAddress, io: Io): Promise<Answer> {
  return changed(await call(options, io, (authority) => authority.enable(options.client, options.key)));
}

export async function keyDelete(options: KeyAddress, io: Io): Promise<Answer> {
  return changed(await call(options, io, (authority) => authority.delete(options.client, options.key)));
}

function changed(key: Key): Answer {
  return { exit: 0, text: `key ${key.id} of client ${key.client}: ${key.status}`, member: { key: shown(key) } };
}

function shown({ createdAt, expiresAt, ...key }: Key) {
  return { ...key, createdAt: iso(createdAt), expiresAt: expiresAt === null ? null : iso(expiresAt) };
}

async function call<T>(options: AuthorityAddress, io: Io, ask: (authority: AdminClient) => Promise<T>): Promise<T> {
  const url = options.url ?? io.env[URL_VARIABLE];
  if (url === undefined || url === "") {
    throw new UserError("usage", "which authority is not said", {
      exit: 2,
      hints: [`give --url or set ${URL_VARIABLE}`],
    });
  }
  if (!URL.canParse(url)) throw new UserError("usage", "the authority's address is no URL", { exit: 2 });
  try {
    return await ask(new AdminClient({ url, adminToken: tokenFrom(io.env), signal: io.signal }));
  } catch (error) {
    throw error instanceof AdminCallFailed ? callFailure(error.code, new URL(url).origin) : error;
  }
}

/** Message, hint and exit code for each word of the authority. */
const FAILURES: Readonly<Record<string, readonly [message: string, exit: 1 | 2, hint?: string]>> = {
  quota: ["the client has as many keys as it may", 1, "keyturn api-keys key list --client NAME"],
  exists: ["a client of this name exists", 1],
  "unknown-client": ["there is no such client", 1, "keyturn api-keys client add NAME"],
  "unknown-key": ["the client has no such key", 1, "keyturn api-keys key list --client NAME"],
  scope: ["the client itself does not have all of these scopes", 2],
  invalid: [
    "the authority does not accept a name or a number of this command",
    2,
    "names begin with a letter or a digit and go on with up to 62 of letters, digits, dot, hyphen and underscore",
  ],
  unauthenticated: ["the admin token is refused", 1, `set ${TOKEN} to the token that the authority was started with`],
  "not-listening": ["nothing listens there: nothing was done", 1, "keyturn api-keys serve --db FILE"],
  unreachable: [
    "no answer; if this was to change something, it may have been done all the same",
    1,
    "look before you say it again: keyturn api-keys key list --client NAME",
  ],
};

function callFailure(code: string, origin: string): UserError {
  const [message, exit, hint] = FAILURES[code] ?? ["something else than an API-key authority answers", 1];
  return new UserError(`api-keys-${code}`, `${origin}: ${message}`, { exit, hints: hint === undefined ? [] : [hint] });
}

function startFailure(error: unknown, listen: string): unknown {
  if (error instanceof DatabaseUnusable) return new UserError("api-keys-database", error.message, { exit: 1 });
  const code = (error as NodeJS.ErrnoException).code;
  if (code === undefined || !["EADDRINUSE", "EADDRNOTAVAIL", "EACCES", "ENOTFOUND"].includes(code)) return error;
  return new UserError("api-keys-listen", `cannot listen on ${listen} (${code})`, {
    exit: 1,
    hints: ["give --listen another HOST:PORT"],
  });
}

function tokenFrom(env: Io["env"]): string {
  const token = env[TOKEN];
  if (token === undefined || token === "") {
    throw new UserError("credentials-missing", `${TOKEN} is not set`, {
      exit: 2,
      hints: [`${TOKEN}=… holds the authority's admin token`],
    });
  }
  if (!isUsableToken(token)) {
    throw new UserError("credentials-missing", `${TOKEN} holds spaces or signs that no header carries`, { exit: 2 });
  }
  return token;
}

function scopesText(scopes: readonly string[]): string {
  return scopes.length === 0 ? "" : `, scopes ${scopes.join(", ")}`;
}

function iso(instant: number): string {
  return new Date(instant).toISOString();
}
