import * as z from "zod";
import { ProviderError } from "../core/errors.ts";
import type { Ctx } from "../ports/context.ts";
import type { Vault } from "./vault.ts";

const mount = z.object({ type: z.string(), options: z.record(z.string(), z.string()).nullish() });
const mounts = z.record(z.string(), mount);
const shown = z.object({ data: z.object({ secret: mounts, auth: mounts }) });

export interface Mount {
  /** Without slashes at its ends. */
  readonly path: string;
  /** Of a KV engine. */
  readonly version: number;
}

/** What of one kind is mounted where the token may do anything at all: any token may ask that. */
export async function mountsOf(
  vault: Vault,
  section: "secret" | "auth",
  type: string,
  ctx: Ctx,
): Promise<{ readonly where: string; readonly mounts: readonly Mount[] }> {
  const { address, namespace } = vault.connection;
  if (address === "") throw new ProviderError("invalid", "no", "VAULT_ADDR is not set");
  const call = {
    method: "GET",
    path: "sys/internal/ui/mounts",
    what: "looking at the mounts",
    needs: ["read"],
  } as const;
  const { data } = await vault.get(shown, call, ctx);
  const found = Object.entries(data[section]).filter(([, one]) => one.type === type);
  return {
    where: namespace === "" ? address : `${address}, namespace ${namespace}`,
    mounts: found.map(([path, { options }]) => {
      return { path: path.replace(/\/+$/, ""), version: Number(options?.["version"] ?? 1) };
    }),
  };
}
