import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adapter } from "../../src/adapters/stores/exec.ts";
import { stagedStoreContract, storeContract, type StoreUnderTest } from "../contract/store.ts";
import { depsIn, EXAMPLES } from "./exec-support.ts";

async function storeUnderTest(): Promise<StoreUnderTest> {
  const place = mkdtempSync(join(tmpdir(), "keyturn-exec-store-"));
  writeFileSync(join(place, "other.json"), "{}");
  const settings = adapter.settings.parse({
    command: [join(EXAMPLES, "store.mjs")],
    settings: { folder: "." },
    traits: { staged: true },
  });
  const target = { secret: "payments", fields: { KEY: "apiKey", OTHER: "other" } };
  return {
    open: () => adapter.create(settings, {}, target, depsIn(place)),
    siblings: async () => [
      readFileSync(join(place, "other.json"), "utf8"),
      readdirSync(place).filter((name) => name !== "payments.json"),
    ],
    dispose: async () => rmSync(place, { recursive: true }),
  };
}

storeContract("exec, examples/exec/store.mjs", { fields: ["apiKey", "other"] }, storeUnderTest);
stagedStoreContract("exec, examples/exec/store.mjs", { fields: ["apiKey", "other"] }, storeUnderTest);
