import * as z from "zod";
import { parseDuration } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import type { NotifierAdapter } from "../../ports/adapter.ts";
import { failureOf, originOf, request } from "../http.ts";

const settings = z.strictObject({
  url: z
    .string()
    .min(1)
    .describe("What a well run calls; of any other, with /fail at the end of its path. Write it as a reference."),
  timeout: z
    .string()
    .refine((text) => parseDuration(text) !== null, { error: "is no duration: write 10s" })
    .meta({ duration: true })
    .default("10s")
    .describe("For one call, connecting included. Default: 10s."),
});

/**
 * A dead man's switch: whoever runs it raises the alarm when no call has come for too long. It hears of runs and of no
 * event; as with healthchecks.io, a POST to the URL says well, one to URL/fail says not well, and any 2xx is taken.
 */
export const adapter: NotifierAdapter<typeof settings> = {
  type: "heartbeat",
  beats: true,
  settings,
  create: ({ url, timeout }) => ({
    async send() {},
    async beat({ isWell, message }, ctx) {
      const limit = parseDuration(timeout) ?? 0;
      const headers = { "content-type": "text/plain; charset=utf-8", "user-agent": "keyturn" };
      const to = isWell ? url : failing(url);
      const answer = await request({
        method: "POST",
        url: to,
        headers,
        body: message,
        timeout: limit,
        ctx,
        mutates: true,
      });
      if (answer.status < 200 || answer.status > 299) throw failureOf(answer, `calling ${originOf(url)}`, true);
    },
  }),
};

function failing(url: string): string {
  if (!URL.canParse(url)) throw new ProviderError("invalid", "no", "the heartbeat's url is no URL");
  const to = new URL(url);
  to.pathname = `${to.pathname.replace(/\/$/, "")}/fail`;
  return to.href;
}
