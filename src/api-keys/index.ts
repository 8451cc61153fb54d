export { DatabaseUnusable } from "./database.ts";
export type { Client, Key } from "./registry.ts";
export { startAuthority, type AuthorityOptions, type RunningAuthority } from "./server.ts";
export type { UsageEvent } from "./usage.ts";
export { isWellFormed } from "./value.ts";
