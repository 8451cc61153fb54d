import type { Instant } from "../core/duration.ts";
import type { KeyId, KeyUsage } from "../core/observed.ts";
import type { UsageTraits } from "../core/rules.ts";
import type { Ctx, Permission } from "./context.ts";

export type { KeyUsage, UsageEvent } from "../core/observed.ts";
export type { UsageTraits } from "../core/rules.ts";

/** Says who uses which key. Reads only. */
export interface UsageMonitor {
  readonly traits: UsageTraits;
  /** The least that looking has to be allowed. */
  permissions?(): readonly Permission[];
  /** One entry for each key asked about; a key it cannot answer for is `unknown`, never left out. */
  usageOf(keyIds: readonly KeyId[], since: Instant, ctx: Ctx): Promise<ReadonlyMap<KeyId, KeyUsage>>;
}
