// One consumer of the demo, a process of its own: asks the authority who it is, so many times a second.
import { Agent, request } from "node:http";
import { keyturnClient, localSource, type ReportingHeaders } from "../client/index.ts";
import type { ClientReport, Orders, Word } from "./messages.ts";

const REPORT_EVERY = 200;
const TIMEOUT = 5_000;
/** Under load timers are late; more than this at once is not made up for. */
const MOST_AT_ONCE = 4;

interface Answer {
  readonly status: number;
  readonly keyId: string | null;
}

// Ctrl-C reaches every process of a terminal: this one ends when it is told to, or when nobody is left to tell it.
process.on("SIGINT", () => {});
process.once("message", (orders: Orders) => serve(orders));

function serve({ instance, url, source, perSecond, keeps }: Orders): void {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const open = () => keyturnClient({ source: localSource(source), instance, refreshEvery: keeps });
  let keys = open();
  let report: ClientReport = { version: null, keyId: null, requests: 0, failed: 0, lastAt: null, latencies: [] };
  const underWay = new Set<Promise<void>>();

  const tell = () => {
    if (process.connected) process.send?.(report, () => {});
    report = { ...report, latencies: [] };
  };

  const once = async (): Promise<void> => {
    const began = performance.now();
    let refused = false;
    let version = report.version;
    let answer: Answer | null = null;
    try {
      answer = await keys.withKey(async ({ apiKey = "" }, headers) => {
        version = headers["x-keyturn-key-version"];
        const got = await whoami(`${url}/v1/whoami`, agent, apiKey, headers);
        refused ||= got.status !== 200;
        return got;
      });
    } catch {
      refused = true;
    }
    const { requests, failed, latencies } = report;
    report = {
      version,
      keyId: answer?.keyId ?? report.keyId,
      requests: requests + 1,
      failed: failed + (refused ? 1 : 0),
      lastAt: Date.now(),
      latencies: [...latencies, performance.now() - began],
    };
  };

  // Each at its own moment: consumers do not march in step.
  let due = performance.now() + Math.random() * (1000 / perSecond);
  const pace = setInterval(() => {
    const now = performance.now();
    for (let burst = 0; due <= now && burst < MOST_AT_ONCE; burst++, due += 1000 / perSecond) {
      const sent = once().finally(() => underWay.delete(sent));
      underWay.add(sent);
    }
    if (due <= now) due = now;
  }, 4);
  const reports = setInterval(tell, REPORT_EVERY);

  const end = async () => {
    clearInterval(pace);
    clearInterval(reports);
    await Promise.all(underWay);
    tell();
    agent.destroy();
    if (process.connected) process.disconnect();
  };
  process.once("disconnect", () => void end());
  process.on("message", (word: Word) => {
    if (word === "re-read") keys = open();
    else void end();
  });
}

function whoami(url: string, agent: Agent, apiKey: string, headers: ReportingHeaders): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { agent, timeout: TIMEOUT, headers: { ...headers, "x-api-key": apiKey } }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.once("error", reject);
      response.once("end", () => {
        const keyId = /"keyId":"([^"]+)"/.exec(body)?.[1] ?? null;
        resolve({ status: response.statusCode ?? 0, keyId });
      });
    });
    sent.once("timeout", () => sent.destroy(new Error("no answer")));
    sent.once("error", reject);
    sent.end();
  });
}
