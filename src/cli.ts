declare const KEYTURN_VERSION: string;

const argv = process.argv.slice(2);

// Before anything is loaded: scripts ask for it often.
if (argv.length === 1 && (argv[0] === "--version" || argv[0] === "-V")) process.stdout.write(`${KEYTURN_VERSION}\n`);
else await start();

async function start(): Promise<void> {
  const { main } = await import("./commands/main.ts");
  const stop = new AbortController();
  for (const [name, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    process.on(name, () => (stop.signal.aborted ? process.exit(code) : stop.abort(name)));
  }
  // Whoever read our output has gone, or has no room for it: no reason to leave work half done.
  let lost: string | null = null;
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => (lost = code === "EPIPE" ? null : (code ?? "?")));
  process.stderr.on("error", () => {});
  // What the AWS SDK says of old Node versions is about the next version of keyturn, not about this run.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  const crashed = new Promise<never>((_, reject) => {
    process.on("uncaughtException", reject);
    process.on("unhandledRejection", reject);
  });
  crashed.catch(() => {});

  const { stdin, stdout, stderr, env } = process;
  const world = { argv, stdin, stdout, stderr, env, cwd: process.cwd(), version: KEYTURN_VERSION, now: Date.now };
  const code = await main({ ...world, signal: stop.signal, crashed }).catch(untold);
  await Promise.all([stdout, stderr].map((stream) => new Promise((done) => stream.write("", () => done(null)))));
  if (lost !== null) process.stderr.write(`keyturn: the answer could not be written (${lost})\n`);
  process.exit(lost !== null && code === 0 ? 1 : code);
}

/** What `main` itself could not tell, for it threw there; never a success. */
async function untold(error: unknown): Promise<number> {
  const { failureOf, failureText } = await import("./ui/failure.ts");
  const failure = failureOf(error);
  process.stderr.write(`${failureText(failure, false)}\n`);
  return failure.exit;
}
