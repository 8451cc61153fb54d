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

/** How a run over all secrets ended. No names, no values. */
export interface Beat {
  /** Nothing failed and nothing is blocked. */
  readonly isWell: boolean;
  /** `run: waiting: 3 done, 1 waiting`. */
  readonly message: string;
}

export interface Notifier {
  /** Resolves once the receiver has taken it. Throws `ProviderError`; the engine comes again later. */
  send(notification: Notification, ctx: Ctx): Promise<void>;
  /** For those whom silence alarms: a run over all secrets has ended. Throws `ProviderError`; it is not tried again. */
  beat?(run: Beat, ctx: Ctx): Promise<void>;
}
