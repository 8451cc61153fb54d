import { isLoopback, parseListen } from "./listen.ts";
import { duration, text, wholeNumber } from "./options.ts";
import { verb } from "./verb.ts";

const DEFAULT_LISTEN = "127.0.0.1:9464";
const SWEEP = 60_000;

export const worker = verb({
  parse: (_, options) => ({
    ...parseListen(text(options, "--listen") ?? DEFAULT_LISTEN, DEFAULT_LISTEN),
    concurrency: wholeNumber(options, "--concurrency"),
    sweep: Math.max(1000, duration(options, "--sweep") ?? SWEEP),
  }),
  run: async (options, session) => {
    const { Worker } = await import("../fleet/worker.ts");
    if (!isLoopback(options.host))
      session.terminal.say("warning: this is plain HTTP on an address that others reach: it tells them secrets' names");
    const worker = new Worker(options, session);
    const reload = (): void => void worker.reload();
    process.on("SIGHUP", reload);
    try {
      await worker.run();
    } finally {
      process.off("SIGHUP", reload);
    }
    return { outcome: "done", secrets: [], text: () => "", instead: "" };
  },
});
