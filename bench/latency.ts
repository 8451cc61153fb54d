import { setTimeout as sleep } from "node:timers/promises";
import type { SecretState } from "../src/core/model.ts";
import { onStage } from "../src/demo/stage.ts";

/** What the clients of one run waited for their answers, ms. */
export interface LatencyRun {
  readonly before: { readonly p50: number; readonly p99: number; readonly requests: number };
  readonly during: { readonly p50: number; readonly p99: number; readonly requests: number };
  /** p99 during the rotation / p99 before it. */
  readonly ratio: number;
  readonly failed: number;
  readonly documents: Documents;
}

/** What a secret has in the state, taken from a real rotation. */
export interface Documents {
  readonly overlapping: SecretState;
  readonly idle: SecretState;
}

const NAMES = ["checkout", "invoices", "ledger", "search", "mailer", "reports"];
const PER_SECOND = 60;
const TIMES = { spread: "1s", minimum: "2s", quiet: "1s", remind: "1m", soak: "1s" };
/** Code is compiled and connections are opened in it; not counted. */
const WARM_UP = 3_000;
const BEFORE = 6_000;

/**
 * The demo's authority, clients and rotation, without a straggler: latencies before the rotation beside those from its
 * start to its end.
 */
export async function latency(files: { readonly cli: string; readonly client: string }): Promise<LatencyRun> {
  let heard: number[] = [];
  const silent = () => {};
  return onStage(
    {
      files,
      clients: NAMES.map((name) => ({ name, perSecond: PER_SECOND, keeps: 1_000 })),
      times: TIMES,
      actor: "bench",
      env: process.env,
      now: Date.now,
      debug: silent,
      say: silent,
      announce: silent,
      signal: new AbortController().signal,
      onReport: (_, { latencies }) => heard.push(...latencies),
    },
    async (stage) => {
      await stage.rotate();
      stage.startClients();
      while (stage.clients.all.some(({ report }) => report.requests === 0)) await sleep(50, null, stage);
      await sleep(WARM_UP, null, stage);
      heard = [];
      await sleep(BEFORE, null, stage);
      const before = summary(heard);
      heard = [];
      let overlapping: SecretState | null = null;
      const { state: idle } = await stage.rotate(({ phase, state }) => {
        if (phase === "overlap") overlapping = { ...state, lease: null };
      });
      const during = summary(heard);
      await stage.clients.stop();
      if (overlapping === null || idle === null) throw new Error("the rotation had no overlap");
      return {
        before,
        during,
        ratio: during.p99 / before.p99,
        failed: stage.clients.failed,
        documents: { overlapping, idle },
      };
    },
  );
}

function summary(latencies: readonly number[]) {
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), requests: sorted.length };
}
