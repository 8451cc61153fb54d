export { AdminCallFailed, AdminClient, type AdminClientOptions } from "./admin-client.ts";
export { DatabaseUnusable } from "./database.ts";
export type { Client, Key } from "./registry.ts";
export { isUsableToken, startAuthority, type AuthorityOptions, type RunningAuthority } from "./server.ts";
export type { UsageEvent } from "./usage.ts";
export { isWellFormed } from "./value.ts";
