import * as authority from "./api-keys.ts";
import { required, text, usageError, wholeNumber } from "./options.ts";
import type { Session } from "./session.ts";
import { verb, type Options, type Report, type Verb } from "./verb.ts";

type Io = Parameters<typeof authority.serve>[1];
type Answer = Awaited<ReturnType<typeof authority.serve>>;

/** A verb of the authority: it knows no policy and no state. */
function authorityVerb<Input>(
  parse: (args: readonly string[], options: Options) => Input,
  call: (input: Input, io: Io) => Promise<Answer>,
): Verb {
  return verb({
    parse,
    run: async (input, { process, terminal }: Session): Promise<Report> => {
      const io = {
        ...process,
        stdout: { write: (line: string) => terminal.out(line) },
        stderr: { write: (line: string) => terminal.announce(line.trimEnd()) },
      };
      const { text: answer, member } = await call(input, io);
      const report = { outcome: "done", secrets: [], member, text: () => answer } as const;
      // What has served until it was stopped has nothing to add to what it printed.
      return answer === "" ? { ...report, instead: "" } : report;
    },
  });
}

const address = (options: Options) => ({ url: text(options, "--url") ?? undefined });
const ofClient = (_: readonly string[], options: Options) => ({
  ...address(options),
  client: required(options, "--client"),
});
const ofKey = (args: readonly string[], options: Options) => ({
  ...ofClient(args, options),
  key: required(options, "--key"),
});

export const serve = authorityVerb(
  (_, options) => ({ db: required(options, "--db"), listen: text(options, "--listen") ?? undefined }),
  async (input, io) => authority.serve(input, io),
);

export const clientAdd = authorityVerb(([name = ""], options) => {
  const scopes = text(options, "--scopes")
    ?.split(",")
    .map((scope) => scope.trim());
  if (scopes?.includes("")) throw usageError("--scopes: write names with commas between them");
  return { ...address(options), name, maxKeys: wholeNumber(options, "--max-keys") ?? undefined, scopes };
}, authority.clientAdd);

export const keyAdd = authorityVerb(ofClient, authority.keyAdd);
export const keyList = authorityVerb(ofClient, authority.keyList);
export const keyDisable = authorityVerb(ofKey, authority.keyDisable);
export const keyEnable = authorityVerb(ofKey, authority.keyEnable);
export const keyDelete = authorityVerb(ofKey, authority.keyDelete);
