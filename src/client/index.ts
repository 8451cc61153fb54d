export { keyturnClient, type ClientOptions, type KeyturnClient, type ReportingHeaders } from "./keys.ts";
export { localSource, LocalSourceError, type LocalSourceOptions } from "./local-source.ts";
export type { KeySource, Served } from "./source.ts";
