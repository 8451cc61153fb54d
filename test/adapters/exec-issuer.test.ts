import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { adapter as issuerAdapter } from "../../src/adapters/issuers/exec.ts";
import { adapter as usageAdapter } from "../../src/adapters/usage/exec.ts";
import { SecretValue } from "../../src/core/secret-value.ts";
import type { Issuer } from "../../src/ports/issuer.ts";
import { issuerContract } from "../contract/issuer.ts";
import { usageContract } from "../contract/usage.ts";
import { startTestAuthority, type TestAuthority } from "../support/authority.ts";
import { depsIn, EXAMPLES } from "./exec-support.ts";

const ISSUER_TRAITS = {
  maxKeys: 3,
  canDisable: true,
  labels: true,
  identify: true,
  usage: { granularity: "1s", lag: "1s", seesDenied: true },
} as const;

function issuerAt(authority: TestAuthority, url = authority.url): Issuer {
  const settings = issuerAdapter.settings.parse({
    command: [join(EXAMPLES, "issuer.mjs")],
    env: { ADMIN_TOKEN: authority.adminToken },
    settings: { url, client: "app" },
    traits: ISSUER_TRAITS,
  });
  return issuerAdapter.create(settings, "payments", depsIn(authority.folder), []);
}

issuerContract("exec, examples/exec/issuer.mjs", async () => {
  const authority = await startTestAuthority();
  await authority.addClient("app", { maxKeys: 3 });
  await authority.addClient("other");
  await authority.addKey("app", { label: "by hand" });
  const theirs = async () => [
    await authority.list("other"),
    (await authority.list("app")).filter(({ label }) => label === "by hand"),
  ];
  return {
    url: authority.url,
    open: (url) => issuerAt(authority, url),
    strangers: theirs,
    junk: SecretValue.of({ apiKey: `kt_${"0".repeat(40)}` }),
    absent: "key-absent",
    dispose: () => authority.close(),
  };
});

usageContract("exec, examples/exec/issuer.mjs", { keys: ["first", "second"], knowsKeys: true }, async () => {
  const authority = await startTestAuthority();
  await authority.addClient("app", { maxKeys: 3 });
  const keys = new Map<string, { id: string; value: string }>();
  for (const alias of ["first", "second"]) keys.set(alias, await authority.addKey("app"));
  const settings = usageAdapter.settings.parse({
    command: [join(EXAMPLES, "issuer.mjs")],
    env: { ADMIN_TOKEN: authority.adminToken },
    settings: { url: authority.url, client: "app" },
  });
  const monitor = usageAdapter.create(settings, "payments", depsIn(authority.folder));
  const idOf = (alias: string) => keys.get(alias)?.id ?? "";
  return {
    open: () => ({
      traits: monitor.traits,
      usageOf: async (aliases, since, ctx) => {
        const seen = [...(await monitor.usageOf(aliases.map(idOf), since, ctx)).values()];
        return new Map(aliases.map((alias, index) => [alias, seen[index] as (typeof seen)[number]]));
      },
    }),
    use: async (alias, who) => void (await authority.whoami(keys.get(alias)?.value ?? "", who)),
    pass: () => sleep(20),
    cut: () => authority.close(),
    dispose: () => authority.close(),
  };
});
