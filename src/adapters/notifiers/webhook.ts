import { createHmac } from "node:crypto";
import * as z from "zod";
import { parseDuration } from "../../core/duration.ts";
import { ProviderError } from "../../core/errors.ts";
import { credential, type NotifierAdapter } from "../../ports/adapter.ts";
import { failureOf, request, type HttpAnswer } from "../http.ts";

const settings = z.strictObject({
  url: z.string().min(1).describe("Where to POST. If the URL itself is a credential, write it as a reference."),
  secret: credential().optional().describe("Key of the signature. Without it nothing is signed."),
  timeout: z
    .string()
    .refine((text) => parseDuration(text) !== null, { error: "is no duration: write 10s" })
    .meta({ duration: true })
    .default("10s")
    .describe("For one attempt, connecting included. Default: 10s."),
});

/** Statuses below 500 that say "not now", where {@link failureOf} has no such word for them. */
const NOT_NOW: ReadonlySet<number> = new Set([408, 409, 425]);

/**
 * POSTs each notification as JSON: `{ id, secret, at, type, reason, message, data }`, `at` in ms since 1970.
 *
 * Headers: `keyturn-event-id`, the same for every attempt to deliver one event; `keyturn-timestamp`, unix seconds of
 * this attempt; with `secret`, `keyturn-signature: v1=HEX`.
 *
 * A receiver verifies it so: take the raw body before parsing; compute HMAC-SHA256 with the secret over the
 * timestamp header, a full stop and the body; compare as hex in constant time; refuse timestamps more than five
 * minutes away; ignore an event id it has seen. Any 2xx says "taken". 408, 409, 425, 429, 5xx and no answer are
 * tried again later, whatever else is not.
 */
export const adapter: NotifierAdapter<typeof settings> = {
  type: "webhook",
  settings,
  create: ({ url, secret, timeout }, deps) => ({
    async send(notification, ctx) {
      const body = JSON.stringify(notification);
      const timestamp = String(Math.floor(deps.now() / 1000));
      const headers: Record<string, string> = {
        "content-type": "application/json",
        "user-agent": "keyturn",
        "keyturn-event-id": notification.id,
        "keyturn-timestamp": timestamp,
      };
      if (secret !== undefined) headers["keyturn-signature"] = `v1=${sign(secret, timestamp, body)}`;
      const limit = parseDuration(timeout) ?? 0;
      const answer = await request({ method: "POST", url, headers, body, timeout: limit, ctx, mutates: true });
      if (answer.status < 200 || answer.status > 299) throw refusal(answer);
    },
  }),
};

function sign(secret: string, timestamp: string, body: string): string {
  return createHmac("sha256", secret).update(`${timestamp}.${body}`).digest("hex");
}

function refusal(answer: HttpAnswer): ProviderError {
  const failure = failureOf(answer, "sending a notification", true);
  if (!NOT_NOW.has(answer.status)) return failure;
  return new ProviderError("unavailable", failure.applied, failure.message, failure.detail);
}
