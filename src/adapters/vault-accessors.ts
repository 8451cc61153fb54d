import * as z from "zod";
import type { Instant } from "../core/duration.ts";
import type { Ctx, VaultPermission } from "../ports/context.ts";
import { isAbsent, read, refusalIn } from "./vault-answer.ts";
import type { Vault } from "./vault.ts";

/** Lookups under way at a time: lists of accessors say nothing of what they stand for. */
const AT_ONCE = 8;

const accessors = z.object({ data: z.object({ keys: z.array(z.string()) }) });
const token = z.object({
  data: z.object({
    accessor: z.string(),
    creation_time: z.number(),
    /** null: it never ends. */
    expire_time: z.string().nullable(),
    /** Seconds; 0: none. */
    explicit_max_ttl: z.number(),
    renewable: z.boolean().default(false),
    path: z.string(),
    role: z.string().optional(),
    meta: z.record(z.string(), z.string()).nullish(),
  }),
});

export type TokenSeen = z.output<typeof token>["data"];

/** Where Vault keeps what it is told of a token or secret id: the version id. */
export const LABEL = "keyturn";

/** What all tokens are looked through with. `sudo`, for the list is the whole server's. */
export function tokenPermissions(vault: Vault, why: string): readonly VaultPermission[] {
  return [
    vault.permission(why, "auth/token/accessors", ["list", "sudo"]),
    vault.permission(why, "auth/token/lookup-accessor", ["update"]),
    vault.permission(why, "auth/token/revoke-accessor", ["update"]),
  ];
}

/** Every token of the namespace; those that end while one looks are left out. */
export async function allTokens(
  vault: Vault,
  ctx: Ctx,
): Promise<{ readonly tokens: readonly TokenSeen[]; readonly asOf: Instant }> {
  const { keys, asOf } = await listOf(vault, "auth/token/accessors", "listing tokens", ctx);
  const found = await each(keys, (accessor) => tokenBehind(vault, accessor, ctx));
  return { tokens: found.filter((one) => one !== null), asOf };
}

/** null: no such token. */
export async function tokenBehind(vault: Vault, accessor: string, ctx: Ctx): Promise<TokenSeen | null> {
  const call = {
    method: "POST",
    path: "auth/token/lookup-accessor",
    body: { accessor },
    what: "looking up a token",
    needs: ["update"],
  } as const;
  const answer = await vault.ask(call, ctx);
  if (answer.status === 200) return read(token, answer, vault.asked(call)).data;
  if ((refusalIn(answer.body) ?? "").includes("invalid accessor")) return null;
  throw vault.failure(answer, call);
}

/** Absent is success: Vault answers it with a warning. */
export async function revokeToken(vault: Vault, accessor: string, ctx: Ctx): Promise<void> {
  const call = {
    method: "POST",
    path: "auth/token/revoke-accessor",
    body: { accessor },
    what: "revoking a token",
    needs: ["update"],
    mutates: true,
  } as const;
  await vault.do(call, ctx);
}

/** What stands below a path, by the server's clock in whole seconds; nothing there is an empty list. */
export async function listOf(
  vault: Vault,
  path: string,
  what: string,
  ctx: Ctx,
): Promise<{ readonly keys: readonly string[]; readonly asOf: Instant }> {
  // The same as LIST, which is no method that every proxy lets through.
  const call = { method: "GET", path: `${path}?list=true`, what, needs: ["list"] } as const;
  const answer = await vault.ask(call, ctx);
  if (isAbsent(answer)) return { keys: [], asOf: answer.at };
  if (answer.status !== 200) throw vault.failure(answer, call);
  return { keys: read(accessors, answer, vault.asked(call)).data.keys, asOf: answer.at };
}

/** In the order of the items, a few at a time. The first failure is everybody's. */
export async function each<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<readonly R[]> {
  const results: R[] = [];
  const left = [...items.entries()];
  const worker = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) results[next[0]] = await work(next[1]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}
