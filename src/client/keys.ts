import type { KeySource, Served } from "./source.ts";

export interface ClientOptions {
  readonly source: KeySource;
  /** Whom the issuer sees: what the policy's `match` is held against. Unique for each running process. */
  readonly instance: string;
  /** The source is asked at most this often, in ms. 1000 unless told. */
  readonly refreshEvery?: number;
  /** Told when the source fails while the last value goes on being served. */
  readonly onError?: (error: unknown) => void;
}

/** Headers that let the issuer say who uses which version. They hold no key. */
export type ReportingHeaders = Readonly<Record<"x-keyturn-instance" | "x-keyturn-key-version", string>>;

export interface KeyturnClient {
  /** The version to use now. Do not keep it: ask again for the next request. @throws what the source throws while it never gave one. */
  current(): Promise<Served>;
  /**
   * Runs `call` with the current value. When it answers with status 401, or throws an error with status 401, the
   * source is asked anew and the call runs once more; that second outcome stands, whatever it is.
   */
  withKey<T>(call: (value: Served["value"], headers: ReportingHeaders) => Promise<T>): Promise<T>;
}

/**
 * Follows a rotating key without a restart.
 *
 * ```ts
 * const keys = keyturnClient({ source: localSource({ name: "payments" }), instance: hostname() });
 * const answer = await keys.withKey(({ apiKey }, headers) => fetch(url, { headers: { ...headers, "x-api-key": apiKey } }));
 * ```
 */
export function keyturnClient(options: ClientOptions): KeyturnClient {
  const refreshEvery = options.refreshEvery ?? 1000;
  let held: Served | undefined;
  let askedAt = -Infinity;
  let asking: Promise<void> | undefined;

  /** Callers that come while the source is being asked share its answer. */
  const ask = (): Promise<void> => {
    asking ??= refresh().finally(() => (asking = undefined));
    return asking;
  };
  const refresh = async (): Promise<void> => {
    askedAt = performance.now();
    try {
      held = await options.source();
    } catch (error) {
      if (!held) throw error;
      options.onError?.(error);
    }
  };
  const current = async (): Promise<Served> => {
    if (!held || performance.now() - askedAt >= refreshEvery) await ask();
    return held as Served;
  };
  /** An answer that was already under way may be from before the refusal, so it is no answer to it. */
  const renew = async (refused: Served): Promise<Served> => {
    await asking;
    if (held?.version === refused.version) await ask();
    return held as Served;
  };
  const run = <T>(
    call: (value: Served["value"], headers: ReportingHeaders) => Promise<T>,
    { version, value }: Served,
  ): Promise<T> => call(value, { "x-keyturn-instance": options.instance, "x-keyturn-key-version": version });

  return {
    current,
    withKey: async (call) => {
      const first = await current();
      try {
        const answer = await run(call, first);
        if (!isRefused(answer)) return answer;
        await discardBody(answer);
      } catch (error) {
        if (!isRefused(error)) throw error;
      }
      return run(call, await renew(first));
    },
  };
}

function isRefused(outcome: unknown): boolean {
  return typeof outcome === "object" && outcome !== null && "status" in outcome && outcome.status === 401;
}

/** A `fetch` answer holds its connection until somebody reads or cancels it. */
async function discardBody(answer: unknown): Promise<void> {
  if (answer instanceof Response) await answer.body?.cancel().catch(() => {});
}
