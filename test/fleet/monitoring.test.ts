import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { hasPrometheus } from "../support/prometheus.ts";

const FOLDER = fileURLToPath(new URL("../../examples/monitoring", import.meta.url));
const alerts = readFileSync(join(FOLDER, "alerts.yml"), "utf8");
const dashboard = JSON.parse(readFileSync(join(FOLDER, "dashboard.json"), "utf8")) as {
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
};
const queries = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));

/** A page on which every metric has a value; `today` is 2026-01-02. */
async function page(): Promise<string> {
  const today = Date.UTC(2026, 0, 2);
  const limits = () => [{ quota: "ssm:PutParameter eu-west-1", heldBack: 3, heldFor: 1500, throttled: 1 }];
  const metrics = new Metrics("1.2.3", { running: () => 2, limits, now: () => today });
  metrics.stands({
    secret: 'pay"ments',
    phase: "overlap",
    outcome: "waiting",
    reason: "old-key-in-use",
    issuedAt: today - 86_400_000,
    nextDue: today + 1000,
    debt: 1,
    stragglers: 2,
  });
  metrics.swept(new Map([['pay"ments', null]]), 2500);
  for (const event of ["started", "done", "issue"] as const) metrics.happened('pay"ments', event);
  metrics.ran("waiting", "old-key-in-use", 1500);
  const about = { secret: 'pay"ments', subject: null, place: null, rotation: null, began: today, took: 20 };
  metrics.called({ ...about, port: "issuer", type: "aws-iam", operation: "list", result: "throttled" });
  return (await metrics.page()).text;
}

test("the page says where every secret stands, once", async () => {
  const text = await page();
  const lines = text.split("\n").filter((line) => line.startsWith("keyturn_"));
  for (const line of [
    'keyturn_rotations_total{secret="pay\\"ments",outcome="done"} 1',
    'keyturn_runs_total{outcome="waiting",reason="old-key-in-use"} 1',
    'keyturn_secret_phase{secret="pay\\"ments",phase="overlap"} 1',
    'keyturn_secret_outcome{secret="pay\\"ments",outcome="waiting",reason="old-key-in-use"} 1',
    'keyturn_key_age_seconds{secret="pay\\"ments"} 86400',
    'keyturn_debt_keys{secret="pay\\"ments"} 1',
    'keyturn_stragglers{secret="pay\\"ments"} 2',
    'keyturn_provider_calls_total{port="issuer",type="aws-iam",operation="list",result="throttled"} 1',
    "keyturn_secrets_running 2",
    "keyturn_overdue_wake_seconds 2.5",
    'keyturn_limiter_held_calls_total{quota="ssm:PutParameter eu-west-1"} 3',
    'keyturn_limiter_held_seconds_total{quota="ssm:PutParameter eu-west-1"} 1.5',
    'keyturn_limiter_throttled_total{quota="ssm:PutParameter eu-west-1"} 1',
    'keyturn_worker_info{version="1.2.3"} 1',
  ])
    expect(lines).toContain(line);
  expect(new Set(lines).size).toBe(lines.length);
});

test("rules and dashboard ask for metrics and labels that there are", async () => {
  const text = await page();
  const names = new Set([...text.matchAll(/^(keyturn_\w+)/gm)].map(([, name]) => name));
  const labels = new Set([...text.matchAll(/[{,](\w+)="/g)].map(([, label]) => label));
  for (const asked of [...queries, alerts]) {
    for (const [name] of asked.matchAll(/\bkeyturn_\w+/g)) expect(names, asked).toContain(name);
    for (const [, label] of asked.matchAll(/[{,](\w+)(?:=~|!=|=)"/g)) expect(labels, asked).toContain(label);
  }
  expect(queries.length).toBeGreaterThan(10);
});

test.runIf(hasPrometheus())(
  "promtool takes page, rules, their tests, configuration and the dashboard's queries",
  async () => {
    const promtool = (...args: string[]): void =>
      void execFileSync("promtool", args, { cwd: FOLDER, stdio: ["ignore", "ignore", "pipe"] });
    execFileSync("promtool", ["check", "metrics"], { input: await page(), stdio: ["pipe", "pipe", "pipe"] });
    promtool("check", "config", "prometheus.yml");
    promtool("check", "rules", "alerts.yml");
    promtool("test", "rules", "alerts.test.yml");
    const folder = mkdtempSync(join(tmpdir(), "keyturn-queries-"));
    try {
      // Each query as a rule: what cannot be parsed is refused.
      const rules = queries.map((expr, at) => ({ record: `query:${at}`, expr: expr.replaceAll("$secret", ".*") }));
      const file = join(folder, "queries.yml");
      writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
      promtool("check", "rules", file);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
