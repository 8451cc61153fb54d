import { readdirSync, readFileSync, statSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine } from "../support/command-line.ts";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { baoProgram, startBao, type Bao } from "../support/openbao.ts";
import { TwoStores } from "../support/two-stores.ts";
import type { WireAnswer, WireCall } from "../support/wire.ts";

const there = (await motoPython()) !== null && (await baoProgram()) !== null;

/** What a server answers that quotes the canary wherever an answer has room for it. */
type Quoting = (canary: string, call: WireCall) => WireAnswer | "cut";

const ERRORS = [400, 401, 403, 404, 405, 409, 412, 429, 472, 473, 500, 501, 503];
const QUOTES: Readonly<Record<string, Quoting>> = {
  ...Object.fromEntries(ERRORS.map((status) => [`${status}`, (canary, call) => refusal(status, canary, call)])),
  ...Object.fromEntries(
    ["AccessDeniedException", "ExpiredToken", "Throttling", "DecryptionFailure", "ValidationException"].map((code) => [
      code,
      (canary, call) => refusal(400, canary, call, code),
    ]),
  ),
  "a page": (canary) => ({ status: 200, body: `<html><title>${canary}</title></html>` }),
  "another document": (canary) => ({ status: 200, body: JSON.stringify({ data: { [canary]: canary }, canary }) }),
  "half a document": (canary) => ({ status: 200, body: `{"data":{"data":{"secretAccessKey":"${canary}` }),
  "a redirect": (canary) => ({
    status: 307,
    body: canary,
    headers: { location: `https://${canary}.invalid/${canary}` },
  }),
  "the end of the connection": () => "cut",
};
const ALWAYS: readonly (readonly string[])[] = [
  ["doctor", "one"],
  ["run", "one", "--wait", "--wait-max", "1s"],
];
/** One of these at each answer. */
const BY_TURNS: readonly (readonly string[])[] = [
  ["plan", "one"],
  ["status", "--refresh"],
  ["rotate", "one", "--repair", "--wait", "--wait-max", "1s"],
];
/** They change what is wanted: once for each lane, at its end. */
const LAST: readonly (readonly string[])[] = [
  ["rollback", "one"],
  ["adopt", "one"],
  ["emergency", "one", "--yes", "--grace", "0s"],
];
const LANES = 4;

describe
  .runIf(there)
  .concurrent("whatever AWS and Vault answer, no command repeats a value", { timeout: 150_000 }, () => {
    let moto: Moto;
    let bao: Bao;
    let commands: CommandLine;
    const open: TwoStores[] = [];
    beforeAll(async () => {
      [moto, bao] = await Promise.all([startMoto({ auth: true }), startBao()]);
      commands = new CommandLine();
    });
    afterAll(async () => {
      await Promise.all(open.map((lane) => lane.close()));
      await Promise.all([moto?.stop(), bao?.stop()]);
      commands?.remove();
    });

    test.each(Array.from({ length: LANES }, (_, at) => at))("lane %i", async (at) => {
      const made = await TwoStores.open(`canary-${at}`, moto, bao, commands);
      open.push(made);
      const quick = { verify: "{ successes: 1, spread: 0s, deadline: 1s }" };
      made.policy(quick);
      // node-vault's own logging, and the SDK's, may be as loud as they like.
      Object.assign(made.aws.place.env, { DEBUG: "*", NODE_DEBUG: "undici" });
      expect((await made.aws.run("rotate", "one", "--wait")).code).toBe(0);
      made.policy({ ...quick, minimum: "1h" });
      const values = [(await made.keyInManager())?.secret];
      expect((await made.aws.run("rotate", "one")).code).toBe(0);
      values.push((await made.keyInVault())?.secret);
      made.policy({ ...quick, minimum: "0s", soak: "1h" });
      const canaries = [...values, made.aws.place.env["AWS_SECRET_ACCESS_KEY"], bao.rootToken];
      const secrets = canaries.map((value) => value ?? "").filter((value) => value.length > 10);
      expect(secrets).toHaveLength(4);

      const tell = async (what: string, args: readonly string[], json: boolean): Promise<void> => {
        const running = made.aws.start(...args, "--verbose", ...(json ? ["--json"] : []));
        const stop = setTimeout(() => running.child.kill("SIGINT"), 4000);
        const { code, stdout, stderr } = await running.ended;
        clearTimeout(stop);
        const said = `${what}: ${args.join(" ")}: ${code}\n${stdout}\n${stderr}`;
        expect([0, 1, 2, 3, 130], said).toContain(code);
        expect(said).not.toContain("bug in keyturn");
        const kept = readable(made.aws.place.folder);
        expect(
          secrets.filter((value) => said.includes(value) || kept.includes(value)),
          what,
        ).toEqual([]);
      };
      const mine = Object.entries(QUOTES).filter((_, index) => index % LANES === at);
      for (const [index, [name, quote]] of mine.entries()) {
        const canary = secrets[index % secrets.length] ?? "";
        const instead = (call: WireCall): WireAnswer | "cut" => quote(canary, call);
        // One of the two, both, or whatever comes once the first few calls were answered well.
        const [aws, vault, from] = [index % 3 !== 0, index % 3 !== 1, index % 2 === 0 ? 0 : 6];
        const servers = { AWS: made.aws.wire, Vault: made.vaultWire };
        const turn = BY_TURNS[index % BY_TURNS.length] ?? [];
        for (const [at, args] of [...ALWAYS, turn].entries()) {
          for (const [server, wire] of Object.entries(servers)) {
            wire.reset();
            if (server === "AWS" ? aws : vault) wire.instead = (call) => (call.n > from ? instead(call) : null);
          }
          await tell(name, args, (index + at) % 2 === 0);
        }
      }
      for (const wire of [made.aws.wire, made.vaultWire]) {
        wire.reset();
        wire.instead = (call) => (call.n % 4 === 0 ? refusal(at % 2 === 0 ? 500 : 403, secrets[at] ?? "", call) : null);
      }
      for (const args of LAST) await tell("now and then", args, at % 2 === 0);
    });
  });

function refusal(status: number, canary: string, { action }: WireCall, code = canary): WireAnswer {
  const headers = { "x-amzn-requestid": canary, "x-amzn-errortype": code, "retry-after": "0", "x-vault-index": canary };
  if (/^[A-Z]+ \//.test(action)) {
    const body = {
      errors: [`1 error occurred: ${canary}`],
      warnings: [canary],
      data: { error: canary, keys: [canary] },
    };
    return { status, body: JSON.stringify(body), headers: { ...headers, "content-type": "application/json" } };
  }
  if (/Secret/.test(action)) {
    const body = JSON.stringify({ __type: code, message: `${canary} is not authorized to perform: ${canary}`, canary });
    return { status, body, headers: { ...headers, "content-type": "application/x-amz-json-1.1" } };
  }
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>${canary}</Message></Error>`;
  const body = `<ErrorResponse>${error}<RequestId>${canary}</RequestId></ErrorResponse>`;
  return { status, body, headers: { ...headers, "content-type": "text/xml" } };
}

/** Everything in the folder that anybody may come to read. */
function readable(folder: string): string {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
  const files = names.filter((name) => statSync(`${folder}/${name}`, { throwIfNoEntry: false })?.isFile());
  return files.map((name) => readFileSync(`${folder}/${name}`, "latin1")).join("\n");
}
