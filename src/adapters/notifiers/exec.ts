import * as z from "zod";
import type { NotifierAdapter } from "../../ports/adapter.ts";
import { execSettings, Program } from "../exec.ts";

const settings = z.strictObject(execSettings);

/** Hands each notification to a program of your own: `send { notification: { id, secret, at, type, … } }`. */
export const adapter: NotifierAdapter<typeof settings> = {
  type: "exec",
  settings,
  create: (options, deps) => ({
    send: async (notification, ctx) => {
      const program = new Program(options, notification.secret, deps);
      await program.call("send", z.unknown(), { ctx, mutates: true, request: { notification } });
    },
  }),
};
