import type { Applied, ProviderErrorDetail, ProviderErrorKind } from "../core/errors.ts";
import { ProviderError } from "../core/errors.ts";
import type { AdapterDeps } from "../ports/adapter.ts";
import { retryAfterOf } from "./http.ts";

const CREDENTIALS_HINT =
  "sign in again (`aws sso login`, new environment variables), or name a `profile` in the policy";
const JOB_HINT =
  "let a step before this one sign in: aws-actions/configure-aws-credentials, with `permissions: { id-token: write }`";
const THROTTLED_HINT = "AWS takes no more of these calls for now: `run` goes on later, or ask for a higher quota";
const KMS_HINT = "the caller needs kms:GenerateDataKey and kms:Decrypt for the KMS key, and the key has to be enabled";

const KINDS: Readonly<Record<ProviderErrorKind, readonly string[]>> = {
  throttled: [
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottledException",
    "ThrottlingException",
    "TooManyRequestsException",
  ],
  unauthenticated: [
    "AuthFailure",
    "CredentialsProviderError",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "ProviderError",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenProviderError",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
  ],
  denied: [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "DecryptionFailure",
    "EncryptionFailure",
    "NotAuthorized",
    "OptInRequired",
    "UnauthorizedOperation",
  ],
  "not-found": [
    "NoSuchEntity",
    "NoSuchEntityException",
    "NoSuchBucket",
    "NoSuchKey",
    "ParameterNotFound",
    "ParameterVersionNotFound",
    "ResourceNotFoundException",
  ],
  conflict: [
    "ConcurrentModification",
    "ConcurrentModificationException",
    "ConditionalRequestConflict",
    "EntityAlreadyExists",
    "EntityAlreadyExistsException",
    "EntityTemporarilyUnmodifiable",
    "EntityTemporarilyUnmodifiableException",
    "ParameterAlreadyExists",
    "PreconditionFailed",
    "ResourceExistsException",
    "TooManyUpdates",
  ],
  quota: [
    "LimitExceeded",
    "LimitExceededException",
    "ParameterLimitExceeded",
    "ParameterMaxVersionLimitExceeded",
    "ParameterVersionLabelLimitExceeded",
    "ServiceQuotaExceededException",
  ],
  unavailable: [
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "RequestTimeout",
    "ServiceUnavailable",
  ],
  invalid: ["EndpointError", "InvalidParameterException", "InvalidRequestException", "ValidationException"],
};
const KIND_OF = new Map(
  (Object.entries(KINDS) as [ProviderErrorKind, readonly string[]][]).flatMap(([kind, names]) =>
    names.map((name) => [name, kind] as const),
  ),
);

/** What an exception of the SDK may carry; all of it is a third party's. */
interface SdkError {
  readonly name?: unknown;
  readonly Code?: unknown;
  readonly message?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: unknown; readonly requestId?: unknown };
  readonly $response?: { readonly headers?: Readonly<Record<string, unknown>> };
}

/** A refusal by AWS. */
class AwsFailure extends ProviderError {
  constructor(
    readonly code: string,
    ...rest: ConstructorParameters<typeof ProviderError>
  ) {
    super(...rest);
  }
}

/** The service's own name of a refusal: `InvalidClientTokenId`; "" where it gave none. */
export function awsCodeOf(error: unknown): string {
  return error instanceof AwsFailure ? error.code : "";
}

function codeIn({ name, Code: code }: SdkError): string {
  for (const word of [name, code]) if (typeof word === "string" && /^[A-Za-z][A-Za-z.]{0,80}$/.test(word)) return word;
  return "";
}

/**
 * An exception of the SDK in our words. A 4xx was refused: applied `no`; everything else of a mutating call that got
 * as far as an answer may have happened. Names and request ids are quoted where they have the form of one, messages
 * never.
 *
 * @param action `iam:CreateAccessKey`
 * @param env tells where somebody has to sign in
 */
export function failureOfAws(error: unknown, action: string, mutates: boolean, env: AdapterDeps["env"]): ProviderError {
  if (error instanceof ProviderError) return error;
  const { $metadata: metadata, $response: response } = (error ?? {}) as SdkError;
  const status = typeof metadata?.httpStatusCode === "number" ? metadata.httpStatusCode : null;
  const code = codeIn((error ?? {}) as SdkError);
  const known = KIND_OF.get(code);
  const kind = known ?? kindOf(status);
  const answered = status !== null;
  const refused = status !== null && status >= 400 && status < 500 && status !== 408;
  // Without an answer nothing was sent: our transport has errors of its own.
  const applied: Applied = mutates && answered && !refused ? "maybe" : "no";
  const why =
    known === undefined && /^(?:|(?:[A-Z][a-z]+)?Error)$/.test(code) ? unforeseen(error, answered) : told(code);
  const requestId = metadata?.requestId;
  const header = response?.headers?.["retry-after"];
  const retryAfter = typeof header === "string" ? retryAfterOf(header, Date.now()) : null;
  const detail: ProviderErrorDetail = {
    ...(typeof requestId === "string" && /^[\w-]{1,64}$/.test(requestId) && { requestId }),
    ...(retryAfter !== null && { retryAfter }),
    ...hintOf(kind, code, error, env),
  };
  return new AwsFailure(code, kind, applied, `${action}: ${why}${answered ? ` (${status})` : ""}`, detail);
}

/** The SDK's own names for finding nothing to sign with say little to people. */
function told(code: string): string {
  return /^(?:Credentials|Token)?ProviderError$/.test(code) ? "no usable credentials" : code;
}

function unforeseen(error: unknown, answered: boolean): string {
  return answered
    ? "not an answer of AWS"
    : `unexpected ${error instanceof Error ? error.constructor.name : typeof error}`;
}

function kindOf(status: number | null): ProviderErrorKind {
  if (status === 429) return "throttled";
  if (status === 401 || status === 403) return "denied";
  return status !== null && status >= 400 && status < 500 && status !== 408 ? "invalid" : "unavailable";
}

function hintOf(
  kind: ProviderErrorKind,
  code: string,
  error: unknown,
  env: AdapterDeps["env"],
): { readonly hint?: string } {
  if (code === "RequestTimeTooSkewed") return { hint: "this machine's clock is wrong: set it" };
  if (kind === "unauthenticated") return { hint: env["GITHUB_ACTIONS"] === "true" ? JOB_HINT : CREDENTIALS_HINT };
  if (kind === "throttled") return { hint: THROTTLED_HINT };
  if (code === "DecryptionFailure" || code === "EncryptionFailure") return { hint: KMS_HINT };
  if (code === "OptInRequired") return { hint: "the region is not enabled for this account" };
  if (kind !== "denied") return {};
  const { message } = (error ?? {}) as SdkError;
  if (typeof message !== "string") return {};
  if (/\bKMS\b/.test(message)) return { hint: KMS_HINT };
  const action = /not authorized to perform: ([a-z0-9-]{2,40}:[A-Za-z]{2,60})\b/.exec(message)?.[1];
  return action === undefined ? {} : { hint: `allow ${action}; \`keyturn permissions\` prints all that is needed` };
}
