import type { Instant } from "../core/duration.ts";
import type { Ctx } from "./context.ts";

/** What people are told. No values. */
export interface Notification {
  /** The same for every attempt to deliver this event. */
  readonly id: string;
  readonly secret: string;
  readonly at: Instant;
  /** `blocked failed straggler done started …`: what a policy's `events:` lists. */
  readonly type: string;
  readonly reason: string | null;
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface Notifier {
  /** Resolves once the receiver has taken it. Throws `ProviderError`; the engine comes again later. */
  send(notification: Notification, ctx: Ctx): Promise<void>;
}
