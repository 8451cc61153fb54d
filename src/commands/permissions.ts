import { UserError } from "../core/errors.ts";
import type { SecretPorts } from "../engine/deps.ts";
import type { Permission } from "../ports/context.ts";
import { plain } from "../ui/text.ts";
import { choose, selectionOf } from "./choose.ts";
import { text, usageError } from "./options.ts";
import { FORMATS, merged, type Format, type Privileges } from "./privileges.ts";
import { verb } from "./verb.ts";

/** The least privilege that the chosen secrets and the state need: nothing is called for it. */
export const permissions = verb({
  parse: (args, options) => ({ selection: selectionOf(args, options), format: formatOf(text(options, "--format")) }),
  run: async ({ selection, format }, session) => {
    const all: Permission[] = [...((await session.stateAsItIs()).permissions?.() ?? [])];
    for (const secret of await choose(session, selection, "all")) all.push(...neededBy(await session.ports(secret)));
    const privileges = merged(all);
    return {
      outcome: "done",
      secrets: [],
      member: { permissions: privileges },
      text: () => listed(privileges).map(plain).join("\n"),
      ...(format !== null && { instead: written(format, privileges) }),
    };
  },
});

function formatOf(name: string | null): Format | null {
  if (name === null) return null;
  const known = Object.keys(FORMATS);
  if (!known.includes(name)) throw usageError(`--format: ${JSON.stringify(name)} is none of ${known.join(", ")}`);
  return name as Format;
}

function neededBy({ issuer, stores, monitors }: SecretPorts): Permission[] {
  return [issuer, ...stores.values(), ...monitors.values()].flatMap((part) => part.permissions?.() ?? []);
}

function written(format: Format, privileges: Privileges): string {
  const { needs, write } = FORMATS[format];
  if (!needs.some((provider) => privileges[provider].length > 0)) {
    throw new UserError("no-permissions", `nothing that this policy does needs a permission in ${needs.join(" or ")}`, {
      exit: 2,
      hints: ["keyturn permissions lists what is needed"],
    });
  }
  return write(privileges);
}

function listed({ aws, vault }: Privileges): string[] {
  const lines = [
    ...aws.flatMap(({ why, actions, resources }) => [`aws: ${why}`, ...actions.map(indent), ...resources.map(on)]),
    ...vault.flatMap(({ why, path, capabilities, address, namespace }) => [
      `vault: ${why}`,
      indent(`${path}  ${capabilities.join(" ")}`),
      on([address, namespace].filter((part) => part !== "").join(" ")),
    ]),
  ];
  return lines.length > 0 ? lines : ["nothing beyond what the credentials in the policy are for"];
}

const indent = (line: string): string => `  ${line}`;
const on = (line: string): string => `  on ${line}`;
