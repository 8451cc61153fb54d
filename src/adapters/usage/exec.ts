import * as z from "zod";
import type { UsageAdapter } from "../../ports/adapter.ts";
import { execSettings, Program } from "../exec.ts";
import { ExecUsage, signalSettings } from "../exec-usage.ts";

const settings = z.strictObject({ ...execSettings, ...signalSettings });

/** Who uses which key, as a program of your own says it: the op `usage`. See {@link ExecUsage}. */
export const adapter: UsageAdapter<typeof settings> = {
  type: "exec",
  settings,
  asks: ["granularity", "lag"],
  create: (options, secret, deps) => {
    const { names, history, seesDenied } = options;
    const traits = { granularity: 0, lag: 0, names, history, seesDenied };
    return new ExecUsage(traits, new Program(options, secret, deps), deps.now);
  },
};
