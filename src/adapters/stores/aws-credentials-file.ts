import { join, resolve } from "node:path";
import * as z from "zod";
import { path, type AdapterDeps, type StoreAdapter } from "../../ports/adapter.ts";
import type { Ref } from "../../ports/store.ts";
import { forgetAwsCredentials } from "../aws.ts";
import { TextFileStore, type Dialect } from "../text-file-store.ts";
import { NAME, PROFILE, edit, parse, unsuitable } from "./aws-credentials-file-text.ts";

const settings = z.strictObject({
  path: path()
    .optional()
    .describe("The file. Default: AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials, as the AWS SDKs have it."),
});

const delivery = z.strictObject({
  profile: z
    .string()
    .regex(PROFILE, { error: "is no name of a profile" })
    .default("default")
    .describe("The profile that gets the keys; it is added where the file has none of that name."),
});

/** What the file calls the fields of `aws-iam`. */
const NAMES: Readonly<Record<string, string>> = {
  accessKeyId: "aws_access_key_id",
  secretAccessKey: "aws_secret_access_key",
};

/**
 * One profile of AWS's shared credentials file (a mirror): what a command line, a service or keyturn itself signs
 * with. Other profiles, comments, order and mode stay as they are.
 */
export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "aws-credentials-file",
  settings,
  delivery,
  nameOf: (options, { profile }) => `${options.path ?? "~/.aws/credentials"} [${profile}]`,
  create: (options, { profile }, target, deps) => {
    const fields = Object.fromEntries(
      Object.entries(target.fields).map(([name, field]) => [NAMES[name] ?? name, field]),
    );
    return new CredentialsFile(fileOf(options.path, deps), fields, dialectOf(profile, Object.keys(fields)), deps);
  },
};

class CredentialsFile extends TextFileStore {
  readonly #deps: AdapterDeps;

  constructor(...parts: ConstructorParameters<typeof TextFileStore>) {
    super(...parts);
    this.#deps = parts[3];
  }

  /** These may be the keys that keyturn itself signs with: its next call looks for them anew. */
  override async put(...parts: Parameters<TextFileStore["put"]>): Promise<Ref> {
    try {
      return await super.put(...parts);
    } finally {
      forgetAwsCredentials(this.#deps);
    }
  }
}

function dialectOf(profile: string, names: readonly string[]): Dialect {
  return {
    scheme: "aws-credentials-file",
    place: `[${profile}]`,
    parse: (text) => parse(text, profile),
    edit: (text, values) => edit(text, profile, values),
    refusal: "only letters, digits and . _ ~ / + = - are read alike by every program",
    isName: (name) => NAME.test(name),
    unsuitable: (text) => unsuitable(text, profile, names),
    makesFolder: true,
  };
}

/** As the SDKs find it: the environment's file, else the one in the home folder. */
function fileOf(given: string | undefined, { env, folder }: AdapterDeps): string {
  const home = env["HOME"] || env["USERPROFILE"] || folder;
  const file = given ?? (env["AWS_SHARED_CREDENTIALS_FILE"] || join(home, ".aws", "credentials"));
  return file.startsWith("~/") ? join(home, file.slice(2)) : resolve(folder, file);
}
