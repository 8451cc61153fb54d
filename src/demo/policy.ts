/** Durations as a policy writes them. */
export interface Times {
  readonly spread: string;
  readonly minimum: string;
  readonly quiet: string;
  readonly remind: string;
  readonly soak: string;
}

export const SECRET = "payments";
export const ADMIN_TOKEN = "KEYTURN_API_KEYS_ADMIN_TOKEN";

/** What anybody would write for such a secret, with durations that somebody can watch. */
export function policyText(authority: string, reminders: string, consumers: readonly string[], times: Times): string {
  return `version: 1
defaults:
  verify: { successes: 3, spread: ${times.spread}, deadline: 30s }
  overlap: { minimum: ${times.minimum}, quiet: ${times.quiet}, maximum: 5m, remind: ${times.remind} }
  soak: { for: ${times.soak} }
notifiers:
  reminders: { type: webhook, url: "${reminders}", events: [straggler] }
secrets:
  ${SECRET}:
    issuer: { type: api-keys, url: "${authority}", client: ${SECRET}, adminToken: "\${env:${ADMIN_TOKEN}}" }
    stores: [{ type: local, path: store, identity: identity }]
    consumers:
${consumers.map((name) => `      - { name: ${name} }`).join("\n")}
`;
}
