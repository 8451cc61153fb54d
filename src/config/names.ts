import { dirname } from "node:path";
import { matchFiles } from "./include.ts";
import { isRecord, NAME, own } from "./path.ts";
import { readIncluded, readPolicy } from "./source.ts";

/**
 * The names of a policy's secrets, its included files' too, and nothing else looked at: no reference is resolved and
 * no adapter loaded. What is no name is left out, so a shell can take them as they are.
 * @throws UserError as `readPolicy`
 */
export function secretNames(cwd: string, file?: string): string[] {
  const { file: main, data } = readPolicy(cwd, file);
  const patterns = Array.isArray(data["include"]) ? data["include"].filter((one) => typeof one === "string") : [];
  const files = new Set(patterns.flatMap((pattern) => matchFiles(dirname(main), pattern)));
  const all = [data, ...[...files].map((one) => readIncluded(cwd, one).data)];
  const names = all.flatMap((one) => {
    const secrets = own(one, "secrets");
    return isRecord(secrets) ? Object.keys(secrets) : [];
  });
  return [...new Set(names)].filter((name) => NAME.test(name));
}
