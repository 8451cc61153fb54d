import * as z from "zod";
import type { StoreAdapter } from "../../ports/adapter.ts";
import { awsAt, place, region } from "../aws.ts";
import { SecretsManagerStore } from "./aws-secrets-manager-store.ts";

const settings = z.strictObject({
  region: region().describe("Region that the secrets are written in; replicas follow by themselves"),
  ...place,
});

const delivery = z.strictObject({
  name: z.string().min(1).max(2048).describe("Name or ARN of the secret"),
  plain: z
    .boolean()
    .default(false)
    .describe("The secret's text is one field itself instead of a JSON object with one member a field"),
  create: z
    .union([
      z.boolean(),
      z.strictObject({
        kmsKey: z
          .string()
          .min(1)
          .optional()
          .describe("KMS key id, ARN or alias that encrypts it (default aws/secretsmanager)"),
        description: z.string().max(2048).optional().describe("Description of a secret that is made"),
        tags: z
          .record(z.string().min(1).max(128), z.string().max(256))
          .optional()
          .describe("Tags of a secret that is made"),
      }),
    ])
    .default(false)
    .describe("Make the secret where there is none: `true`, or with what; one that is there is never changed by this"),
});

export const adapter: StoreAdapter<typeof settings, typeof delivery> = {
  type: "aws-secrets-manager",
  settings,
  delivery,
  published: { propagation: 5000, settle: 5000 },
  nameOf: (_settings, { name }) => name,
  create: (options, { name, plain, create }, { fields }, deps) => {
    const make = create === false ? null : create === true ? {} : create;
    const account = options.expect?.account;
    return new SecretsManagerStore({ name, layout: { plain, fields }, make, account }, awsAt(options, deps), options);
  },
};
