import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { motoPython, startMoto, type Moto } from "../support/moto.ts";
import { awsError, MotoLane } from "../support/moto-lane.ts";
import { hasPrometheus, startPrometheus, type Prometheus } from "../support/prometheus.ts";
import { startProxy } from "../support/proxy.ts";
import { fleetOf, hasPostgres, until, useGround } from "../support/worker-tests.ts";

const FOLDER = fileURLToPath(new URL("../../examples/monitoring", import.meta.url));
const alerts = readFileSync(join(FOLDER, "alerts.yml"), "utf8");
const dashboard = JSON.parse(readFileSync(join(FOLDER, "dashboard.json"), "utf8")) as {
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
};
const queries = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr.replaceAll("$secret", ".*")));
const rules = [...alerts.matchAll(/^ +expr: (.*)$/gm)].map(([, expr = ""]) => expr);

const there = hasPostgres && hasPrometheus() && (await motoPython()) !== null;
const ground = useGround();
let moto: Moto;
beforeAll(async () => {
  if (there) moto = await startMoto();
});
afterAll(() => moto?.stop());

interface Answer {
  readonly data: never;
}

async function asked<T>({ url }: Prometheus, path: string, query: Readonly<Record<string, string>> = {}): Promise<T> {
  const at = `${url}/api/v1/${path}?${new URLSearchParams(query)}`;
  const answer = await fetch(at, { headers: { connection: "close" } });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${path}: ${text}`);
  return (JSON.parse(text) as Answer).data;
}

/** Alert → the values of its labels, sorted. */
async function firing(prometheus: Prometheus): Promise<Record<string, string[]>> {
  const { alerts: all } = await asked<{ alerts: { labels: Record<string, string>; state: string }[] }>(
    prometheus,
    "alerts",
  );
  const found: Record<string, string[]> = {};
  for (const { labels, state } of all) {
    const { alertname = "", severity: _, ...others } = labels;
    if (state === "firing") (found[alertname] ??= []).push(Object.values(others).toSorted().join(" "));
  }
  return found;
}

/** What a query asks for that no series has. */
function unknownIn(expr: string, labels: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const faults: string[] = [];
  const all = new Set<string>();
  for (const [, name = "", braces = ""] of expr.matchAll(/\b(keyturn_\w+)(?:\{([^}]*)\})?/g)) {
    const known = labels.get(name);
    if (known === undefined) faults.push(name);
    for (const label of known ?? []) all.add(label);
    for (const [, label = ""] of braces.matchAll(/(\w+)(?:=~|!~|!=|=)"/g))
      if (!known?.has(label)) faults.push(`${name}{${label}}`);
  }
  for (const [, list = ""] of expr.matchAll(/\bby \(([^)]*)\)/g))
    for (const label of list.split(", ")) if (!all.has(label)) faults.push(`by (${label})`);
  return faults;
}

describe.runIf(there)("a worker's page as Prometheus reads it", () => {
  test("throttling, every alert and every panel of the dashboard", { timeout: 150_000 }, async () => {
    const fleet = await fleetOf(4, "metrics", ground);
    const proxy = await startProxy(() => ground.authority.url);
    const lane = await MotoLane.open("metrics", moto, ground.commands);
    onTestFinished(async () => {
      await Promise.all([proxy.close(), lane.close()]);
    });
    Object.assign(fleet.place.env, lane.place.env, { HOME: fleet.place.folder });

    // Nobody adopted what is there: it waits for a person.
    writeFileSync(fleet.place.path("s1.env"), "API_KEY=foreign\n");
    const iam = `
  iam:
    issuer: { type: aws-iam, user: metrics, timing: { listSettle: 0s, propagation: 0s, settle: 0s } }
    stores: [{ type: local }]
    usage: [{ type: issuer, granularity: 0s, lag: 0s }]
    consumers: [{ name: app, required: false }]
`;
    const text = fleet
      .text("every: 1h", { url: proxy.url })
      .replace("quiet: 0s", "quiet: 30s")
      .replace(/(client: \S+-s2\n +adminToken: )\S+/, '$1"${env:NOBODY}"');
    fleet.place.policy(text + iam);
    let [throttled, isOver] = [0, false];
    lane.wire.instead = () => {
      if (isOver) return null;
      throttled += 1;
      return awsError(400, "Throttling");
    };
    const worker = await fleet.start();
    const quick = alerts
      .replace(/^ +for: .*\n/gm, "")
      .replace(/\[\d+[mh]\]/g, "[30s]")
      .replace("> 4\n", "> 0\n");
    const prometheus = await startPrometheus({ target: new URL(worker.url).host, rules: quick });
    onTestFinished(() => prometheus.stop());
    const alert = async (name: string, ...about: string[]): Promise<void> => {
      let last: Record<string, string[]> = {};
      const seen = async (): Promise<boolean> => {
        last = await firing(prometheus);
        return about.every((one) => last[name]?.includes(one));
      };
      await until(seen, `${name} ${about.join()}`).catch((error: unknown) => {
        throw new Error(`${String(error)}; ${JSON.stringify(last)}`);
      });
    };

    await until(() => throttled >= 3, "it is throttled, and asks again");
    await alert("KeyturnThrottled", "aws-iam");
    isOver = true;
    await until(async () => (await fleet.done()).has("iam"), "throttling is waited out");
    const quota = 'quota="sts eu-west-1"';
    const limits = async (what: string): Promise<number> => {
      const counts = await fleet.metric(worker, `keyturn_limiter_${what}_total`);
      return [...counts.values()].reduce((sum, count) => sum + count, 0);
    };
    expect(await limits("throttled")).toBe(throttled);
    expect((await fleet.metric(worker, "keyturn_limiter_throttled_total")).get(quota)).toBeGreaterThan(0);
    expect(await limits("held_calls")).toBeGreaterThan(0);
    expect(await limits("held_seconds")).toBeGreaterThan(0.3);
    await alert("KeyturnHeldBack", "sts eu-west-1");

    await alert("KeyturnBlocked", "s1 unmanaged");
    await alert("KeyturnFailing", "credentials-missing s2");
    await until(async () => (await fleet.done()).size === 3, "those that can have a key");
    const old = fleet.place.dotenv("s3") ?? "";
    await ground.commands.run(fleet.place, "rotate", "s3");
    await until(() => fleet.place.dotenv("s3") !== old, "a new key is served");
    const use = setInterval(() => void ground.authority.whoami(old, "app").catch(() => {}), 500);
    onTestFinished(() => clearInterval(use));
    await alert("KeyturnStragglers", "s3");
    // What has to be dead, and cannot be killed.
    proxy.instead = ({ kind }) => (/disable|DELETE/.test(kind) ? { status: 500, body: "{}" } : null);
    const leak = ground.commands.start(fleet.place, ["emergency", "s4", "--grace", "0s", "--yes"]);
    await alert("KeyturnDebt", "s4");
    leak.child.kill("SIGKILL");

    execFileSync("promtool", ["check", "metrics"], {
      input: await (await fetch(`${worker.url}/metrics`)).text(),
      stdio: ["pipe", "pipe", "pipe"],
    });
    const labels = new Map<string, Set<string>>();
    const query = { "match[]": '{job="keyturn"}' };
    for (const { __name__: name = "", ...others } of await asked<Record<string, string>[]>(prometheus, "series", query))
      labels.set(name, new Set([...(labels.get(name) ?? []), ...Object.keys(others)]));
    expect([...queries, ...rules].flatMap((expr) => unknownIn(expr, labels))).toEqual([]);
    expect(unknownIn('sum by (who) (keyturn_lost{a="b"}) + keyturn_debt_keys{port="x"}', labels)).toHaveLength(4);
    for (const expr of queries) {
      const { result } = await asked<{ result: unknown[] }>(prometheus, "query", { query: expr });
      expect(result.length, expr).toBeGreaterThan(0);
    }
    expect(await firing(prometheus)).not.toHaveProperty("KeyturnNoWorker");
    await fleet.end(worker, "SIGKILL");
    await alert("KeyturnNoWorker");
    await until(async () => "KeyturnNoWorker" in (await firing(prometheus)), "nobody is at work");
  });
});
