import { usageError } from "./options.ts";

/** `HOST:PORT`, `[::1]:PORT`. @param example a line that is right */
export function parseListen(listen: string, example: string): { host: string; port: number } {
  const parts = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/i.exec(listen);
  const port = Number(parts?.[3]);
  const host = parts?.[1] ?? parts?.[2];
  if (host === undefined || port > 65_535)
    throw usageError(`--listen: ${JSON.stringify(listen)} is no HOST:PORT`, `write for example ${example}`);
  return { host, port };
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}
